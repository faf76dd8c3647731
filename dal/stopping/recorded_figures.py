"""What a round records for stopping rules: money and time spent, and predictions for a fixed sample of the pool."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.data.columns import digests
from dal.data.seeded_samples import keys
from dal.errors import ConfigError
from dal.functional.uncertainty import entropy
from dal.outputs import Outputs
from dal.stopping.rule import Line, StoppingRule
from dal.store.events import AnnotationTotals, Event, work
from dal.store.proposals import Proposal, apart
from dal.store.unread_answers import Unread

#: What a rule may read, and how an error calls it.
READS = {"spent": "what was spent", "validation": "scores on validation rows", "stop_set": "predictions for the pool"}

SMALL = 500  # rows of a stop set below which a person should know how coarse it is

_STREAM = 0x570  # what the sample is drawn for: apart from the shares and limits of `dal.data`


class StoppingWarning(UserWarning):
    """A stopping rule that has too little to go by."""


def check(rule: StoppingRule, data: Any) -> None:
    """Make sure that all can be recorded that a rule reads, before anything is asked.

    Args:
        rule: the rule.
        data: a `dal.data.Splits`.

    Raises:
        ConfigError: it reads what nobody records, or validation rows that the data does not have.
    """
    name, unknown = type(rule).__name__, sorted(rule.needs - READS.keys())
    if unknown:
        raise ConfigError(f"{name} reads {', '.join(unknown)}, which no round records; recorded are {', '.join(READS)}")
    if "validation" in rule.needs and (data.validation is None or not bool(data.validation.known.all())):
        raise ConfigError(
            f"{name} reads scores on validation rows, and the data has none: give data.validation a share such as 0.1"
        )


def holds(line: Line, rule: StoppingRule) -> bool:
    """Whether a line has all that the rule reads."""
    wanted = line["stop_set"]["wanted"] if "stop_set" in line else 0
    return rule.needs <= line.keys() and (rule.stop_set <= wanted or "stop_set" not in rule.needs)


def spent(
    done: Iterable[Event] | AnnotationTotals,
    answers: int,
    proposals: Iterable[Proposal] = (),
    unread: Iterable[Unread] = (),
) -> dict[str, float]:
    """What all answers and skips cost and took, those that were retracted later too: the work was done.

    Args:
        done: all events of a label store, or its `work`, which is faster.
        answers: rows that have an answer now.
        proposals: of the label store. Their price counts, but for those that an answer repeats; the time of the
            machine that made them does not.
        unread: answers of machines that could not be read, likewise.
    """
    counted = done if isinstance(done, AnnotationTotals) else work(done)
    beside: list[Proposal | Unread] = [*apart(proposals, counted.paid), *apart(unread, counted.paid)]
    costs = [repeat(cost, count) for (_, cost, _), count in counted.done.items() if cost is not None]
    seconds = [repeat(took, count) for (_, _, took), count in counted.done.items() if took is not None]
    unpriced = sum(count for (_, cost, _), count in counted.done.items() if cost is None)
    untimed = sum(count for (_, _, took), count in counted.done.items() if took is None)
    proposed = [each.cost for each in beside if each.cost is not None]
    return {
        "answers": answers,
        "dollars": math.fsum(chain(*costs, proposed)),
        "unpriced": unpriced,
        "hours": math.fsum(chain(*seconds)) / 3600,
        "untimed": untimed,
    }


@dataclass(frozen=True, eq=False)
class StopSet:
    """A sample of the pool, the same in every round, on which successive models are compared.

    It is drawn by the hashes of the ids, so that neither the order of the rows nor the process matters, from the rows
    whose label did not come with the data. Rows that are asked later stay in it: it stands for the whole pool. A
    smaller stop set is the beginning of a larger one.

    Attributes:
        rows: (n,) int64 in the pool.
        of: a digest of what it was drawn from; predictions for another pool are not compared with these.
        wanted: how many rows were asked for; there may be fewer.
    """

    rows: Tensor
    of: str
    wanted: int

    @classmethod
    def draw(cls, ids: Any, eligible: Tensor, size: int, seed: int) -> "StopSet":
        """`size` of the rows that are eligible, (N,) bool; all of them when there are no more.

        Warns:
            StoppingWarning: they are so few that one changed prediction counts for much.

        Raises:
            ConfigError: there is none.
        """
        key = keys(digests(ids), seed, _STREAM)
        among = np.flatnonzero(eligible.numpy())
        ranked = among[np.argsort(key[among], kind="stable")]
        rows = min(size, len(ranked))
        if not rows:
            raise ConfigError("a stop set is drawn from rows that came without a label, and the pool has none")
        if rows < SMALL:
            warnings.warn(
                f"the stop set holds only {rows} rows, and one changed prediction counts for {1 / rows:.2%}: "
                f"rules that read it are coarse below {SMALL} rows",
                StoppingWarning,
                stacklevel=4,
            )
        of = blake2b(key[ranked].tobytes(), digest_size=8).hexdigest()
        return cls(torch.from_numpy(ranked[:size].astype(np.int64)), of, size)

    def record(self, outputs: Outputs, labeled: Tensor) -> dict[str, Any]:
        """What `metrics.jsonl` keeps of a model's outputs for these rows.

        "predictions": the class of each row; a number with bit c set for each class c when multi-label. "labeled": the
        places of those that have a label by now. "uncertainty": the mean entropy of the others, as a share of the
        greatest possible; None without any.

        Args:
            outputs: `logits` of the rows, (n, C).
            labeled: which rows of the pool have a label, (N,) bool.
        """
        has_label = labeled[self.rows]
        logits: Tensor = outputs.logits.cpu()
        classes = logits.shape[1]
        open_probs: Tensor = outputs.probs.cpu()[~has_label]
        doubt = entropy(open_probs, multilabel=outputs.multilabel).double()
        greatest = math.log(2 if outputs.multilabel else max(2, classes))
        return {
            "of": self.of,
            "wanted": self.wanted,
            "multilabel": outputs.multilabel,
            "classes": classes,
            "predictions": _bits(logits > 0) if outputs.multilabel else logits.argmax(-1).tolist(),
            "labeled": has_label.nonzero().flatten().tolist(),
            "uncertainty": doubt.mean().item() / greatest if len(doubt) else None,
        }


def _bits(decisions: Tensor) -> list[int]:
    """Each row of (n, C) bool as a whole number with bit c set for each class c."""
    packed = np.packbits(decisions.numpy(), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]
