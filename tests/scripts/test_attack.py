"""The attacks on dal: a small version of them finds nothing, and what is wrong would be found."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "bench"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the script forks, and limits what its children take")


@pytest.fixture
def attacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def run(out: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPTS / "attack.py"), "--out", str(out), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, cwd=out)


@pytest.mark.slow
def test_bad_inputs_mutations_and_kills_find_nothing(tmp_path: Path) -> None:
    ended = run(tmp_path, "--inputs", "24", "--mutations", "100", "--kills", "3", "--jobs", "2", "--seed", "13")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no violations" in ended.stdout
    for part in ("inputs: 24", "data: 100", "sheets: 100", "replies: 100", "configs: 100", "kills: 3"):
        assert part in ended.stdout


# -- what would be found -----------------------------------------------------------------------------------------------


def faults_of(place: Path, said: str, code: int, after: dict[str, str] | None = None, printed: str = "") -> list[str]:
    """What the judge says of a case that ended so, when `after` stands in files that were not there before."""
    import json

    from attacks import folders, inputs
    from attacks.cases import Case
    from attacks.children import Ended

    (place / "logs").mkdir(parents=True)
    (place / "work" / "here").mkdir(parents=True)
    (place / "before.json").write_text(json.dumps(folders.contents(place / "work")))
    for name, text in (after or {}).items():
        (place / "work" / "here" / name).write_text(text)
    (place / "logs" / "x.err").write_text(said)
    (place / "logs" / "x.out").write_text(printed)
    case = Case("run", "path", "a case", ("run", "x"))
    return inputs.judged(case, Ended(code, False, 1.0, 100.0), place).faults


def test_a_line_of_error_and_code_2_are_no_violation(attacks: None, tmp_path: Path) -> None:
    assert faults_of(tmp_path, "dal: error: x.yaml: this config file is not there\n", 2) == []


WRONG = {
    "success": ("", 0, {}, "exit code 0, accepted"),
    "another code": ("dal: error: x.yaml cannot be read\n", 1, {}, "exit code 1"),
    "a signal": ("", -11, {}, "exit code -11"),
    "no line": ("", 2, {}, "0 lines of error"),
    "two lines": ("dal: error: one\ndal: error: another\n", 2, {}, "2 lines of error"),
    "a traceback": ("dal: error: x.yaml is wrong\nTraceback (most recent call last)\n", 2, {}, "a traceback"),
    "a raw exception": ("dal: error: x.yaml: OSError: [Errno 36] too long\n", 2, {}, "a raw exception: OSError"),
    "an escape": ("dal: error: x.yaml: \x1b[31mred is no key\n", 2, {}, "a control character"),
    "a long line": ("dal: error: " + "x" * 5000 + "\n", 2, {}, "long output"),
    "a file": ("dal: error: x.yaml cannot be read at all\n", 2, {"new.csv": ""}, "wrote or changed here/new.csv"),
    "code that ran": (
        "dal: error: x.yaml cannot be read\n",
        2,
        {"canary": "peft"},
        "code of the current folder was run",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_command_does_wrong_is_a_violation(case: str, attacks: None, tmp_path: Path) -> None:
    said, code, after, fault = WRONG[case]
    assert any(fault in found for found in faults_of(tmp_path, said, code, after))


def test_at_least_500_bad_inputs_have_titles_of_their_own(attacks: None) -> None:
    from attacks.inputs import chosen

    assert len({case.title for case in chosen(600)}) == 600
    assert len({case.command for case in chosen(600)}) == 13


def test_a_number_names_a_mutation(attacks: None) -> None:
    from attacks.mutation import mutated

    first, again = (mutated(b"id,text\n1,a\n" * 9, random.Random("0 data 7")) for _ in range(2))
    assert first == again
    assert len({mutated(b"id,text\n1,a\n" * 9, random.Random(number)) for number in range(50)}) > 40


def test_an_answer_for_another_text_is_a_violation(attacks: None, tmp_path: Path) -> None:
    from attacks.readers import Sheets

    session: Any = Sheets(tmp_path)._sessions[0]
    first, second = session.pending.tolist()[:2]
    ids, texts = session.pool.ids, session.pool.texts()
    right = f'id,text,label\n{ids[first]},"{texts[first]}",billing\n'
    shifted = f'id,text,label\n{ids[first]},"{texts[second]}",billing\n'
    assert Sheets._unsupported(session, right.encode(), [first], ["billing"]) == []
    assert Sheets._unsupported(session, shifted.encode(), [first], ["billing"])
    assert Sheets._unsupported(session, shifted.encode(), [second], ["billing"])


def test_texts_that_are_not_in_the_file_are_a_violation(attacks: None, tmp_path: Path) -> None:
    from attacks.readers import _of_text

    from dal.data import TextData

    rows, options = TextData.from_lists(["a", "b"], ["x", "y"]).pool, {"label": "label"}
    assert _of_text(rows, "tsv", b"text\tlabel\na\tx\nb\ty\n", options) == []
    assert _of_text(rows, "tsv", b"text\tlabel\na\tx\nb\ty\nc\tx\n", options)
    assert _of_text(rows, "tsv", b"text\tlabel\na\tx\tz\nb\ty\n", options)
    assert _of_text(rows, "jsonl", b'{"text": "a"}\n{"text": "c"}\n', options)
    assert _of_text(rows, "csv", b"text,label\na,x\n", options)
    assert _of_text(rows, "jsonl", b'{"text": "a", "label": 1e999}\n{"text": "b", "label": "y"}\n', options)


def test_a_store_of_no_bytes_and_a_file_left_over_are_violations(attacks: None, tmp_path: Path) -> None:
    from attacks.kills import _half, facts

    from dal.store.label_store import LabelStore

    (tmp_path / "work").mkdir()
    path = tmp_path / "work" / "labels.db"
    path.touch()
    assert _half(path) == "store of no bytes"
    path.unlink()
    with LabelStore(path) as store:
        store.ask(["a", "b"])
        assert _half(path) == ""
    before = facts(tmp_path)
    (tmp_path / "work" / ".model.new").mkdir()
    (tmp_path / "work" / ".model.new" / "x").touch()
    assert set(facts(tmp_path)) - set(before) == {"work/.model.new/x"}
    with LabelStore(path) as store:
        store.ask(["c"])
    assert facts(tmp_path)["work/labels.db: events"] != before["work/labels.db: events"]


def test_a_wrong_option_is_refused(tmp_path: Path) -> None:
    ended = run(tmp_path, "--only", "nothing")
    assert ended.returncode == 2
    assert "invalid choice" in ended.stderr
    assert os.listdir(tmp_path) == []
