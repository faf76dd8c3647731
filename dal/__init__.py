"""Deep active learning for text classifiers: the names a user needs, each imported when it is first read.

`import dal` itself imports neither torch nor lightning. Every built-in strategy is here too: `from dal import Margin`.

>>> from dal import DalError, __version__
>>> issubclass(DalError, Exception)
True
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dal.data import Rows, Splits, TextData
    from dal.errors import DalError
    from dal.experiment import Experiment
    from dal.labels import SKIP
    from dal.learner import Learner
    from dal.learners.module import ModuleLearner
    from dal.learners.probe import ProbeLearner
    from dal.learners.transformer import TransformerLearner
    from dal.outputs import Outputs
    from dal.session import Session
    from dal.strategies.composition import Phases
    from dal.strategies.disagreement import BALD
    from dal.strategies.diversity import ClusterCenters, CoreSet
    from dal.strategies.gradient import BADGE
    from dal.strategies.random import Random
    from dal.strategies.uncertainty import Entropy, LeastConfidence, Margin
    from dal.strategy import Query, RoundState, ScoreStrategy, Selection, Strategy

    __version__: str

_HOMES = {
    "DalError": "dal.errors",
    "Experiment": "dal.experiment",
    "Learner": "dal.learner",
    "ModuleLearner": "dal.learners.module",
    "Outputs": "dal.outputs",
    "ProbeLearner": "dal.learners.probe",
    "Query": "dal.strategy",
    "RoundState": "dal.strategy",
    "Rows": "dal.data",
    "SKIP": "dal.labels",
    "ScoreStrategy": "dal.strategy",
    "Selection": "dal.strategy",
    "Session": "dal.session",
    "Splits": "dal.data",
    "Strategy": "dal.strategy",
    "TextData": "dal.data",
    "TransformerLearner": "dal.learners.transformer",
}

__all__ = [
    "BADGE",
    "BALD",
    "SKIP",
    "ClusterCenters",
    "CoreSet",
    "DalError",
    "Entropy",
    "Experiment",
    "Learner",
    "LeastConfidence",
    "Margin",
    "ModuleLearner",
    "Outputs",
    "Phases",
    "ProbeLearner",
    "Query",
    "Random",
    "RoundState",
    "Rows",
    "ScoreStrategy",
    "Selection",
    "Session",
    "Splits",
    "Strategy",
    "TextData",
    "TransformerLearner",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = metadata.version("deep-active-learning")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name in __all__:
        value = _strategy(name)
    else:
        raise AttributeError(f"module 'dal' has no attribute {name!r}")
    globals()[name] = value
    return value


def _strategy(name: str) -> Any:
    """The built-in strategy, through the same door as anybody's."""
    found = [e for e in metadata.entry_points(group="dal.strategies", name=name) if e.value.startswith("dal.")]
    if not found:
        raise AttributeError(f"module 'dal' has no attribute {name!r}: is the package installed (pip install -e .)?")
    return found[0].load()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
