"""Every check of clients passes a right one and fails on one that is wrong in that way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from dal.errors import LLMError
from dal.llm.clients.client import SILENT, Bill, Client, PriceBound, Reply, Request
from dal.testing import CLIENT_CHECKS, ConformanceError, Report, check_client, client_report


@dataclass(frozen=True)
class Echo(Client):
    """A right client: it answers with the prompt."""

    model: str = "echo"

    def complete(self, requests: Sequence[Request], *, monitor: Any = SILENT) -> list[Reply]:
        return [self.one(request) for request in requests]

    def one(self, request: Request) -> Reply:
        return Reply(f"{request.prompt} {request.sample}", input_tokens=3, output_tokens=3)


@dataclass(frozen=True)
class Paid(Echo):
    """One cent for each request."""

    def one(self, request: Request) -> Reply:
        return Reply(request.prompt, dollars=0.01)

    def price_each(self, requests: Sequence[Request]) -> list[PriceBound]:
        return [PriceBound(0.01, 0.02) for _ in requests]

    def bill(self) -> Bill:
        return Bill(requests=9, dollars=1.0)


@dataclass(frozen=True)
class Nameless(Echo):
    model: str = ""


@dataclass(frozen=True)
class OnePriceForAll(Paid):
    def price_each(self, requests: Sequence[Request]) -> list[PriceBound]:
        return [PriceBound(0.01, 0.02)]


@dataclass(frozen=True)
class UpsideDown(Paid):
    def price_each(self, requests: Sequence[Request]) -> list[PriceBound]:
        return [PriceBound(0.02, 0.01) for _ in requests]


@dataclass(frozen=True)
class NeedsARequest(Echo):
    def complete(self, requests: Sequence[Request], *, monitor: Any = SILENT) -> list[Reply]:
        assert requests[0]
        return super().complete(requests)


@dataclass(frozen=True)
class LosesRepetitions(Echo):
    def complete(self, requests: Sequence[Request], *, monitor: Any = SILENT) -> list[Reply]:
        return [self.one(request) for request in dict.fromkeys(each.prompt for each in requests)]  # type: ignore[arg-type]

    def one(self, request: Any) -> Reply:
        return Reply(str(request))


@dataclass(frozen=True)
class ReturnsTexts(Echo):
    def complete(self, requests: Sequence[Request], *, monitor: Any = SILENT) -> list[Reply]:
        return [request.prompt for request in requests]  # type: ignore[misc]


@dataclass(frozen=True)
class DrawsGlobally(Echo):
    def one(self, request: Request) -> Reply:
        torch.rand(1)
        return super().one(request)


@dataclass(frozen=True)
class FreeOnPaper(Paid):
    def bill(self) -> Bill:
        return Bill()


class NoDataclass(Echo):
    def __init__(self, limit: int = 3) -> None:
        super().__init__()


@dataclass(frozen=True)
class Unreachable(Echo):
    def complete(self, requests: Sequence[Request], *, monitor: Any = SILENT) -> list[Reply]:
        if not requests:
            return []
        raise LLMError("the server does not answer")


@dataclass(frozen=True)
class Moody(Echo):
    def one(self, request: Request) -> Reply:
        return Reply(str(object()))


WRONG: list[tuple[str, type[Client]]] = [
    ("declaration", Nameless),
    ("prices", OnePriceForAll),
    ("prices", UpsideDown),
    ("no request", NeedsARequest),
    ("replies", LosesRepetitions),
    ("replies", ReturnsTexts),
    ("replies", DrawsGlobally),
    ("replies", Unreachable),
    ("bill", FreeOnPaper),
    ("value", NoDataclass),
]


def failures(report: Report) -> set[str]:
    return {result.name for result in report.failed}


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_each_check_fails_on_a_client_wrong_in_its_way(check: str, wrong: type[Client]) -> None:
    report = client_report(wrong(), spend=True)
    assert check in failures(report), str(report)
    assert report[check].message


def test_every_check_but_the_one_that_models_may_miss_has_a_client_that_it_fails_on() -> None:
    assert {check for check, _ in WRONG} == CLIENT_CHECKS.keys() - {"repetition"}
    assert client_report(Moody())["repetition"].verdict == "skipped"
    assert client_report(Echo())["repetition"].verdict == "passed"


@pytest.mark.parametrize("client", [Echo(), Echo, Paid()], ids=repr)
def test_a_right_client_passes(client: Any) -> None:
    assert check_client(client, spend=True).ok


def test_nothing_is_sent_that_costs_money_unless_it_is_allowed() -> None:
    report = client_report(Paid())
    assert report.ok
    assert report["replies"].message == "its requests cost up to $0.1000: --spend sends them"


def test_failed_check_raises_with_the_report() -> None:
    with pytest.raises(ConformanceError, match="the server does not answer"):
        check_client(Unreachable())
