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
}

PYTHON = sorted([*ROOT.glob("dal/**/*.py"), *ROOT.glob("scripts/**/*.py")])
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])


def prose_of(source: str) -> Iterator[tuple[int, str]]:
    """The docstrings and comments of a module with their lines, without code between backquotes."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node, clean=False)
            if text:
                yield getattr(node, "lineno", 1), text
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


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def test_page_is_written_in_plain_words(file: Path) -> None:
    assert unwanted(file.read_text("utf-8")) == []
