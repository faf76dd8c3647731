"""Conformance checks for learners: one function per requirement."""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dal.errors import DalError, LearnerError, NeedError
from dal.functional.points import OuterPoints
from dal.learner import Learner, Predictor, Prepared
from dal.learners.training.saved_files import PICKLES
from dal.outputs import FOLLOWS, REDUCTIONS, Outputs, closure
from dal.testing.conformance_report import Check, CheckFailure, CheckSkipped, Report, Result, error_summary, run_checks
from dal.testing.real_loop import LABELED, check_loop
from dal.testing.values import check_names, check_plain, check_untouched, check_value, drawn_from, report_on, state_of

DECLARED = ("provides", "label_free")
SAMPLED = frozenset({"mc_logits", "joint_mc_logits"})
UNKNOWN = "no such name"

_THINGS = (("red apple", "green pear", "ripe plum", "sweet grape"), ("fast train", "old bus", "small boat", "red tram"))
_VERBS = ("we saw a", "there was a", "nobody wanted the", "she painted one", "please bring the")


def default_rows(kind: Literal["texts", "vectors"] = "texts", count: int = 40, seed: int = 0) -> Any:
    """Generate a `dal.data.Rows` of `count` labeled rows of two classes.

    The rows are short texts about fruit or vehicles, or vectors (count, 12) around two centers.
    """
    from dal.data import Rows

    random = np.random.default_rng(seed)
    labels = (np.arange(count) % 2).tolist()
    if kind == "vectors":
        noise = torch.tensor(random.normal(size=(count, 12)), dtype=torch.float32)
        return Rows.from_inputs(noise + 3.0 * torch.tensor(labels)[:, None], labels, ("one", "two"))
    texts = [
        f"{_VERBS[random.integers(len(_VERBS))]} {_THINGS[label][random.integers(4)]} {'again ' * (row % 4)}{row}"
        for row, label in enumerate(labels)
    ]
    return Rows.from_inputs(texts, labels, ("fruit", "vehicles"))


@dataclass(frozen=True, eq=False)
class Trial:
    """Learner and data of a test run, prepared and fitted once for all checks."""

    learner: Learner
    data: Any
    labels: Tensor
    seed: int
    tolerance: float

    @cached_property
    def prepared(self) -> Prepared:
        """Rows prepared by the learner."""
        return self.learner.prepare(self.data)

    @cached_property
    def known(self) -> Tensor:
        """Labeled rows, in random order."""
        labeled = self.labels >= 0 if self.labels.dim() == 1 else self.data.known
        rows = labeled.nonzero().flatten()
        return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(self.seed))]

    @cached_property
    def rows(self) -> Tensor:
        """Training rows: two thirds of the labeled rows."""
        return self.known[: max(2, len(self.known) * 2 // 3)]

    def fit(self, labels: Tensor | None = None, **options: Any) -> Predictor:
        """Train a predictor on `rows`."""
        given = self.labels[self.rows] if labels is None else labels.clone()
        return self.learner.fit(self.prepared, self.rows.clone(), given, seed=self.seed, **options)

    @cached_property
    def predictor(self) -> Predictor:
        """Predictor shared by all checks."""
        return self.fit()

    @cached_property
    def names(self) -> frozenset[str]:
        """Names that the learner provides, or that can be derived, except those refused."""
        return closure(frozenset(self.learner.provides) - self.refused)

    @cached_property
    def refused(self) -> frozenset[str]:
        """Label-free names for which this checkpoint lacks the weights, reported by a `LearnerError`."""
        return frozenset(name for name in self.learner.label_free if _lacks(self.learner, self.prepared, name))

    def outputs(self, names: Iterable[str], rows: Tensor | None = None, predictor: Predictor | None = None) -> Outputs:
        """Outputs of one exact pass."""
        chosen = predictor or self.predictor
        return chosen.outputs(self.prepared, rows, frozenset(names), seed=self.seed, exact=True)


def check_declaration(trial: Trial) -> None:
    """`provides` and `label_free` are plain sets of names, and label-free names are provided."""
    learner = trial.learner
    check_plain(learner, (*DECLARED, "advice"))
    check_names(learner, DECLARED)
    if not learner.provides:
        raise CheckFailure(f"{type(learner).__name__}.provides is empty: strategies have nothing to read")
    beyond = sorted(frozenset(learner.label_free) - closure(learner.provides))
    if beyond:
        raise CheckFailure(f"label_free names {beyond}, which provides does not contain")


def check_learner_value(trial: Trial) -> None:
    """A frozen dataclass, equal by value (except for factories) and hashable, which `fit` does not change."""
    check_value(trial.learner, uncompared=True)
    before = state_of(trial.learner)
    trial.fit()
    if state_of(trial.learner) != before:
        raise CheckFailure("fit changed the learner itself: trained state belongs in the predictor")


def check_prepared(trial: Trial) -> None:
    """`prepare` keeps the number of rows and the classes, and provides int64 lengths and batches."""
    prepared, count = trial.prepared, len(trial.data)
    if len(prepared) != count:
        raise CheckFailure(f"prepare returned {len(prepared)} rows for {count} rows of data")
    if tuple(prepared.classes) != tuple(trial.data.classes) or prepared.multilabel != trial.data.multilabel:
        raise CheckFailure(f"prepared.classes and multilabel must be the data's, got {prepared.classes}")
    lengths = prepared.lengths
    if lengths.shape != (count,) or lengths.dtype != torch.int64 or int(lengths.min()) < 1:
        raise CheckFailure(f"prepared.lengths must be ({count},) int64 of at least 1, got {_shown(lengths)}")
    batch = prepared.batch([2, 0, 1])
    wrong = {name: len(value) for name, value in batch.items() if isinstance(value, Tensor) and len(value) != 3}
    if wrong:
        raise CheckFailure(f"a batch of 3 rows has tensors with another number of rows: {wrong}")


def check_provided(trial: Trial) -> str:
    """All provided and derived names can be read: row-aligned, float32, finite, with the right shape."""
    outputs = trial.outputs(trial.names)
    count, classes = len(trial.data), len(trial.data.classes)
    if len(outputs) != count or outputs.multilabel != trial.data.multilabel:
        raise CheckFailure(
            f"outputs has {len(outputs)} rows for {count} rows of data (multilabel {outputs.multilabel})"
        )
    for name in sorted(trial.names):
        for tensor in _parts(outputs[name]):
            if len(tensor) != count or tensor.dtype != torch.float32:
                raise CheckFailure(f"{name!r} must be float32 with {count} rows, got {_shown(tensor)}")
            if not torch.isfinite(tensor).all():
                raise CheckFailure(f"{name!r} is NaN or infinite somewhere")
        _expect(name, outputs[name], count, classes, trial.learner.has_unknown_class)
    asked = frozenset(trial.learner.provides) - trial.refused
    provided = trial.outputs(asked)
    for name in sorted(trial.names - asked):
        try:
            provided[name]
        except NeedError as error:
            raise CheckFailure(
                f"outputs asked for {', '.join(sorted(asked))} refuse {name!r}, which is computed from them: return "
                "Outputs without `declared`"
            ) from error
    lacking = f"; this checkpoint lacks {', '.join(sorted(trial.refused))}" if trial.refused else ""
    return ", ".join(sorted(frozenset(trial.learner.provides) - trial.refused)) + lacking


def _expect(name: str, value: Any, count: int, classes: int, has_unknown_class: bool = False) -> None:
    if name == "mc_logits" and has_unknown_class and value.shape[-1] == classes + 1:
        classes += 1
    shapes: dict[str, tuple[int | None, ...]] = {
        "logits": (count, classes),
        "zero_shot_logits": (count, classes),
        "features": (count, None),
        "embeddings": (count, None),
        "mc_logits": (count, None, classes),
        "joint_mc_logits": (count, None, classes),
    }
    if name not in shapes:
        return
    want, got = shapes[name], tuple(value.shape)
    if len(want) != len(got) or any(w is not None and w != g for w, g in zip(want, got, strict=True)):
        letters = ", ".join("any" if w is None else str(w) for w in want)
        raise CheckFailure(f"{name!r} has shape {got}, expected ({letters})")


def check_row_order(trial: Trial) -> None:
    """Outputs for a subset of rows, in any order and with repetitions, equal those of a full pass."""
    names = _steady(trial)
    whole = trial.outputs(names)
    some = torch.tensor([5, 0, 3, 0, len(trial.data) - 1])
    part = trial.outputs(names, some)
    if len(part) != len(some):
        raise CheckFailure(f"outputs for {len(some)} rows has {len(part)} rows")
    for name in sorted(names):
        _same(
            part[name],
            whole[name][some.to(whole.device)],
            trial,
            f"{name!r} of some rows differs from that of a pass over all rows",
        )


def check_joint(trial: Trial) -> None:
    """Sample k of `joint_mc_logits` is one function: a repeated row gets the same samples at any position."""
    if "joint_mc_logits" not in trial.names:
        raise CheckSkipped("does not provide joint_mc_logits")
    twice = torch.arange(len(trial.data)).repeat(2)
    joint = trial.outputs({"joint_mc_logits"}, twice)["joint_mc_logits"]
    first, second = joint.chunk(2)
    _same(first, second, trial, "a row given twice got two sets of joint samples: sample k must be one function")
    if joint.shape[1] > 1 and torch.equal(joint[:, 0], joint[:, 1]):
        raise CheckFailure("all joint samples are equal")


def check_repeats(trial: Trial) -> None:
    """The same seed gives the same outputs and the same trained model."""
    first, second = trial.outputs(trial.names), trial.outputs(trial.names)
    for name in sorted(trial.names):
        _same(first[name], second[name], trial, f"two passes with the same seed differ in {name!r}")
    names = _steady(trial)
    refitted, first = trial.outputs(names, predictor=trial.fit()), trial.outputs(names)
    for name in sorted(names):
        _same(refitted[name], first[name], trial, f"two fits with the same seed differ in {name!r}")


def check_samples_follow_seed(trial: Trial) -> None:
    """Different seeds give different samples."""
    sampled = sorted(trial.names & SAMPLED)
    if not sampled:
        raise CheckSkipped("provides no samples")
    for name in sampled:
        one, other = (trial.predictor.outputs(trial.prepared, None, {name}, seed=seed)[name] for seed in (1, 2))
        if torch.equal(one, other) and one.shape[1] > 1 and not torch.equal(one[:, 0], one[:, 1]):
            raise CheckSkipped(f"{name!r} does not depend on the seed (a committee's does not)")
        if torch.equal(one[:, 0], one[:, -1]) and one.shape[1] > 1:
            raise CheckFailure(f"the samples of {name!r} are all equal: is dropout active?")


def check_unknown_name(trial: Trial) -> None:
    """A name that cannot be computed raises `NeedError`."""
    known = frozenset({"logits", "features", "embeddings", "mc_logits", "joint_mc_logits"})
    for name in [UNKNOWN, *sorted(known - trial.names)]:
        _refused(trial, trial.predictor, name, "which it does not provide")


def check_label_free(trial: Trial) -> None:
    """Label-free names, and only these, can be read before training."""
    free = closure(frozenset(trial.learner.label_free) - trial.refused)
    untrained = trial.learner.untrained(trial.prepared)
    if trial.learner.label_free:
        outputs = trial.outputs(free, predictor=untrained)
        for name in sorted(free):
            for tensor in _parts(outputs[name]):
                if len(tensor) != len(trial.data) or not torch.isfinite(tensor).all():
                    raise CheckFailure(
                        f"label-free {name!r} must be finite, with a row for each row of data, before training"
                    )
    for name in sorted(frozenset(trial.learner.provides) - closure(trial.learner.label_free)):
        _refused(trial, untrained, name, "which is not label-free, before training")


def check_saved(trial: Trial) -> None:
    """A saved and reloaded predictor gives the same outputs, and no pickle is written."""
    names = _steady(trial)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        folder.mkdir()  # a session saves into an empty folder, a user's script into one that does not exist
        trial.predictor.save(folder)
        trial.predictor.save(Path(parent) / "new" / "model")
        pickles = sorted(file.name for file in folder.rglob("*") if file.suffix in PICKLES)
        if pickles:
            raise CheckFailure(
                f"save wrote {', '.join(pickles)}: pickles can run code when they are loaded; write safetensors"
            )
        loaded = trial.learner.load(folder, trial.prepared)
        outputs, first = trial.outputs(names, predictor=loaded), trial.outputs(names)
    for name in sorted(names):
        _same(outputs[name], first[name], trial, f"{name!r} differs after save and load")


def check_randomness_kept(trial: Trial) -> None:
    """`fit` and `outputs` leave the global random generators unchanged."""
    trial.prepared  # noqa: B018 - preparing may import a library that draws random numbers
    before = drawn_from()
    predictor = trial.fit()
    check_untouched(before, "fit")
    trial.outputs(trial.names, predictor=predictor)
    check_untouched(before, "outputs")


def check_fit_options(trial: Trial) -> None:
    """`fit` accepts sample weights, validation rows and a previous predictor, and does not modify rows or labels."""
    rows, labels = trial.rows.clone(), trial.labels[trial.rows]
    trial.learner.fit(trial.prepared, rows, labels, seed=trial.seed)
    if not torch.equal(rows, trial.rows) or not torch.equal(labels, trial.labels[trial.rows]):
        raise CheckFailure("fit modified rows or labels: work on a copy")
    weights = torch.linspace(0.5, 1.5, len(rows))
    kept = trial.known[len(rows) :]
    validation = (trial.learner.prepare(trial.data.take(kept)), trial.labels[kept])
    options: dict[str, Any] = {"weights": weights, "validation": validation, "previous": trial.predictor}
    for name, value in options.items():
        try:
            predictor = trial.fit(**{name: value})
        except Exception as error:
            raise CheckFailure(f"fit with {name} raised {error_summary(error)}") from error
        if not all(torch.isfinite(part).all() for part in _read(trial, predictor)):
            raise CheckFailure(f"fit with {name} gave NaN or infinite outputs")


def check_learner_loop(trial: Trial) -> None:
    """A real session with the learner repeats its choices and its predictions after it is opened again."""
    from dal.data import Splits
    from dal.strategies.random import Random
    from dal.strategies.uncertainty import Margin

    if not bool(trial.data.known.all()):
        raise CheckSkipped("the rows have no labels of their own to answer with")
    predictions: list[Tensor] = []

    def watch(session: Any) -> None:
        outputs = session.predictor.outputs(session.prepared, torch.arange(5), {"logits"}, seed=trial.seed, exact=True)
        predictions.append(outputs["logits"].cpu())

    strategy = Margin() if "logits" in trial.names and not trial.refused & {"logits"} else Random()
    start = trial.known[: max(2, min(LABELED, len(trial.known) // 2))].sort().values
    check_loop(strategy, trial.learner, Splits(pool=trial.data), start=start, watch=watch)
    half = len(predictions) // 2
    for whole, again in zip(predictions[:half], predictions[half:], strict=True):
        _same(again, whole, trial, "a session that was opened again predicts otherwise: is all that was learned saved?")


def check_single_class(trial: Trial) -> str:
    """Labels of a single class either train a model with finite outputs or raise `LearnerError`."""
    labels = trial.labels[trial.rows]
    alike = torch.zeros_like(labels)
    try:
        predictor = trial.fit(alike)
    except LearnerError:
        return "refused with LearnerError"
    if not all(torch.isfinite(part).all() for part in _read(trial, predictor)):
        raise CheckFailure("labels of a single class gave NaN or infinite outputs: train, or raise LearnerError")
    return "trained"


def _read(trial: Trial, predictor: Predictor) -> list[Tensor]:
    outputs = trial.outputs(_steady(trial), predictor=predictor)
    return [part for name in _steady(trial) for part in _parts(outputs[name])]


def _steady(trial: Trial) -> frozenset[str]:
    """Names that do not depend on random samples."""
    return frozenset(
        n for n in trial.names if REDUCTIONS.get(n, n) not in SAMPLED and not FOLLOWS.get(n, set()) & SAMPLED
    )


def _lacks(learner: Learner, prepared: Prepared, name: str) -> bool:
    try:
        learner.untrained(prepared).outputs(prepared, torch.tensor([0]), {name})
    except LearnerError:
        return True
    except Exception:  # reported by the checks
        return False
    return False


def _refused(trial: Trial, predictor: Predictor, name: str, why: str) -> None:
    try:
        trial.outputs({name}, predictor=predictor)[name]
    except NeedError:
        return
    except Exception as error:
        raise CheckFailure(
            f"asked for {name!r}, {why}, it raised {error_summary(error)}: expected NeedError"
        ) from error
    raise CheckFailure(f"asked for {name!r}, {why}, it raised no error: expected NeedError")


def _parts(value: Any) -> tuple[Tensor, ...]:
    return (value.a, value.b) if isinstance(value, OuterPoints) else (value,)


def _shown(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _same(one: Any, other: Any, trial: Trial, message: str) -> None:
    for left, right in zip(_parts(one), _parts(other), strict=True):
        if left.shape != right.shape:
            raise CheckFailure(f"{message} (shapes {tuple(left.shape)} and {tuple(right.shape)})")
        gap = float((left - right).abs().max()) if left.numel() else 0.0
        if not gap <= trial.tolerance * max(1.0, float(right.abs().max())):
            raise CheckFailure(f"{message} (by {gap:.2g})")


#: Name -> check, in order of execution.
LEARNER_CHECKS: Mapping[str, Check] = {
    "declaration": check_declaration,
    "prepare": check_prepared,
    "provided names": check_provided,
    "row order": check_row_order,
    "same seed, same outputs": check_repeats,
    "samples": check_samples_follow_seed,
    "joint samples": check_joint,
    "unknown name": check_unknown_name,
    "label-free names": check_label_free,
    "save and load": check_saved,
    "global randomness": check_randomness_kept,
    "fit options": check_fit_options,
    "single class": check_single_class,
    "real loop": check_learner_loop,
    "value": check_learner_value,
}


def learner_report(
    learner: Learner | type[Learner],
    data: Any = None,
    labels: Tensor | None = None,
    *,
    seed: int = 0,
    tolerance: float = 1e-4,
) -> Report:
    """Run all checks on a learner and return the report. Failed checks do not raise.

    Args:
        learner: instance, or class that can be created without arguments. It is fitted about eight times.
        data: `dal.data.Rows` of at least six rows; `None` for generated texts, or vectors if the learner does not
            accept texts.
        labels: (N,) int64, or (N, C) bool when multi-label; `None` for the labels of the data.
        seed: seed of fits and passes.
        tolerance: largest allowed difference of outputs that should be equal, relative to the largest output.

    Raises:
        LearnerError: the model of the learner is refused, whatever the rows.
    """

    def run(subject: str, made: Learner) -> Report:
        rows = _fitting(made) if data is None else data
        trial = Trial(made, rows, rows.labels if labels is None else labels, seed, tolerance)
        if data is None and (message := _unreadable(trial)):
            return Report(subject, (Result("made-up rows", "failed", message),))
        return run_checks(subject, LEARNER_CHECKS, trial)

    return report_on(learner, Learner, "dal.learner.Learner", run)


def _fitting(learner: Learner) -> Any:
    refusals, errors = [], []
    for kind in ("texts", "vectors"):
        rows = default_rows(kind)  # type: ignore[arg-type]
        try:
            learner.prepare(rows)
        except (DalError, TypeError, ValueError, AttributeError) as error:
            refusals.append(f"{kind}: {error_summary(error)}")
            errors.append(error)
        else:
            return rows
    if isinstance(errors[0], LearnerError) and str(errors[0]) == str(errors[1]):
        raise errors[0]  # about the learner, not about the rows
    raise CheckFailure(
        "prepare accepts neither generated texts nor vectors: pass data, in dal check with --data "
        f"({'; '.join(refusals)})"
    )


def _unreadable(trial: Trial) -> str:
    """Why the learner cannot be trained on generated rows, with the way out; empty if it can.

    Every other check would fail with the same message, and without the reason.
    """
    try:
        trial.outputs({"logits"} & trial.names or trial.names)
    except Exception as error:  # a plugin may raise anything
        made = "texts" if isinstance(trial.data.inputs[0], str) else "vectors of 12 numbers"
        return (
            f"{error_summary(error)} (on made-up {made}, without which nothing else can be checked: pass labeled rows "
            "that it reads, in dal check with --data)"
        )
    return ""


def check_learner(
    learner: Learner | type[Learner],
    data: Any = None,
    labels: Tensor | None = None,
    *,
    seed: int = 0,
    tolerance: float = 1e-4,
) -> Report:
    """Run `learner_report` and raise if a check failed.

    Raises:
        ConformanceError: a check failed; the message lists the failures, `error.report` holds all results.

    Example:
        >>> from dal.testing import check_learner
        >>> check_learner(MyLearner(), rows)  # doctest: +SKIP
    """
    return learner_report(learner, data, labels, seed=seed, tolerance=tolerance).require()
