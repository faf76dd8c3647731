"""Processes of one run must have the same versions and the same source code of `dal`."""

import tempfile
from pathlib import Path

from dal.store.installed_code import SOURCE, code_difference, code_facts, source_digest


def test_digest_of_the_source_is_that_of_names_and_contents(tmp_path: Path) -> None:
    def digest_of(*files: tuple[str, str]) -> str:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        for name, text in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        (folder / ".#locked.py").symlink_to("me@here.4242")  # as Emacs locks a file
        return source_digest(folder)

    one, two = ("a.py", "x = 1\n"), ("inner/b.py", "y = 2\n")
    assert digest_of(one, two) == digest_of(two, one, ("notes.txt", "other"), ("inner/b.pyc", "compiled"))
    others = [(one,), (one, ("inner/b.py", "y = 3\n")), (one, ("inner/c.py", "y = 2\n")), (("a.py", "x = 1\ny = 2\n"),)]
    assert len({digest_of(one, two), *(digest_of(*files) for files in others)}) == 5


def test_equal_code_has_no_difference_and_another_is_named_in_one_line() -> None:
    own = code_facts()
    assert code_difference(own, "rank 3", "rank 0") is None
    other = {**own, "versions": own["versions"] | {"torch": "1.0"}}
    assert str(code_difference(other, "rank 3", "rank 0")).startswith("rank 3 has torch 1.0, and rank 0 has 2")
    moved = {"versions": own["versions"], "folder": "/home/me/dal"}
    for source in ({"source": "0" * 32}, {}):  # a checkout from before the comparison says nothing
        assert code_difference(moved | source, "rank 3", "rank 0") == (
            f"rank 3 runs other source code of dal (/home/me/dal) than rank 0 ({SOURCE}), under the same version "
            "number: install the same code on all"
        )
