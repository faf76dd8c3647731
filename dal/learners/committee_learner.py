"""A committee of any learner: the same recipe with K seeds, or on K bootstrap resamples of the labels."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.errors import ConfigError, LearnerError, NeedError
from dal.functional.blocks import out_of_memory
from dal.functional.checking import Options, shown
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.heads.head_posteriors import resamples, spawned
from dal.learners.inference import Collector, on_one_device
from dal.learners.training.saved_files import read_facts
from dal.learners.training.training_labels import checked_labels, checked_weights
from dal.outputs import FOLDS, Outputs, closure, log_probs, sources
from dal.store.atomic_files import replacing

#: What a committee computes of its members' logits.
COMPUTED = frozenset({"logits", "mc_logits", "joint_mc_logits"})

_ROWS = 1 << 16  # of which the logits of all members are held before they are folded
_TRIED = 16  # rows on which two members are compared


def consensus(mc_logits: Tensor, multilabel: bool = False) -> Tensor:
    """Logits (N, C) whose probability is the mean of the members', from mc_logits (N, K, C). Finite everywhere."""
    count = math.log(mc_logits.shape[1])
    mean: Tensor = log_probs(mc_logits, multilabel).logsumexp(1) - count
    return mean - (log_probs(-mc_logits, True).logsumexp(1) - count) if multilabel else mean


class CommitteePredictor(Predictor):
    """Members that read the same rows one after the other; without members, what needs no training alone.

    Args:
        members: trained predictors, whose logits are over the same classes.
        reader: who is asked for label-free names.
        label_free: those names.
    """

    def __init__(self, members: Sequence[Predictor], reader: Predictor, label_free: frozenset[str]) -> None:
        self.members = tuple(members)
        self.approximate = any(member.approximate for member in members)
        self._reader, self._label_free = reader, label_free

    @property
    def provides(self) -> frozenset[str]:
        """The raw names it computes."""
        return self._label_free | COMPUTED if self.members else self._label_free

    def outputs(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        names: Iterable[str] = frozenset({"logits"}),
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Outputs:
        """The named outputs for `rows`, in one pass of each member. Samples are the members, whatever `seed`.

        The rows are read in blocks of 65,536, whose N*K*C logits are folded before the next block is read.
        """
        names = frozenset(names)
        if missing := names - closure(self.provides):
            when = "" if self.members else " before anything is fitted"
            raise NeedError(
                f"{', '.join(sorted(missing))} cannot be computed{when}: there is {', '.join(sorted(self.provides))}"
            )
        raw = frozenset(FOLDS.get(name, name) for name in sources(names))
        index = torch.arange(len(data)) if rows is None else rows.cpu()
        if not raw & COMPUTED:
            return self._reader.outputs(data, index, names, seed=seed, exact=exact, monitor=monitor)
        collector: Collector | None = None
        monitor.started("pass", len(index) * len(self.members))
        for positions in torch.arange(len(index)).split(_ROWS):
            read = self._read(data, index[positions], raw, seed=seed, exact=exact, monitor=_Part(monitor))
            if collector is None:
                where = next(iter(read.values())).device
                collector = Collector(
                    names, len(index), provides=self.provides, multilabel=data.multilabel, device=where
                )
            if not _gathered(collector, positions, read, raw, data.multilabel):
                read = {name: value.cpu() for name, value in read.items()}  # where there may be room for all members
                if not _gathered(collector, positions, read, raw, data.multilabel):
                    raise LearnerError(
                        f"the logits of {len(self.members)} members on {len(positions):,} rows do not fit into memory: "
                        "take fewer members, or set `candidates` to score a random part of the pool"
                    )
        monitor.finished()
        assert collector is not None  # no rows at all are one block as well
        return collector.outputs()

    def _read(self, data: Prepared, rows: Tensor, raw: frozenset[str], **options: Any) -> dict[str, Tensor]:
        """Each member's logits for one block of rows, by "member 0", ..., and the names that need no training."""
        free = raw - COMPUTED
        first, *others = self.members
        outputs = first.outputs(data, rows, {"logits"} | free, **options)
        read = {_member(0): outputs.logits} | {name: outputs[name] for name in free}
        for number, member in enumerate(others, 1):
            read[_member(number)] = member.outputs(data, rows, {"logits"}, **options).logits
        return on_one_device(read)

    def save(self, folder: Path) -> None:
        """Write each member into a folder of its own."""
        if not self.members:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        with replacing(Path(folder)) as target:
            for number, member in enumerate(self.members):
                member.save(_place(target, number))
            facts = json.dumps({"members": len(self.members)}, indent=1)
            (target / "committee.json").write_text(facts, encoding="utf-8")


@dataclass(frozen=True)
class CommitteeLearner(Learner):
    """K models of one recipe, trained from K seeds: deep ensembles, and query by committee for any model.

    `mc_logits` are the members' logits, and since a member is one function for every row, `joint_mc_logits` as well;
    `logits` are those of the mean probability. Training, the pass and the memory for weights cost K times as much as
    one model. Seung, Opper and Sompolinsky 1992, "Query by Committee"; Lakshminarayanan et al. 2017, "Simple and
    Scalable Predictive Uncertainty Estimation using Deep Ensembles"; with `bootstrap`, Abe and Mamitsuka 1998, "Query
    Learning Strategies Using Boosting and Bagging".

    There are no `features`, and so no `grads`: the mean probability follows from no single last layer. What needs no
    training, `embeddings` above all, is that of the recipe.

    Args:
        learner: the recipe.
        members: K.
        bootstrap: train each on a resample of the labeled rows, drawn with replacement. A recipe that does not depend
            on its seed, such as the probe, needs it.
    """

    learner: Learner
    members: int = 5
    bootstrap: bool = False

    advice = "Doubt of any model, at K times its price; a network's mc_mode 'laplace' or 'bootstrap' costs one pass."

    def __post_init__(self) -> None:
        if not isinstance(self.learner, Learner):
            raise ConfigError(f"learner of CommitteeLearner must be a learner, not {shown(self.learner)}")
        options = Options(self)
        options.whole("members", least=2, said="at least 2 to show any disagreement")
        options.flag("bootstrap")
        if "logits" not in self.learner.provides:
            raise ConfigError(f"{type(self.learner).__name__} provides no logits, so no committee of it can vote")

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """What follows from the members' logits, and what the recipe offers without training."""
        return COMPUTED | self.label_free

    @property
    def label_free(self) -> frozenset[str]:  # type: ignore[override]
        """As the recipe."""
        return frozenset(self.learner.label_free) - COMPUTED - {"features"}

    @property
    def warm_start(self) -> bool:
        """Whether each member goes on from its last round's weights, as the recipe says."""
        return bool(getattr(self.learner, "warm_start", False))

    def prepare(self, data: Any) -> Prepared:
        """As the recipe."""
        return self.learner.prepare(data)

    def fit(
        self,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        *,
        seed: int,
        weights: Tensor | None = None,
        validation: tuple[Prepared, Tensor] | None = None,
        previous: Predictor | None = None,
        monitor: Monitor = SILENT,
    ) -> CommitteePredictor:
        """The members trained one after the other.

        Raises:
            LearnerError: the recipe's own, or all members are alike.
        """
        targets = checked_labels(labels, data.classes, data.multilabel)
        sampled = self._resampled(targets, weights, data.multilabel, seed)
        before = previous.members if isinstance(previous, CommitteePredictor) else ()
        members: list[Predictor] = []
        for number, own in enumerate(spawned(seed, self.members)):
            chosen = sampled[number]
            member = self.learner.fit(
                data,
                rows.cpu()[chosen],
                labels.cpu()[chosen],
                seed=own,
                weights=None if weights is None else weights.cpu()[chosen],
                validation=validation,
                previous=before[number] if number < len(before) else None,
                monitor=monitor,
            )
            members.append(member)
            if number == 1:
                self._check_different(members, data, rows)
        return CommitteePredictor(members, members[0], self.label_free)

    def _resampled(self, targets: Tensor, weights: Tensor | None, multilabel: bool, seed: int) -> list[Tensor]:
        """The positions among the labeled rows that each member is trained on, ascending."""
        every = torch.arange(len(targets))
        if not self.bootstrap:
            return [every] * self.members
        generator = torch.Generator().manual_seed(spawned(seed, self.members + 1)[-1])
        checked = checked_weights(weights, len(targets))
        counts = resamples(targets, self.members, generator, multilabel=multilabel, weights=checked)
        return [every.repeat_interleave(count) for count in counts]

    def _check_different(self, members: Sequence[Predictor], data: Prepared, rows: Tensor) -> None:
        one, other = (member.outputs(data, rows[:_TRIED], {"logits"}, exact=True).logits for member in members)
        if torch.equal(one, other):
            name = type(self.learner).__name__
            how = "use another recipe" if self.bootstrap else "set bootstrap=true to train each on a resample"
            raise LearnerError(f"the members are all alike, because {name} does not depend on its seed: {how}")

    def untrained(self, data: Prepared) -> CommitteePredictor:
        """What the recipe offers without training."""
        return CommitteePredictor((), self.learner.untrained(data), self.label_free)

    def load(self, folder: Path, data: Prepared) -> CommitteePredictor:
        """The members that `save` wrote.

        Raises:
            LearnerError: there are not as many as this committee has, or what was saved is damaged.
        """
        facts = read_facts(folder, "committee.json", {"members": int})
        if facts["members"] != self.members:
            raise LearnerError(f"{folder} holds {facts['members']} members, this committee has {self.members}")
        members = [self.learner.load(_place(Path(folder), number), data) for number in range(self.members)]
        return CommitteePredictor(members, members[0], self.label_free)


def _member(number: int) -> str:
    return f"member {number}"


def _gathered(
    collector: Collector, positions: Tensor, read: Mapping[str, Tensor], raw: frozenset[str], multilabel: bool
) -> bool:
    """Compute the raw names from what the members gave, and put them to their rows. No when memory ran out."""
    members = [value for name, value in read.items() if name.startswith(_member(0)[:-1])]
    try:
        mc_logits = torch.stack(members, 1)  # (N, K, C)
        computed = {name: read[name] for name in raw - COMPUTED} | dict.fromkeys(COMPUTED, mc_logits)
        if "logits" in raw:
            computed["logits"] = consensus(mc_logits, multilabel)
        collector.put(positions, computed)
        return True
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False  # outside the handler, which would keep the tensors alive


class _Part(Monitor):
    """One member's pass over one block, told as a part of the whole."""

    def __init__(self, whole: Monitor) -> None:
        self._whole, self.token_budget = whole, whole.token_budget

    def advanced(self, count: int) -> None:
        self._whole.advanced(count)

    def halved(self, token_budget: int) -> None:
        self._whole.halved(token_budget)
        self.token_budget = self._whole.token_budget or token_budget


def _place(folder: Path, number: int) -> Path:
    return folder / f"member-{number}"
