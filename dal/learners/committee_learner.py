"""Committee of K models of one learner, trained with different seeds or on bootstrap resamples of the labels."""

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dal.errors import ConfigError, LearnerError, NeedError
from dal.functional.blocks import out_of_memory
from dal.functional.checking import Options, shown
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.collector import Collector
from dal.learners.heads.head_posteriors import resamples, spawn_seeds
from dal.learners.inference import on_one_device
from dal.learners.pass_store import joined_passes, rows_from
from dal.learners.ranks import Job, NotShareableError, current_ranks
from dal.learners.training.saved_files import read_facts
from dal.learners.training.training_labels import checked_labels, checked_weights
from dal.outputs import REDUCTIONS, Outputs, closure, log_probs, sources
from dal.store.atomic_files import replacing

_log = logging.getLogger("dal")

#: Raw outputs that a committee computes from the logits of its members.
COMPUTED = frozenset({"logits", "mc_logits", "joint_mc_logits"})

_ROWS = 1 << 16  # rows per block; the logits of all members are held for one block at a time
_COMPARED = 16  # rows on which two members are compared


def consensus(mc_logits: Tensor, multilabel: bool = False) -> Tensor:
    """Return finite logits (N, C) of the mean probability over the members, from mc_logits (N, K, C)."""
    count = math.log(mc_logits.shape[1])
    mean: Tensor = log_probs(mc_logits, multilabel).logsumexp(1) - count
    # The log-odds of the mean, log p - log (1 - p), from both logarithms: 1 - p would cancel near 1.
    return mean - (log_probs(-mc_logits, True).logsumexp(1) - count) if multilabel else mean


class CommitteePredictor(Predictor):
    """Predictor of a committee; without members, of the label-free outputs only.

    Args:
        members: trained predictors over the same classes.
        reader: predictor used for the label-free outputs.
        label_free: names of the label-free outputs.
    """

    def __init__(self, members: Sequence[Predictor], reader: Predictor, label_free: frozenset[str]) -> None:
        self.members = tuple(members)
        self.approximate = any(member.approximate for member in members)
        self._reader, self._label_free = reader, label_free

    @property
    def provides(self) -> frozenset[str]:
        """Raw outputs that it computes."""
        return self._label_free | COMPUTED if self.members else self._label_free

    @property
    def thresholds(self) -> Tensor | None:  # type: ignore[override]
        """Thresholds (C,) of the mean probability: the means of the members' thresholds, as probabilities."""
        given = [member.thresholds for member in self.members if member.thresholds is not None]
        if not given:
            return None
        each = [given[0].new_zeros(len(given[0])) if m.thresholds is None else m.thresholds for m in self.members]
        return consensus(torch.stack(each)[None], multilabel=True)[0]

    def around_thresholds(self) -> "CommitteePredictor":
        """The committee whose members' logits are 0 where they begin to assign a class."""
        members = [member.around_thresholds() for member in self.members]
        same = all(new is old for new, old in zip(members, self.members, strict=True))
        return self if same else CommitteePredictor(members, self._reader, self._label_free)

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
        """Compute the named outputs of `rows`, in one pass per member. Samples are the members, regardless of `seed`.

        Rows are processed in blocks of 65,536, so that raw logits (N, K, C) are held for one block at a time. What a
        long pass of a member stores is kept until the end of that of the committee.
        """
        names = frozenset(names)
        if missing := names - closure(self.provides):
            when = "" if self.members else " before anything is fitted"
            raise NeedError(
                f"{', '.join(sorted(missing))} cannot be computed{when}: there is {', '.join(sorted(self.provides))}"
            )
        raw = frozenset(REDUCTIONS.get(name, name) for name in sources(names))
        index = torch.arange(len(data)) if rows is None else rows.cpu()
        if not raw & COMPUTED:
            return self._reader.outputs(data, index, names, seed=seed, exact=exact, monitor=monitor)
        collector: Collector | None = None
        monitor.started("pass", len(index) * len(self.members))
        with joined_passes():
            for first in range(0, max(1, len(index)), _ROWS):  # zero rows are one empty block
                block = index[first : first + _ROWS]
                with rows_from(first):
                    read = self._read(data, block, raw, seed=seed, exact=exact, monitor=_Part(monitor))
                if collector is None:
                    where = next(iter(read.values())).device
                    collector = Collector(
                        names, len(index), provides=self.provides, multilabel=data.multilabel, device=where
                    )
                self._collect(collector, torch.arange(first, first + len(block)), read, raw, data.multilabel)
        monitor.finished()
        assert collector is not None
        return collector.outputs(self.thresholds)

    def _read(self, data: Prepared, rows: Tensor, raw: frozenset[str], **options: Any) -> dict[str, Tensor]:
        """The members' logits for one block of rows, keyed "member 0", ..., and the label-free outputs."""
        free = raw - COMPUTED  # equal for all members, so the first one reads them along with its logits
        first, *others = self.members
        outputs = first.outputs(data, rows, {"logits"} | free, **options)
        read = {_member(0): outputs.logits} | {name: outputs[name] for name in free}
        for number, member in enumerate(others, 1):
            read[_member(number)] = member.outputs(data, rows, {"logits"}, **options).logits
        return on_one_device(read)

    def _collect(
        self, collector: Collector, positions: Tensor, read: dict[str, Tensor], raw: frozenset[str], multilabel: bool
    ) -> None:
        """Compute the raw outputs of a block from those of its members, and store them."""
        if _gathered(collector, positions, read, raw, multilabel):
            return
        read = {name: value.cpu() for name, value in read.items()}  # retry with the larger memory of the host
        if not _gathered(collector, positions, read, raw, multilabel):
            raise LearnerError(
                f"the logits of {len(self.members)} members on {len(positions):,} rows do not fit into memory: use "
                "fewer members, or set `candidates` to score a random part of the pool"
            )

    def save(self, folder: Path) -> None:
        """Write each member to a subfolder, and `committee.json`."""
        if not self.members:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        with replacing(Path(folder)) as target:
            for number, member in enumerate(self.members):
                member.save(_folder(target, number))
            facts = json.dumps({"members": len(self.members)}, indent=1)
            (target / "committee.json").write_text(facts, encoding="utf-8")


@dataclass(frozen=True)
class CommitteeLearner(Learner):
    """Ensemble of K models of one learner: deep ensembles, and query by committee for any model.

    `mc_logits` are the logits of the members. They are provided as `joint_mc_logits` as well, because a member is one
    function of all rows. `logits` are those of the mean probability. Training, prediction and memory cost K times as
    much as one model. Seung, Opper and Sompolinsky 1992, "Query by Committee"; Lakshminarayanan et al. 2017, "Simple
    and Scalable Predictive Uncertainty Estimation using Deep Ensembles"; with `bootstrap`, Abe and Mamitsuka 1998,
    "Query Learning Strategies Using Boosting and Bagging".

    `features` and `grads` are not provided, because the mean probability has no single last layer. Label-free outputs,
    such as `embeddings`, are those of the learner.

    Args:
        learner: learner of the members.
        members: number K of members, at least 2.
        bootstrap: whether to train each member on a resample of the labeled rows, drawn with replacement. Required for
            learners that do not depend on their seed, such as the probe.
    """

    learner: Learner
    members: int = 5
    bootstrap: bool = False

    advice = "Uncertainty of any model at K times its cost; for networks, mc_mode 'laplace' or 'bootstrap' is cheaper."

    def __post_init__(self) -> None:
        if not isinstance(self.learner, Learner):
            raise ConfigError(f"learner of CommitteeLearner must be a learner, not {shown(self.learner)}")
        options = Options(self)
        options.whole("members", least=2, description="at least 2 to show any disagreement")
        options.flag("bootstrap")
        if "logits" not in self.learner.provides:
            raise ConfigError(f"{type(self.learner).__name__} provides no logits, so no committee of it can vote")

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """Raw outputs after fitting: those computed from the members' logits, and the label-free ones."""
        return COMPUTED | self.label_free

    @property
    def label_free(self) -> frozenset[str]:  # type: ignore[override]
        """Label-free outputs of the learner, except those that a committee computes itself."""
        return frozenset(self.learner.label_free) - COMPUTED - {"features"}

    @property
    def reads_descriptions(self) -> bool:  # type: ignore[override]
        """Whether the members depend on the descriptions of the classes."""
        return self.learner.reads_descriptions

    @property
    def warm_start(self) -> bool:
        """Whether each member starts from its weights of the previous round: the learner's own setting."""
        return bool(getattr(self.learner, "warm_start", False))

    def prepare(self, data: Any) -> Prepared:
        """Prepare the rows with the learner."""
        return self.learner.prepare(data)

    @property
    def caches(self) -> frozenset[str]:  # type: ignore[override]
        """Values that the members' learner keeps on disk."""
        return self.learner.caches

    def fill_cache(
        self, data: Prepared, names: Iterable[str] = frozenset(), *, monitor: Monitor = SILENT
    ) -> Mapping[str, int]:
        """Compute what the members' learner keeps on disk."""
        read = frozenset(names)
        # Outputs that the committee computes are computed from the members' logits.
        members = read & self.label_free | ({"logits"} if read - self.label_free else frozenset())
        return self.learner.fill_cache(data, members, monitor=monitor)

    def check_rows(self, data: Any) -> None:
        """Raise the error of the members' learner for rows of the wrong kind."""
        self.learner.check_rows(data)

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
        """Train the members one after the other, or one on each rank.

        Raises:
            LearnerError: the learner failed, or all members are identical.
        """
        targets = checked_labels(labels, data.classes, data.multilabel)
        sampled = self._resampled(targets, weights, data.multilabel, seed)
        earlier = previous.members if isinstance(previous, CommitteePredictor) else ()
        jobs = [
            Job(
                _fit_member,
                (self.learner, data, rows.cpu()[chosen], labels.cpu()[chosen]),
                {
                    "seed": member_seed,
                    "weights": None if weights is None else weights.cpu()[chosen],
                    "validation": validation,
                    "previous": earlier[number] if number < len(earlier) else None,
                },
            )
            for number, (chosen, member_seed) in enumerate(zip(sampled, spawn_seeds(seed, self.members), strict=True))
        ]
        members: list[Predictor] = []
        for fitted in self._fitted(jobs, monitor):
            members.append(fitted)
            if len(members) == 2:
                self._check_different(members, data, rows)
        return CommitteePredictor(members, members[0], self.label_free)

    def _fitted(self, jobs: Sequence[Job], monitor: Monitor) -> Iterator[Predictor]:
        """Fit the members one after the other, or one on each rank if their fits take most of their time there."""
        ranks, learner = current_ranks(), self.learner
        # Encoders that are adapted, and states of a cached trunk, are stored on this computer, once for all members.
        alone = not hasattr(learner, "trainer") or getattr(learner, "adapt", None) or getattr(learner, "trunk", None)
        if ranks is not None and ranks.size > 1 and not alone:
            try:
                for start in range(0, len(jobs), ranks.size):
                    yield from ranks.run("fit", jobs[start : start + ranks.size], monitor)
                return
            except NotShareableError as error:  # of the first jobs, since all are alike
                _log.warning("members are trained on rank 0 alone: %s", error)
        for job in jobs:
            yield job(monitor)

    def _resampled(self, targets: Tensor, weights: Tensor | None, multilabel: bool, seed: int) -> list[Tensor]:
        """Positions of each member's training rows among the labeled rows, ascending, with repetitions."""
        every = torch.arange(len(targets))
        if not self.bootstrap:
            return [every] * self.members
        generator = torch.Generator().manual_seed(spawn_seeds(seed, self.members + 1)[-1])
        checked = checked_weights(weights, len(targets))
        counts = resamples(targets, self.members, generator, multilabel=multilabel, weights=checked)
        return [every.repeat_interleave(count) for count in counts]

    def _check_different(self, members: Sequence[Predictor], data: Prepared, rows: Tensor) -> None:
        one, other = (member.outputs(data, rows[:_COMPARED], {"logits"}, exact=True).logits for member in members)
        if torch.equal(one, other):
            name = type(self.learner).__name__
            how = "use another learner" if self.bootstrap else "set bootstrap=true to train each on a resample"
            raise LearnerError(f"the members are identical, because {name} does not depend on its seed: {how}")

    def untrained(self, data: Prepared) -> CommitteePredictor:
        """Return a predictor of the label-free outputs."""
        return CommitteePredictor((), self.learner.untrained(data), self.label_free)

    def load(self, folder: Path, data: Prepared) -> CommitteePredictor:
        """Load the members written by `save`.

        Raises:
            LearnerError: the number of members differs from this committee's, or a file is damaged.
        """
        facts = read_facts(folder, "committee.json", {"members": int})
        if facts["members"] != self.members:
            raise LearnerError(f"{folder} holds {facts['members']} members, this committee has {self.members}")
        members = [self.learner.load(_folder(Path(folder), number), data) for number in range(self.members)]
        return CommitteePredictor(members, members[0], self.label_free)


def _fit_member(
    learner: Learner, data: Prepared, rows: Tensor, labels: Tensor, *, monitor: Monitor, **options: Any
) -> Predictor:
    """Train a member, on any rank."""
    return learner.fit(data, rows, labels, monitor=monitor, **options)


def _member(number: int) -> str:
    return f"member {number}"


def _gathered(
    collector: Collector, positions: Tensor, read: Mapping[str, Tensor], raw: frozenset[str], multilabel: bool
) -> bool:
    """Compute the raw outputs of a block from its members and store them. Returns False if memory ran out."""
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
    return False  # outside the handler, whose traceback keeps the tensors alive


class _Part(Monitor):
    """Monitor of one member's pass over one block, which reports to the monitor of the whole pass."""

    def __init__(self, whole: Monitor) -> None:
        self._whole, self.token_budget = whole, whole.token_budget

    def advanced(self, count: int) -> None:
        self._whole.advanced(count)

    def halved(self, token_budget: int) -> None:
        self._whole.halved(token_budget)
        self.token_budget = self._whole.token_budget or token_budget


def _folder(folder: Path, number: int) -> Path:
    return folder / f"member-{number}"
