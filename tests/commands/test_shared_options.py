"""Options that several commands share have one text and one declaration."""

import re
from pathlib import Path

import pytest
from command import Command

from dal.cli import COMMANDS
from dal.commands.shared_options import with_shared_options


@pytest.fixture
def dal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_the_lines_of_shared_options(dal: Command, command: str) -> None:
    ended = dal(command, "--help")
    assert ended.code == 0
    assert not re.search("^ *@", ended.out, re.MULTILINE)


def test_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="devise"):
        with_shared_options("options:\n  @devise\n")


def test_commands_on_several_devices_describe_them_alike(dal: Command) -> None:
    lines = [
        [line for line in dal(command, "--help").out.splitlines() if "--devices " in line or "--rank-" in line]
        for command in ("run", "embed")
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 2


@pytest.mark.parametrize("spelling", ["--dry-run", "--dry_run"])
@pytest.mark.parametrize(
    "command",
    [
        ["run", "missing.yaml"],
        ["compare", "missing.yaml", "--strategies", "Random"],
        ["init", "new", "--data", "missing.csv"],
        ["add", "missing", "more.csv"],
        ["predict", "missing"],
        ["autolabel", "missing", "--max-error", "5%"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_dry_run_is_an_option_in_either_spelling(dal: Command, command: list[str], spelling: str) -> None:
    ended = dal(*command, spelling)
    assert ended.code != 0
    assert "missing" in ended.err
    assert "dry" not in ended.err
