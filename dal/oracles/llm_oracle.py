"""A language model, or any learner that needs no training, as the one who answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dal.errors import ConfigError
from dal.functional.checking import Options
from dal.learner import Learner
from dal.oracle import Annotation, Oracle
from dal.oracles.labeler import check_labeler, opinions
from dal.store.events import SKIP


@dataclass(frozen=True)
class LLMOracle(Oracle):
    """Answers with the class that a language model finds most probable, and says how sure it is.

    A row that the model gave no readable answer for is declined, and that answer is kept verbatim. Every answer is
    stored with its confidence and what it cost. Labels that stand in the data are taken as the starting set, unless
    they are to be hidden, so that the report can say how often the model was wrong.

    Args:
        labeler: a learner that answers without training, such as `LLMLearner`.
        name: what its answers are stored under; by default the labeler's class.
        hide_labels: do not use the labels in the data.
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
        """As the option says."""
        return self.hide_labels

    @property
    def who(self) -> str:
        """The name that its answers are stored under."""
        return self.name or type(self.labeler).__name__

    def answer(self, rows: Tensor, data: Any) -> Sequence[Annotation]:
        """The most probable class of each row, `SKIP` where there is none."""
        found = opinions(self.labeler, data, rows)
        dollars: list[float | None] = [None] * len(rows) if found.dollars is None else found.dollars.tolist()
        values = [code.nonzero().flatten().tolist() if data.multilabel else int(code) for code in found.codes]
        return [
            Annotation(SKIP, self.who, self.source, 0.0, cost=cost, text=found.verbatim.get(i, ""))
            if silent
            else Annotation(value, self.who, self.source, min(1.0, sure), cost=cost)
            for i, (value, silent, sure, cost) in enumerate(
                zip(values, found.silent.tolist(), found.confidence.tolist(), dollars, strict=True)
            )
        ]


def called(machine: Oracle) -> str:
    """What a machine's answers are stored under."""
    return str(getattr(machine, "who", type(machine).__name__))


def named_apart(machines: Sequence[Oracle]) -> None:
    """Make sure that the answers of several machines can be told apart.

    Raises:
        ConfigError: two have one name.
    """
    names = [called(machine) for machine in machines]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"two machines are called {min(twice)}: give each a `name` of its own")
