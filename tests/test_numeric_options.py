"""No option that is a number or a flag takes what has no meaning. The cases come from the signatures of all that is
registered, so that a new class or option is tested without being added here."""

import dataclasses
import math
import types
import typing
from importlib import metadata

import pytest

from dal.config import plugins
from dal.errors import ConfigError, SelectionError
from dal.functional.checking import shown
from dal.learners.probe_learner import ProbeLearner
from dal.learners.text.masked_training import Adaptation
from dal.llm.llm_learner import LLMLearner
from dal.llm.local_models.local_client import LocalClient
from dal.modules.adapting import LoRA
from dal.modules.linear import LinearClassifier
from dal.oracles.simulated import Simulated
from dal.oracles.weak_labels import LLMWeakLabels
from dal.stopping import Labels
from dal.strategies import ClusterCenters, Margin, Mixture, Random
from dal.strategy import choose
from dal.testing.synthetic import Setting

NO_NUMBER = [math.nan, -math.inf, True, "3", [1], 1j]
REFUSED = {
    int: [math.inf, -1, -(10**30), -(10**5000), 2.5, 2.0, *NO_NUMBER],
    float: [-1, -1e-300, 10**400, *NO_NUMBER],
    bool: [0, 1, "yes", math.nan],
}
#: What the options without a default are given.
GIVEN = {
    "CommitteeLearner": {"learner": ProbeLearner(model=None)},
    "LLMLearner": {"client": LocalClient(model="nowhere")},
    "LLMOracle": {"labeler": LLMLearner(LocalClient(model="nowhere"))},
    "LLMWeakLabels": {"labeler": LLMLearner(LocalClient(model="nowhere"))},
    "LocalClient": {"model": "nowhere"},
    "Mixture": {"strategies": (Random(), Margin())},
    "ModuleLearner": {"build": lambda classes, multilabel: LinearClassifier(4, classes, multilabel=multilabel)},
    "OpenAIClient": {"model": "some-model"},
    "Phases": {"first": ClusterCenters(), "then": Margin()},
    "Router": {"models": [Simulated()]},
    **{name: {"rules": [Labels(10)]} for name in ("AllOf", "AnyOf", "Observe")},
    **{name: {f"max_{name.lower()}": 1} for name in ("Dollars", "Hours", "Labels")},
}
OWN = {
    entry.name: entry.load()
    for group in plugins.BASES
    for entry in metadata.entry_points(group=group)
    if entry.value.startswith("dal.")
} | {each.__name__: each for each in (Adaptation, LoRA, LLMWeakLabels)}


def numbers(kind: type) -> dict[str, tuple[type, bool]]:
    """Option -> its type, one of int, float and bool, and whether it may be null."""
    found = {}
    for field in dataclasses.fields(kind):
        hint = typing.get_type_hints(kind)[field.name]
        either = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        for of in (of for of in REFUSED if of in either):
            found[field.name] = of, types.NoneType in either
    return found


CASES = [
    pytest.param(name, option, value, id=f"{name}-{option}-{shown(value)[:9]}")
    for name, kind in sorted(OWN.items())
    for option, (of, optional) in numbers(kind).items()
    for value in [*REFUSED[of], *([] if optional else [None])]
]


@pytest.mark.parametrize("name", sorted(OWN))
def test_each_can_be_made(name):
    made = OWN[name](**GIVEN.get(name, {}))
    assert dataclasses.is_dataclass(made)


@pytest.mark.parametrize(("name", "option", "value"), CASES)
def test_a_number_without_a_meaning_is_refused_by_its_name(name, option, value):
    with pytest.raises(ConfigError) as caught:
        OWN[name](**GIVEN.get(name, {}) | {option: value})
    said = str(caught.value)
    assert option in said
    assert "\n" not in said
    assert len(said) < 300


@pytest.mark.parametrize(
    "shares", [(math.nan, 1), (True, 1), (math.inf, 1), (1, -1), (0, 1), (10**400, 1), "ab", 3, ("1", 1)]
)
def test_shares_that_are_no_positive_numbers_are_refused(shares):
    with pytest.raises(ConfigError, match="shares of Mixture must be 2 positive numbers") as caught:
        Mixture((Random(), Margin()), shares=shares)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("strategies", [3, Margin(), "Margin", (), [Margin]])
def test_a_mixture_of_no_strategies_is_refused(strategies):
    with pytest.raises(ConfigError, match="Mixture takes a list of strategies"):
        Mixture(strategies)


STRATEGIES = {entry.name for entry in metadata.entry_points(group=plugins.STRATEGIES)}
LARGE = [
    pytest.param(name, option, value, id=f"{name}-{option}-{shown(value)[:9]}")
    for name in sorted(STRATEGIES & set(OWN))
    for option, (of, _) in numbers(OWN[name]).items()
    for value in ({int: [10**30], float: [1e300, 1e16, 1e-16, 1e-300]}.get(of, []))
]


@pytest.mark.parametrize(("name", "option", "value"), LARGE)
def test_a_huge_or_tiny_number_is_refused_by_its_name_or_works(name, option, value):
    refused, positions = "", []
    try:
        strategy = OWN[name](**GIVEN.get(name, {}) | {option: value})
        positions = choose(strategy, Setting(rows=60, n=5).query(strategy)).positions.tolist()
    except (ConfigError, SelectionError) as error:
        refused = str(error)
    assert option in refused or len(set(positions)) == 5


SPACES = sorted(name for name in STRATEGIES & set(OWN) if "space" in OWN[name].__dataclass_fields__)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("value", ["", 3, None, True, ["features"]])
def test_a_space_that_is_no_name_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"space of {name} must be a name"):
        OWN[name](**GIVEN.get(name, {}) | {"space": value})


@pytest.mark.parametrize("name", SPACES)
def test_the_factors_of_gradients_are_a_space_or_refused_by_its_name(name):
    refused, positions = "", []
    try:
        strategy = OWN[name](**GIVEN.get(name, {}) | {"space": "grads"})
        positions = choose(strategy, Setting(rows=60, n=5).query(strategy)).positions.tolist()
    except ConfigError as error:
        refused = str(error)
    assert refused.startswith(f"space of {name} must be plain vectors") or len(set(positions)) == 5
