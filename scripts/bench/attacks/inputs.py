"""Part one: bad inputs over every command and every kind of file, each judged by what it leaves behind."""

import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacks import children, folders
from attacks.cases import COMMON, Case, all_cases
from attacks.children import Child, Ended, Limits

MOST_SHOWN = 2_000  # characters of what is said
MOST_LINES = 30
PROCESSOR = 25  # seconds, of which a command takes one or two
MEGABYTES = 1_500  # of address space, above what the process began with

#: The class of an exception, or of one of a library's, in words for a user.
RAW = re.compile(r"\b(?!BusyError)(?:[A-Z]\w*(?:Error|Exception|Warning)|Arrow[A-Z]\w+|KeyboardInterrupt|Errno)\b")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SURPRISE = re.compile(r"<[\w.]+ object at|Traceback")

#: Files that are no result: locks, and what SQLite keeps next to a store that is open.
_INCIDENTAL = re.compile(r"(^|/)(\.lock|labels\.db-(wal|shm)|replies\.db-(wal|shm))$")


@dataclass
class Verdict:
    """What is wrong with how one case ended; nothing when `faults` is empty."""

    case: Case
    ended: Ended
    said: str
    faults: list[str]


def chosen(count: int) -> list[Case]:
    """So many cases spread evenly over all; all of them when there are no more, or for 0."""
    cases = all_cases()
    if not 0 < count < len(cases):
        return cases
    return [cases[int(number * len(cases) / count)] for number in range(count)]


def attack(cases: Sequence[Case], out: Path, jobs: int, *, keep: bool = False) -> Iterator[Verdict]:
    """Every case, tried in a folder of its own below `out`, and the verdict on it, as they end."""
    template = out / "template"
    make_template(template, out)
    numbers = {case.title: number for number, case in enumerate(cases)}

    def start(case: Case) -> Child:
        place = out / "cases" / str(numbers[case.title])
        shutil.rmtree(place, ignore_errors=True)
        (place / "logs").mkdir(parents=True)
        return children.fork(_trial(case, template, place), place, place / "logs" / "x", LIMITS)

    for case, ended in children.several(cases, start, jobs):
        place = out / "cases" / str(numbers[case.title])
        yield judged(case, ended, place)
        if not keep:
            _reopen(place)
            shutil.rmtree(place, ignore_errors=True)


LIMITS = Limits(wall=150.0, processor=PROCESSOR, megabytes=MEGABYTES)


def make_template(template: Path, out: Path) -> None:
    """Make the folders that the cases are tried on."""
    partial = out / "template.new"
    for leftover in (partial, template):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    ended = children.fork(lambda: folders.make(partial, 60), partial, out / "template").wait()
    if ended.code != 0:
        raise SystemExit(f"the folders to try could not be made: see {out / 'template.err'}")
    folders.plant(partial)
    partial.rename(template)


def _trial(case: Case, template: Path, place: Path) -> Callable[[], int]:
    def work() -> int:
        import json
        import os

        folder = place / "work" / "here"
        folder.mkdir(parents=True)
        for name in (*COMMON, *case.needs):
            source = template / name
            if source.is_dir():
                shutil.copytree(source, folder / name, symlinks=True)
            else:
                shutil.copy2(source, folder / name)
        for file in template.glob("*.py"):
            shutil.copy2(file, folder)
        shutil.copytree(template / "planted-1.0.dist-info", folder / "planted-1.0.dist-info")
        for name, value in {"HOME": "home", "TMPDIR": "temporary", "XDG_CACHE_HOME": "home/.cache"}.items():
            (place / "work" / value).mkdir(parents=True, exist_ok=True)
            os.environ[name] = str(place / "work" / value)
        os.environ["MPLCONFIGDIR"] = str(place / "logs")
        os.chdir(folder)
        if case.prepare is not None:
            case.prepare(folder)
        (place / "before.json").write_text(json.dumps(folders.contents(place / "work")), encoding="utf-8")
        return children.command(case.arguments)()

    return work


def judged(case: Case, ended: Ended, place: Path) -> Verdict:
    """What is wrong with how a case ended in `place`."""
    import json

    said, printed = (_read(place / "logs" / f"x.{name}") for name in ("err", "out"))
    if not (place / "before.json").is_file():
        return Verdict(case, ended, said, ["the case could not be prepared"])
    before: dict[str, Any] = json.loads((place / "before.json").read_text(encoding="utf-8"))
    after = folders.contents(place / "work")
    faults = list(_of_ending(case, ended, said, printed))
    canary = place / "work" / "here" / folders.CANARY
    if canary.exists() and not case.imports:
        ran = sorted(set(canary.read_text(encoding="utf-8").split()))
        faults.append(f"code of the current folder was run: {', '.join(ran)}")
    changed = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    changed = [name for name in changed if not _INCIDENTAL.search(name) and not name.endswith(f"/{folders.CANARY}")]
    if ended.code not in (0, 3) and changed and not case.begins:
        faults.append(f"wrote or changed {', '.join(changed[:3])}" + (", ..." if len(changed) > 3 else ""))
    left = [name for name in changed if re.search(r"\.(new|old|tmp)$", name) or name.startswith("temporary/")]
    if ended.code in (0, 3) and left:
        faults.append(f"left {', '.join(left[:3])}")
    for name in changed:
        if before.get(name, "c")[0] in "pcs" and name in before:
            faults.append(f"replaced a pipe, device or socket: {name}")
        elif before.get(name, "-")[0] == "l" and after.get(name, "l")[0] != "l":
            faults.append(f"replaced a link: {name}")
    return Verdict(case, ended, said, faults)


def _of_ending(case: Case, ended: Ended, said: str, printed: str) -> Iterator[str]:
    if ended.late:
        yield "took too long"
        return
    if ended.code not in case.codes:
        yield f"exit code {ended.code}" + (", accepted" if ended.code == 0 else "")
    if ended.megabytes > MEGABYTES:
        yield "took too much memory"
    errors = [line for line in said.splitlines() if line.startswith("dal: error:")]
    if ended.code not in (0, 3) and len(errors) != 1 and not (ended.code == 1 and 1 in case.codes):
        yield f"{len(errors)} lines of error"
    if ended.code == 2 and len(errors) == 1 and len(errors[0]) < 25:
        yield "says nothing"
    if ended.code != 0 and (len(said) > MOST_SHOWN or said.count("\n") > MOST_LINES):
        yield f"long output ({'more than 100,000' if len(said) > 100_000 else 'more than 2,000'} characters)"
    if SURPRISE.search(said + printed):
        yield "a traceback or a raw object"
    elif raw := RAW.search(said):
        yield f"a raw exception: {raw[0]}"
    if control := CONTROL.search(said.replace("\r\n", "\n")):
        yield f"a control character in what is said: {control[0]!r}"
    results = [line for line in printed.splitlines() if line.strip() and not line.endswith(" ...")]  # not the stages
    if ended.code == 2 and results and not case.begins:
        yield "prints a result although it fails"


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""


def _reopen(place: Path) -> None:
    """Let what a case closed be removed."""
    for path in (place / "work" / "here").glob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def reproduction(case: Case) -> str:
    """The command that tries one case alone, and keeps its folder."""
    return f"python scripts/bench/attack.py --only inputs --case {shlex.quote(case.title)}"
