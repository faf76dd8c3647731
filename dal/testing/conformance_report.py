"""The verdicts of the conformance kit: one line per check, and an error that shows them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Check = Callable[..., str | None]
Verdict = Literal["passed", "failed", "skipped"]


class CheckFailure(AssertionError):
    """A check that found the contract broken; the message says how, and what to do."""


class CheckSkipped(Exception):
    """A check that does not apply; the message says why."""


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        name: the check.
        verdict: "passed", "failed" or "skipped".
        message: why it failed or was skipped; what it looked at, sometimes, when it passed.
    """

    name: str
    verdict: Verdict
    message: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<8}{self.name}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True)
class Report:
    """What the kit found about one strategy or learner, check by check. `print(report)` shows a line for each.

    Attributes:
        subject: what was checked.
        results: one per check, in the order in which they ran.
    """

    subject: str
    results: tuple[Result, ...]

    @property
    def failed(self) -> tuple[Result, ...]:
        """The checks that failed."""
        return tuple(result for result in self.results if result.verdict == "failed")

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failed

    @property
    def summary(self) -> str:
        """One line: how many checks passed, failed and were skipped."""
        counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
        for result in self.results:
            counts[result.verdict] += 1
        return f"{self.subject}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)

    def __getitem__(self, name: str) -> Result:
        return {result.name: result for result in self.results}[name]

    def __str__(self) -> str:
        return "\n".join([*(f"  {result}" for result in self.results), self.summary])

    def require(self) -> "Report":
        """The report itself, or a `ConformanceError` when a check failed."""
        if not self.ok:
            raise ConformanceError(self)
        return self


class ConformanceError(AssertionError):
    """A strategy or learner that breaks its contract. `report` holds every check."""

    def __init__(self, report: Report) -> None:
        lines = [report.summary, *(f"  {result.name}: {result.message}" for result in report.failed)]
        super().__init__("\n".join(lines))
        self.report = report


def run_checks(subject: str, checks: Mapping[str, Check], *args: Any) -> Report:
    """The report of `checks`, each called with `args`. A check that raises anything but `CheckSkipped` failed."""
    return Report(subject, tuple(_result(name, check, args) for name, check in checks.items()))


def _result(name: str, check: Check, args: tuple[Any, ...]) -> Result:
    try:
        return Result(name, "passed", check(*args) or "")
    except CheckSkipped as reason:
        return Result(name, "skipped", str(reason))
    except CheckFailure as failure:
        return Result(name, "failed", str(failure))
    except Exception as error:
        return Result(name, "failed", said(error))


def said(error: BaseException) -> str:
    """An exception in one line: its type and the first line of its message."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
