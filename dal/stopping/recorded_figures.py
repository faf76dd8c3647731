"""Figures recorded for stopping rules: money and time spent, and predictions for a fixed sample of the pool."""

import math
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dal.data.columns import digests
from dal.data.seeded_samples import keys
from dal.errors import ConfigError, NeedError, did_you_mean, printable
from dal.evaluation.own_metrics import BUILT_IN, MULTILABEL_ONLY
from dal.functional.uncertainty import entropy
from dal.learner import Learner
from dal.outputs import Outputs, closure, listing
from dal.stopping.measurement import has_measures
from dal.stopping.rule import Line, StoppingRule
from dal.store.events import Event
from dal.store.log_state import AnnotationTotals, work
from dal.store.proposals import Proposal, unbilled
from dal.store.unread_answers import Unread

#: Figures that a rule may read, with their descriptions for messages.
READS = {"spent": "what was spent", "validation": "scores on validation rows", "stop_set": "predictions for the pool"}

SMALL = 500  # rows of a stop set below which a warning tells how coarse it is

_STREAM = 0x570  # random stream of the sample, distinct from those of the shares and limits of `dal.data`


class StoppingWarning(UserWarning):
    """A stopping rule reads too few rows to be precise."""


def check(rule: StoppingRule, data: Any, learner: Learner, metrics: Collection[str] = ()) -> None:
    """Check that all figures that a rule reads can be recorded.

    Args:
        rule: stopping rule.
        data: a `dal.data.Splits`.
        learner: learner of the models that the rule measures.
        metrics: names of the metrics that are recorded in addition to the built-in ones.

    Raises:
        ConfigError: the rule reads an unknown figure or score, or validation rows that the data does not have.
        NeedError: the rule reads outputs that the learner does not provide.
    """
    name, unknown = type(rule).__name__, sorted(rule.needs - READS.keys())
    if unknown:
        raise ConfigError(f"{name} reads {', '.join(unknown)}, which no round records; recorded are {', '.join(READS)}")
    known = [*(each for each in BUILT_IN if data.pool.multilabel or each not in MULTILABEL_ONLY), *metrics]
    for score in sorted(rule.scores - set(known)):
        raise ConfigError(
            f"{name} reads the score {printable(score)!r}, which no round records{did_you_mean(score, known)}; "
            f"recorded are {', '.join(known)}, and what `metrics` and `objective` name"
        )
    provided = closure(learner.provides)
    if missing := (rule.stop_set_needs | rule.validation_needs) - provided:
        raise NeedError(
            f"{name} needs {listing(missing)}, which {type(learner).__name__} does not provide; it provides "
            f"{listing(provided)}"
        )
    if rule.stop_set_needs and not rule.stop_set:
        raise ConfigError(f"{name} reads {listing(rule.stop_set_needs)} of 0 rows: set its stop_set, such as 1000")
    reads_validation = "validation" in rule.needs or rule.validation_needs
    if reads_validation and (data.validation is None or not bool(data.validation.known.all())):
        raise ConfigError(
            f"{name} reads scores on validation rows, and the data has none: give data.validation a share such as 0.1"
        )


def holds(line: Line, rule: StoppingRule) -> bool:
    """Whether a line has all figures that the rule reads, and its measures."""
    wanted = line["stop_set"]["wanted"] if "stop_set" in line else 0
    complete = rule.needs <= line.keys() and (rule.stop_set <= wanted or "stop_set" not in rule.needs)
    return complete and has_measures(line, rule)


def spent(
    done: Iterable[Event] | AnnotationTotals,
    answers: int,
    proposals: Iterable[Proposal] = (),
    unread: Iterable[Unread] = (),
) -> dict[str, float]:
    """Total cost and time of all answers and skips, including those that were retracted later.

    Args:
        done: all events of a label store, or its `work`, which is faster.
        answers: number of rows that have an answer now.
        proposals: proposals of the label store. Their cost counts, except where an answer repeats them; the model's
            computing time does not.
        unread: model responses that could not be parsed, counted in the same way.
    """
    totals = done if isinstance(done, AnnotationTotals) else work(done)
    extra: list[Proposal | Unread] = [*unbilled(proposals, totals.paid), *unbilled(unread, totals.paid)]
    costs = [repeat(cost, count) for (_, cost, _), count in totals.done.items() if cost is not None]
    seconds = [repeat(duration, count) for (_, _, duration), count in totals.done.items() if duration is not None]
    unpriced = sum(count for (_, cost, _), count in totals.done.items() if cost is None)
    untimed = sum(count for (_, _, duration), count in totals.done.items() if duration is None)
    extra_costs = [each.cost for each in extra if each.cost is not None]
    return {
        "answers": answers,
        "dollars": math.fsum(chain(*costs, extra_costs)),  # fsum: the order of the answers must not change the total
        "unpriced": unpriced,
        "hours": math.fsum(chain(*seconds)) / 3600,
        "untimed": untimed,
    }


@dataclass(frozen=True, eq=False)
class StopSet:
    """Fixed sample of the pool on which successive models are compared.

    It is drawn by hashes of the row ids, so it depends neither on the order of the rows nor on the process, from the
    rows without a label in the data. Rows that are labeled later stay in it. A smaller stop set is a prefix of a
    larger one.

    Attributes:
        rows: (n,) int64 pool rows.
        digest: digest of the eligible rows; predictions are comparable only if the digests are equal.
        size: requested number of rows; there may be fewer.
    """

    rows: Tensor
    digest: str
    size: int

    @classmethod
    def draw(cls, ids: Any, eligible: Tensor, size: int, seed: int) -> "StopSet":
        """Draw up to `size` of the `eligible` rows, (N,) bool.

        Warns:
            StoppingWarning: fewer than 500 rows, so that a single changed prediction has a large effect.

        Raises:
            ConfigError: no row is eligible.
        """
        key = keys(digests(ids), seed, _STREAM)
        candidates = np.flatnonzero(eligible.numpy())
        ranked = candidates[np.argsort(key[candidates], kind="stable")]
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
        digest = blake2b(key[ranked].tobytes(), digest_size=8).hexdigest()
        return cls(torch.from_numpy(ranked[:size].astype(np.int64)), digest, size)

    def record(self, outputs: Outputs, has_label: Tensor) -> dict[str, Any]:
        """Summarise a model's outputs for these rows, as a JSON value for `metrics.jsonl`.

        "predictions": class of each row; when multi-label an integer with bit c set for each class c. "labeled":
        positions of the rows that have a label by now. "uncertainty": mean entropy of the unlabeled rows, divided by
        its maximum; None if there are none.

        Args:
            outputs: outputs of the rows with `logits`, (n, C).
            has_label: (n,) bool, whether a row has a label.
        """
        decisions, classes = outputs.decisions.cpu(), outputs.logits.shape[1]
        open_probs: Tensor = outputs.probs.cpu()[~has_label]
        entropies = entropy(open_probs, multilabel=outputs.multilabel).double()
        max_entropy = math.log(2 if outputs.multilabel else max(2, classes))
        return {
            "of": self.digest,
            "wanted": self.size,
            "multilabel": outputs.multilabel,
            "classes": classes,
            "predictions": _bits(decisions) if outputs.multilabel else decisions.tolist(),
            "labeled": has_label.nonzero().flatten().tolist(),
            "uncertainty": entropies.mean().item() / max_entropy if len(entropies) else None,
        }


def _bits(decisions: Tensor) -> list[int]:
    """Encode each row of (n, C) bool as an integer with bit c set for each class c."""
    packed = np.packbits(decisions.numpy(), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in packed]
