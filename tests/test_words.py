"""Plain engineering English: words that the prose of the package and its documentation does without."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What is not written -> what is written instead.
WORDS = {
    r"doubts?|doubted|doubtful": "uncertainty, label issue",
    r"whoever|whomever": "the person that, the process that",
    r"anew": "again",
    r"beside": "next to, and",
    r"by lot": "at random",
    r"in the place of": "instead of",
    r"amongst|whilst|hereby|thereof|herein|nought|yonder|lest": "modern English",
    r"the rooms?|on the roof": "package layout, top layer",
    r"leans? to the": "regularised towards",
    r"that they are divided by": "divisor of",
    r"so many of so many": "a binomial proportion",
    r"whence|whither|thither|unto|betwixt|aught|naught|forthwith|albeit|henceforth|heretofore": "modern English",
    r"wherein|whereby|therein|therefrom|whereupon|thereupon|whomsoever|whatsoever|athwart": "modern English",
    r"(?:hold|holds|held) the truth": "cover the true value",
    r"told from": "distinguished from",
    r"answers? in words": "has text responses",
    r"without a word": "silently, without a warning",
    r"what came": "the later measurement",
}

PYTHON = sorted([*ROOT.glob("dal/**/*.py"), *ROOT.glob("scripts/**/*.py")])
PAGES = sorted([*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *ROOT.glob("docs/*.md")])
TEMPLATES = sorted([*ROOT.glob("dal/**/*.html"), *ROOT.glob("docs/example/*.html")])
CONFIGS = sorted(ROOT.glob("configs/*.yaml"))


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """The docstrings, messages (strings with a space) and comments of a module, with their lines."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def unwanted(text: str) -> list[str]:
    """The unwanted words of a text, with what to write instead."""
    plain = re.sub(r"`[^`]*`|\[[^\]]*\]\([^)]*\)", "", text)
    return [
        f"{match[0]!r} -> {instead}"
        for words, instead in WORDS.items()
        for match in re.finditer(rf"\b(?:{words})\b", plain, re.IGNORECASE)
    ]


def test_list_finds_what_it_lists() -> None:
    assert unwanted("Whoever draws it by lot leaves no doubt; see `doubts`.") == [
        "'doubt' -> uncertainty, label issue",
        "'Whoever' -> the person that, the process that",
        "'by lot' -> at random",
    ]


@pytest.mark.parametrize("file", PYTHON, ids=lambda file: str(file.relative_to(ROOT)))
def test_module_is_written_in_plain_words(file: Path) -> None:
    found = [f"line {line}: {word}" for line, text in prose_of(file.read_text("utf-8")) for word in unwanted(text)]
    assert found == []


def test_messages_are_prose_and_names_are_not() -> None:
    source = '"""Doubts."""\nrename = {"doubts": 1}\nprint(f"{rename} is drawn anew")  # by lot\n'
    assert [text for _, text in prose_of(source)] == [" is drawn anew", "# by lot"]


def test_pages_templates_and_configs_are_checked() -> None:
    names = {str(file.relative_to(ROOT)) for file in [*PAGES, *TEMPLATES, *CONFIGS]}
    assert names >= {"README.md", "docs/design.md", "dal/report/report.html", "configs/quickstart.yaml"}


@pytest.mark.parametrize("file", [*PAGES, *TEMPLATES, *CONFIGS], ids=lambda file: str(file.relative_to(ROOT)))
def test_page_is_written_in_plain_words(file: Path) -> None:
    assert unwanted(file.read_text("utf-8")) == []
