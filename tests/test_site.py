"""The documentation site: it builds without a warning, and every public name and page is in it."""

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from mkdocstrings import Inventory

import dal
import dal.evaluation
import dal.functional
import dal.stopping
import dal.testing
from dal.config.plugins import STRATEGIES, found

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for end in ("md", "ipynb") for path in DOCS.rglob(f"*.{end}"))

#: Public names by module; every built-in strategy is importable from `dal`.
BUILT_IN = {name for name, entry in found(STRATEGIES).items() if entry.value.startswith("dal.")}
PUBLIC = {
    "dal": {*dal.__all__, *dal._HOMES, *BUILT_IN} - {"__version__"},
    **{each.__name__: set(each.__all__) for each in (dal.evaluation, dal.functional, dal.stopping, dal.testing)},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site. Every warning of mkdocs fails the build, such as a broken link or anchor."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert built.stderr == ""
    return folder


@pytest.fixture(scope="module")
def anchors(site: Path) -> dict[str, str]:
    """Names with an anchor on a page of the reference -> address of the anchor."""
    with open(site / "objects.inv", "rb") as file:
        return {name: item.uri.replace("$", name) for name, item in Inventory.parse_sphinx(file).items()}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_name_has_an_anchor_in_the_reference(module: str, anchors: dict[str, str], site: Path) -> None:
    assert len(PUBLIC[module]) > 10
    paths = {name: {f"{module}.{name}", defined_at(import_module(module), name)} for name in PUBLIC[module]}
    assert [name for name in sorted(paths) if not paths[name] & anchors.keys()] == []
    for path in set().union(*paths.values()) & anchors.keys():
        page, _, anchor = anchors[path].partition("#")
        assert page.startswith("api/")
        assert anchor in ids(site / page / "index.html")


def defined_at(module: ModuleType, name: str) -> str:
    """The path of a name where it is defined: the reference lists a function by it that has the name of its module."""
    return f"{getattr(getattr(module, name), '__module__', module.__name__)}.{name}"


def test_page_is_in_the_navigation() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert sorted(leaves(navigation)) == PAGES


def leaves(tree: object) -> Iterator[str]:
    """The pages of a navigation, in order."""
    if isinstance(tree, str):
        yield tree
    else:
        for each in tree.values() if isinstance(tree, dict) else tree:  # type: ignore[attr-defined]
            yield from leaves(each)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_into_the_documentation_lead_to_a_page_and_an_anchor_of_the_site(name: str, site: Path) -> None:
    links = re.findall(r"\]\(docs/([\w/.-]+?)(?:#([^)]+))?\)", (ROOT / name).read_text(encoding="utf-8"))
    assert links
    for target, anchor in links:
        assert (DOCS / target).is_file(), target
        if target.endswith(".md"):
            page = site / target.removesuffix(".md").removesuffix("index") / "index.html"
            assert not anchor or anchor in ids(page), f"{target}#{anchor}"


def ids(page: Path) -> set[str]:
    """The anchors of a page of the site."""
    reader = _Ids()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader.found


class _Ids(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found |= {value for name, value in attributes if name == "id" and value}


def test_doctest_becomes_a_block_and_its_heading_a_paragraph() -> None:
    fenced = runpy.run_path(str(ROOT / "scripts/site/doctest_blocks.py"))["fenced"]
    block = "```pycon\n>>> 1 + 1\n2\n```"
    assert fenced("Sum.\n\n>>> 1 + 1\n2\n\nMore.") == f"Sum.\n\n{block}\n\nMore."
    assert fenced("Sum.\n\nExample:\n    >>> 1 + 1\n    2\n") == f"Sum.\n\n**Example**\n\n{block}\n"
