#!/usr/bin/env python
"""Attacks dal: bad inputs, mutated files and kills; says what did not hold, and how to see it again.

    python scripts/bench/attack.py                                    # all of it
    python scripts/bench/attack.py --only inputs --inputs 0 --jobs 4  # every bad input that the tables make
    python scripts/bench/attack.py --only data --item 1234            # one mutated file again

Three parts, each of which counts outcomes by command or kind of file:

- `inputs`: bad arguments, damaged files and wrong folders, over every command. Each must end with exit code 2 (or
  another that is documented), one line that says what was wrong, no traceback, in little time and memory, and must have
  changed nothing.
- `data`, `sheets`, `replies`, `configs`: files and replies mutated at random, given to the readers themselves. Each
  must be read, or refused by a `DalError` of few lines. What was read must be the same when read again, ids must be
  unique, and an answer must never be taken for a row whose text contradicts its line.
- `kills`: `run`, `compare`, `ask` and `tell` are killed at random instants, given again, and compared with an
  uninterrupted run: the same questions, labels and metrics, no answer lost or doubled, no file left over.

Exit code 1 when anything did not hold. Linux only. Nothing is read from the network.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

if sys.platform != "linux":
    sys.exit("attack.py runs on Linux only: it forks, limits and kills processes by means that other systems lack")

from attacks import children

MUTATED = ("data", "sheets", "replies", "configs")
PARTS = ("inputs", *MUTATED, "kills")
SHOWN = 40  # violations on the terminal; all are in the file


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1000, help="bad inputs, spread over all; 0 for all (1000)")
    parser.add_argument("--mutations", type=int, default=10_000, help="mutated items of each kind (10000)")
    parser.add_argument("--kills", type=int, default=300, help="kills (300)")
    parser.add_argument("--seed", type=int, default=0, help="of mutations and of the instants of kills")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="parts (all)")
    parser.add_argument("--case", help="one bad input alone, by its title; its folder is kept")
    parser.add_argument("--item", type=int, help="one mutated item alone")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/attack"), help="where everything is kept")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (2)")
    options = parser.parse_args(argv)
    options.out = options.out.absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    children.preload()
    tally = Tally(options.out)
    for number in (signal.SIGINT, signal.SIGTERM):  # also in the background, where Ctrl-C is ignored
        signal.signal(number, signal.default_int_handler)
    try:
        for part in options.only:
            tally.begin(part)
            attack(part, options, tally)
    except KeyboardInterrupt:
        print("\nstopped: what follows is partial", flush=True)
    return tally.finish()


def attack(part: str, options: argparse.Namespace, tally: "Tally") -> None:
    """One part, counted in the tally."""
    if part == "inputs":
        from attacks import inputs

        cases = inputs.chosen(options.inputs)
        if options.case is not None:
            cases = [case for case in inputs.chosen(0) if case.title == options.case]
            if not cases:
                raise SystemExit(f"there is no case {options.case!r}")
        tally.expect(len(cases))
        for verdict in inputs.attack(cases, options.out, options.jobs, keep=options.case is not None):
            case, code = verdict.case, verdict.ended.code
            how = {0: "accepted", 2: "refused"}.get(code, f"exit code {code}")
            tally.count(f"{case.command}", case.kind, how)
            for fault in verdict.faults:
                tally.violation(case.title, fault, verdict.said, inputs.reproduction(case))
    elif part in MUTATED:
        from attacks import mutated

        tally.expect(1 if options.item is not None else options.mutations)
        for found in mutated.attack(part, options):
            tally.count(part, found.kind, found.outcome, found.count)
            for title, fault, said, how in found.faults:
                tally.violation(title, fault, said, how)
    else:
        from attacks import kills

        tally.expect(options.kills)
        for ended in kills.attack(options):
            tally.count(ended.command, ended.signal, "as uninterrupted" if not ended.faults else "differs")
            for fault in ended.faults:
                tally.violation(ended.title, fault, ended.said, ended.reproduction)


class Tally:
    """Outcomes by part, command or kind, and the violations; tells every ten seconds how far it is."""

    def __init__(self, out: Path) -> None:
        self._file = (out / "violations.jsonl").open("w", encoding="utf-8")
        self._path = out / "violations.jsonl"
        self.outcomes: dict[str, dict[tuple[str, str], Counter[str]]] = {}
        self.faults: Counter[tuple[str, str]] = Counter()
        self.first: dict[tuple[str, str], tuple[str, str, str]] = {}
        self._part, self._expected, self._done, self._began, self._told = "", 0, 0, 0.0, 0.0
        self.seconds: dict[str, float] = {}

    def begin(self, part: str) -> None:
        """Count for another part from now on."""
        self._close()
        self._part, self._done, self._began = part, 0, time.monotonic()
        self._told = self._began
        self.outcomes[part] = defaultdict(Counter)

    def expect(self, count: int) -> None:
        """How many there will be."""
        self._expected = count

    def count(self, subject: str, kind: str, outcome: str, count: int = 1) -> None:
        """Count an outcome."""
        self.outcomes[self._part][subject, kind][outcome] += count
        self._done += count
        now = time.monotonic()
        if now - self._told >= 10:
            self._told = now
            bad = sum(count for (part, _), count in self.faults.items() if part == self._part)
            print(
                f"{self._part}: {self._done} of {self._expected}, {bad} violations, {now - self._began:.0f} s",
                flush=True,
            )

    def violation(self, title: str, fault: str, said: str, reproduction: str) -> None:
        """Note what did not hold."""
        self.faults[self._part, fault] += 1
        self.first.setdefault((self._part, fault), (title, said, reproduction))
        line = {"part": self._part, "title": title, "fault": fault, "said": said[:3000], "reproduction": reproduction}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def finish(self) -> int:
        """Print everything; the exit code."""
        self._close()
        for part, table in self.outcomes.items():
            print(f"\n{part}: {sum(map(Counter.total, table.values()))} in {self.seconds.get(part, 0):.0f} s\n")
            heads = list(dict.fromkeys(outcome for row in table.values() for outcome in sorted(row)))
            lines = [["", "", *heads]]
            lines += [[*key, *(str(row[head] or "") for head in heads)] for key, row in sorted(table.items())]
            widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            for line in lines:
                print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
        self._file.close()
        if not self.faults:
            print("\nno violations")
            return 0
        print(f"\n{sum(self.faults.values())} violations of {len(self.faults)} kinds, all of them in {self._path}\n")
        for (part, fault), count in self.faults.most_common(SHOWN):
            title, said, reproduction = self.first[part, fault]
            print(f"{count} x {fault}\n    {part}: {title[:200]}\n    {said.strip()[:300]!r}\n    {reproduction}")
        return 1

    def _close(self) -> None:
        if self._part:
            self.seconds[self._part] = time.monotonic() - self._began


if __name__ == "__main__":
    sys.exit(main())
