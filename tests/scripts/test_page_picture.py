"""The picture of the page in the README: made-up texts, and a file that is small enough for a repository."""

import importlib.util
import struct
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "annotate_page.png"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("page_picture", ROOT / "scripts" / "page_picture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tickets_are_the_same_each_time_and_of_all_classes(script: ModuleType) -> None:
    made = script.tickets()
    assert list(made.items()) == list(script.tickets().items())
    assert set(Counter(made.values())) == set(script.TOPICS)
    assert len(made) > 400
    assert not any(mark in text for text in made for mark in "{}")


def test_picture_is_as_wide_as_the_script_makes_it_and_small(script: ModuleType) -> None:
    content = PICTURE.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (script.WIDTH, script.HEIGHT)
    assert len(content) < 150_000
    assert "docs/annotate_page.png" in (ROOT / "README.md").read_text(encoding="utf-8")
