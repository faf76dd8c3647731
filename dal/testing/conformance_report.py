"""Reports of the conformance kit: one line per check, and an error with all failures."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Check = Callable[..., str | None]
Verdict = Literal["passed", "failed", "skipped"]


class CheckFailure(AssertionError):
    """A check found a violation of the contract; the message describes it and the remedy."""


class CheckSkipped(Exception):
    """A check does not apply; the message gives the reason."""


@dataclass(frozen=True)
class Result:
    """Result of one check.

    Attributes:
        name: name of the check.
        verdict: "passed", "failed" or "skipped".
        message: reason of a failure or skip; optional details of a pass.
    """

    name: str
    verdict: Verdict
    message: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<8}{self.name}" + (f": {self.message}" if self.message else "")


@dataclass(frozen=True)
class Report:
    """Results of all checks on one plugin. `print(report)` shows one line per check.

    Attributes:
        subject: name of the plugin.
        results: results of the checks, in order of execution.
    """

    subject: str
    results: tuple[Result, ...]

    @property
    def failed(self) -> tuple[Result, ...]:
        """Failed checks."""
        return tuple(result for result in self.results if result.verdict == "failed")

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def summary(self) -> str:
        """One line with the numbers of passed, failed and skipped checks."""
        counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
        for result in self.results:
            counts[result.verdict] += 1
        return f"{self.subject}: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)

    def __getitem__(self, name: str) -> Result:
        return {result.name: result for result in self.results}[name]

    def __str__(self) -> str:
        return "\n".join([*(f"  {result}" for result in self.results), self.summary])

    def require(self) -> "Report":
        """Return the report, or raise `ConformanceError` if a check failed."""
        if not self.ok:
            raise ConformanceError(self)
        return self


class ConformanceError(AssertionError):
    """A plugin violates its contract. `report` holds the results of all checks."""

    def __init__(self, report: Report) -> None:
        lines = [report.summary, *(f"  {result.name}: {result.message}" for result in report.failed)]
        super().__init__("\n".join(lines))
        self.report = report


def run_checks(subject: str, checks: Mapping[str, Check], *args: Any, first: Collection[str] = ()) -> Report:
    """Run checks with `args` and return the report. Any exception other than `CheckSkipped` is a failure.

    Args:
        subject: name of what is checked.
        checks: name -> check, in order of execution.
        args: arguments of every check.
        first: names of the checks without which the others say nothing; if one fails, those that follow are skipped.
    """
    results: list[Result] = []
    for name, check in checks.items():
        if any(result.verdict == "failed" and result.name in first for result in results):
            results.append(Result(name, "skipped", "fix the failures above first"))
        else:
            results.append(_result(name, check, args))
    return Report(subject, tuple(results))


def _result(name: str, check: Check, args: tuple[Any, ...]) -> Result:
    try:
        return Result(name, "passed", check(*args) or "")
    except CheckSkipped as reason:
        return Result(name, "skipped", str(reason))
    except CheckFailure as failure:
        return Result(name, "failed", str(failure))
    except Exception as error:
        return Result(name, "failed", error_summary(error))


def error_summary(error: BaseException) -> str:
    """Format an exception as one line: its type and the first line of its message."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
