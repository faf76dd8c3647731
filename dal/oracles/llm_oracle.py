"""An oracle that answers with a language model, or any other learner that needs no training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dal.errors import ConfigError
from dal.functional.checking import Options
from dal.learner import Learner
from dal.oracle import Annotation, Oracle
from dal.oracles.labeler import check_labeler, label_rows
from dal.store.events import SKIP


@dataclass(frozen=True)
class LLMOracle(Oracle):
    """Answers with the most probable class of a language model and the model's confidence in it.

    A row whose reply could not be parsed is skipped, and the reply is stored verbatim. Every answer is stored with its
    confidence and cost. Labels in the data are used as the initial labeled set, unless `hide_labels` is set: then they
    are only used by the report, to measure the error rate of the model.

    Args:
        labeler: learner that labels without training, such as `LLMLearner`.
        name: name under which the answers are stored; the class name of the labeler if empty.
        hide_labels: whether to hide the labels in the data from the run.
    """

    labeler: Learner
    name: str = ""
    hide_labels: bool = False

    source = "llm"

    def __post_init__(self) -> None:
        check_labeler(self.labeler, type(self).__name__)
        Options(self).flag("hide_labels")

    @property
    def hides_labels(self) -> bool:  # type: ignore[override]
        """Whether the labels in the data are hidden from the run: the option `hide_labels`."""
        return self.hide_labels

    @property
    def who(self) -> str:
        """Name under which the answers are stored."""
        return self.name or type(self.labeler).__name__

    def answer(self, rows: Tensor, data: Any) -> Sequence[Annotation]:
        """Return the most probable class of each row, `SKIP` for rows without a parsed answer."""
        answers = label_rows(self.labeler, data, rows)
        dollars: list[float | None] = [None] * len(rows) if answers.dollars is None else answers.dollars.tolist()
        values = [code.nonzero().flatten().tolist() if data.multilabel else int(code) for code in answers.codes]
        return [
            Annotation(SKIP, self.who, self.source, 0.0, cost=cost, text=answers.verbatim.get(i, ""))
            if unparsed
            else Annotation(value, self.who, self.source, min(1.0, confidence), cost=cost)
            for i, (value, unparsed, confidence, cost) in enumerate(
                zip(values, answers.unparsed.tolist(), answers.confidence.tolist(), dollars, strict=True)
            )
        ]


def oracle_name(oracle: Oracle) -> str:
    """Return the name under which an oracle's answers are stored."""
    return str(getattr(oracle, "who", type(oracle).__name__))


def check_distinct_names(oracles: Sequence[Oracle]) -> None:
    """Check that the names of several oracles are distinct.

    Raises:
        ConfigError: two oracles have the same name.
    """
    names = [oracle_name(oracle) for oracle in oracles]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"two oracles have the name {min(twice)}: give each a different `name`")
