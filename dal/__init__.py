"""Deep active learning for text classification.

The public names are imported lazily: `import dal` imports neither torch nor lightning. Every built-in strategy is
available too: `from dal import Margin`.

>>> from dal import DalError, __version__
>>> issubclass(DalError, Exception)
True
"""

import sys

# `python -m dal` puts the current folder first on the import path, where its files would shadow the standard library
# before any command starts.
if (
    sys.argv[:1] == ["-m"]
    and sys.orig_argv[-len(sys.argv)].endswith("dal")
    and not sys.flags.safe_path
    and sys.path[0] != __file__.replace("\\", "/").rpartition("/dal/")[0]  # the source folder of this package
):
    del sys.path[0]

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from dal.config.moved import OldModules

if TYPE_CHECKING:
    from dal.annotate.project_api import Project
    from dal.data import Rows, Splits, TextData
    from dal.errors import DalError
    from dal.experiments.experiment import Experiment
    from dal.experiments.stored_model import load
    from dal.learner import Learner
    from dal.learners.committee_learner import CommitteeLearner
    from dal.learners.module_learner import ModuleLearner
    from dal.learners.probe_learner import ProbeLearner
    from dal.learners.sklearn_committee import SklearnCommittee
    from dal.learners.tfidf_learner import TfidfLearner
    from dal.learners.transformer_learner import TransformerLearner
    from dal.modules import ActiveModule
    from dal.oracle import LATER, Annotation, Oracle
    from dal.outputs import Outputs
    from dal.session.session import Session
    from dal.stopping import History, StoppingRule, Verdict
    from dal.store.events import SKIP
    from dal.strategies import *  # noqa: F403
    from dal.strategies import (
        BADGE,
        BALD,
        Auto,
        ClusterCenters,
        CoreSet,
        Entropy,
        LeastConfidence,
        Margin,
        Phases,
        Random,
    )
    from dal.strategies.candidates import SEALS, AnchorAL, Candidates, RandomSubset
    from dal.strategies.proxy_candidates import LinearProxy, RefreshedProxy
    from dal.strategy import Query, RoundState, ScoreStrategy, Selection, Strategy

    __version__: str

sys.meta_path.append(OldModules())

_HOMES = {
    "ActiveModule": "dal.modules.active_module",
    "AnchorAL": "dal.strategies.candidates",
    "Annotation": "dal.oracle",
    "Candidates": "dal.strategies.candidates",
    "CommitteeLearner": "dal.learners.committee_learner",
    "DalError": "dal.errors",
    "Experiment": "dal.experiments.experiment",
    "History": "dal.stopping",
    "LATER": "dal.oracle",
    "Learner": "dal.learner",
    "LinearProxy": "dal.strategies.proxy_candidates",
    "ModuleLearner": "dal.learners.module_learner",
    "Oracle": "dal.oracle",
    "Outputs": "dal.outputs",
    "ProbeLearner": "dal.learners.probe_learner",
    "Project": "dal.annotate.project_api",
    "Query": "dal.strategy",
    "RandomSubset": "dal.strategies.candidates",
    "RefreshedProxy": "dal.strategies.proxy_candidates",
    "RoundState": "dal.strategy",
    "Rows": "dal.data",
    "SEALS": "dal.strategies.candidates",
    "SKIP": "dal.store.events",
    "ScoreStrategy": "dal.strategy",
    "Selection": "dal.strategy",
    "Session": "dal.session.session",
    "SklearnCommittee": "dal.learners.sklearn_committee",
    "Splits": "dal.data",
    "StoppingRule": "dal.stopping",
    "Strategy": "dal.strategy",
    "TextData": "dal.data",
    "TfidfLearner": "dal.learners.tfidf_learner",
    "TransformerLearner": "dal.learners.transformer_learner",
    "Verdict": "dal.stopping",
    "load": "dal.experiments.stored_model",
}

__all__ = [
    "BADGE",
    "BALD",
    "LATER",
    "SEALS",
    "SKIP",
    "ActiveModule",
    "AnchorAL",
    "Annotation",
    "Auto",
    "Candidates",
    "ClusterCenters",
    "CommitteeLearner",
    "CoreSet",
    "DalError",
    "Entropy",
    "Experiment",
    "History",
    "Learner",
    "LeastConfidence",
    "LinearProxy",
    "Margin",
    "ModuleLearner",
    "Oracle",
    "Outputs",
    "Phases",
    "ProbeLearner",
    "Project",
    "Query",
    "Random",
    "RandomSubset",
    "RefreshedProxy",
    "RoundState",
    "Rows",
    "ScoreStrategy",
    "Selection",
    "Session",
    "SklearnCommittee",
    "Splits",
    "StoppingRule",
    "Strategy",
    "TextData",
    "TfidfLearner",
    "TransformerLearner",
    "Verdict",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = metadata.version("deep-active-learning")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    elif name[:1].isupper():
        # A built-in strategy: from its entry point, as for plugins.
        entries = [e for e in metadata.entry_points(group="dal.strategies", name=name) if e.value.startswith("dal.")]
        if not entries:
            raise AttributeError(
                f"module 'dal' has no attribute {name!r}: is the package installed (pip install -e .)?"
            )
        value = entries[0].load()
    else:
        raise AttributeError(f"module 'dal' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    entries = metadata.entry_points(group="dal.strategies")
    return sorted({*globals(), *__all__, *(e.name for e in entries if e.value.startswith("dal."))})
