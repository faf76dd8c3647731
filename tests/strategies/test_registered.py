"""Every strategy that is registered says what it is and is offered by name. The kit runs on each in tests/testing."""

import inspect
from importlib import metadata

import pytest

from dal import strategies
from dal.strategies import ClusterCenters, Margin
from dal.strategy import Strategy

REGISTERED = {entry.name: entry for entry in metadata.entry_points(group="dal.strategies")}
BUILT_IN = {name: entry for name, entry in REGISTERED.items() if entry.value.startswith("dal.")}
#: Those that have no default for what they are made of.
ARGUMENTS = {"Phases": (ClusterCenters(), Margin())}
#: Made of others, and so from no paper of their own.
NO_PAPER = {"Random", "Phases", "Mixture", "Fallback"}


def made(name: str) -> Strategy:
    return BUILT_IN[name].load()(*ARGUMENTS.get(name, ()))


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_says_what_it_is_where_it_comes_from_and_when_to_use_it(name: str) -> None:
    strategy = made(name)
    assert (inspect.getdoc(type(strategy)) or "").splitlines()[0].endswith((".", ":", "`"))
    assert strategy.advice.strip()
    assert "\n" not in strategy.advice
    assert strategy.paper.strip() or name in NO_PAPER


def test_the_package_offers_each_by_name() -> None:
    assert set(strategies.__all__) == set(BUILT_IN)
    assert all(getattr(strategies, name) is BUILT_IN[name].load() for name in BUILT_IN)
