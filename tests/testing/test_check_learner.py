"""Every check of the kit passes a right learner and fails on one that is wrong in that way."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dal.data import Rows
from dal.errors import DataError, LearnerError, NeedError
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.probe_learner import ProbeLearner
from dal.learners.transformer_learner import TransformerLearner
from dal.outputs import Outputs, closure
from dal.testing import LEARNER_CHECKS, ConformanceError, Report, check_learner, default_rows, learner_report


class Vectors(Prepared):
    """Rows that are vectors already."""

    def __init__(self, data: Rows) -> None:
        if not isinstance(data.inputs, Tensor):
            raise DataError("these rows are no vectors")
        self.classes, self.multilabel, self.inputs = data.classes, data.multilabel, data.inputs
        self.lengths = torch.ones(len(data), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, rows: Any) -> dict[str, Any]:
        return {"inputs": self.inputs[rows]}


class Averages(Predictor):
    """Logits are inner products with the mean vector of each class; samples drop dimensions of it."""

    def __init__(self, centers: Tensor | None, provides: frozenset[str]) -> None:
        self.centers, self.provides = centers, provides

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
        missing = frozenset(names) - closure(self.provides)
        if missing:
            raise NeedError(f"{sorted(missing)} cannot be computed")
        x = data.inputs if rows is None else data.inputs[rows]  # type: ignore[attr-defined]
        return Outputs(self.computed(x, seed), multilabel=data.multilabel)

    def computed(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        if self.centers is None:
            return {"features": x}
        masks = torch.rand(5, x.shape[1], generator=torch.Generator().manual_seed(seed)).round()
        joint = torch.einsum("nd,kd,cd->nkc", x, masks, self.centers)
        return {"features": x, "logits": x @ self.centers.T, "joint_mc_logits": joint}

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"centers": self.centers}, folder / "centers.safetensors")


@dataclass(frozen=True)
class ClassAverages(Learner):
    """A right learner, small enough to be read at a glance."""

    shrink: float = 0.5
    provides = frozenset({"logits", "features", "joint_mc_logits"})
    label_free = frozenset({"features"})
    predictor = Averages

    def prepare(self, data: Any) -> Prepared:
        return Vectors(data)

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
    ) -> Predictor:
        weights = torch.ones(len(rows)) if weights is None else weights
        member = torch.nn.functional.one_hot(labels, len(data.classes)) * weights[:, None]  # (L, C)
        x = data.inputs[rows]  # type: ignore[attr-defined]
        return type(self).predictor(member.T @ x / (self.shrink + member.sum(0)[:, None]), self.provides)

    def untrained(self, data: Prepared) -> Predictor:
        return type(self).predictor(None, self.label_free)

    def load(self, folder: Path, data: Prepared) -> Predictor:
        return type(self).predictor(load_file(folder / "centers.safetensors")["centers"], self.provides)


# Wrong ones, a class for each way


@dataclass(frozen=True)
class AnnotatedProvides(ClassAverages):
    provides: frozenset[str] = frozenset({"logits", "features", "joint_mc_logits"})


@dataclass(frozen=True)
class LabelFreeBeyondProvided(ClassAverages):
    label_free = frozenset({"features", "embeddings"})


@dataclass(frozen=True)
class LosesARow(ClassAverages):
    def prepare(self, data: Any) -> Prepared:
        return Vectors(data.take(torch.arange(len(data) - 1)))


@dataclass(frozen=True)
class FloatLengths(ClassAverages):
    def prepare(self, data: Any) -> Prepared:
        prepared = Vectors(data)
        prepared.lengths = prepared.lengths.float()
        return prepared


class WrongWidth(Averages):
    def computed(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        values = super().computed(x, seed)
        return {**values, "logits": values["logits"][:, :1]} if "logits" in values else values


class AllowsOnlyWhatIsAsked(Averages):
    """`probs` of outputs with `logits` cannot be read, as an evaluation does."""

    def outputs(self, data: Prepared, rows: Any = None, names: Any = frozenset(), **options: Any) -> Outputs:
        return super().outputs(data, rows, names, **options).declare(names)


class SortsRows(Averages):
    def computed(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        return super().computed(x[x[:, 0].argsort()], seed)


class LooksAtNeighbours(Averages):
    def computed(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        return super().computed(x - x.mean(0), seed)


class Unseeded(Averages):
    def computed(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        return super().computed(x, int.from_bytes(os.urandom(4)))


class NoDropout(Averages):
    def computed(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        values = super().computed(x, seed)
        return {name: value[:, :1].expand_as(value) if "mc" in name else value for name, value in values.items()}


class OneMaskPerRow(Averages):
    def computed(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        values = super().computed(x, seed)
        if "joint_mc_logits" in values:
            noise = torch.rand(values["joint_mc_logits"].shape, generator=torch.Generator().manual_seed(seed))
            values["joint_mc_logits"] = values["joint_mc_logits"] * noise
        return values


class AnswersAnything(Averages):
    def outputs(self, data: Prepared, rows: Any = None, names: Any = (), **options: Any) -> Outputs:
        held = super().outputs(data, rows, closure(self.provides), **options)
        missing = frozenset(names) - held.names
        return Outputs({**held._tensors, **{name: torch.zeros(len(held)) for name in missing}})


class ForgetsToSave(Averages):
    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"centers": torch.zeros_like(self.centers)}, folder / "centers.safetensors")


class SavesAPickle(Averages):
    def save(self, folder: Path) -> None:
        super().save(folder)
        torch.save(self.centers, folder / "centers.pt")


class NeedsANewFolder(Averages):
    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        super().save(folder)


class DrawsGlobally(Averages):
    def computed(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        torch.rand(1)
        return super().computed(x, seed)


def predicting(kind: type[Averages]) -> type[ClassAverages]:
    return dataclass(frozen=True)(type(f"With{kind.__name__}", (ClassAverages,), {"predictor": kind}))


@dataclass(frozen=True)
class DrawsItsFit(ClassAverages):
    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> Predictor:
        keep = torch.tensor(list(os.urandom(len(rows)))) % 2 == 0
        return super().fit(data, rows[keep], labels[keep], **options)


class ReadsWhatTheFitLeft(Averages):
    def outputs(self, data: Prepared, rows: Any = None, *args: Any, **options: Any) -> Outputs:
        shifted = Vectors.__new__(Vectors)
        shifted.inputs, shifted.multilabel = data.inputs - getattr(data, "shift", 0.0), data.multilabel
        return super().outputs(shifted, rows, *args, **options)


@dataclass(frozen=True)
class LeavesStateInPrepared(ClassAverages):
    predictor = ReadsWhatTheFitLeft

    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> Predictor:
        data.shift = data.inputs[rows].mean(0)  # type: ignore[attr-defined]
        return super().fit(data, rows, labels, **options)


@dataclass(frozen=True)
class RefusesWeights(ClassAverages):
    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> Predictor:
        if options.get("weights") is not None:
            raise TypeError("no weights, please")
        return super().fit(data, rows, labels, **options)


@dataclass(frozen=True)
class WritesToLabels(ClassAverages):
    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> Predictor:
        labels.zero_()
        return super().fit(data, rows, labels, **options)


@dataclass(frozen=True)
class DividesByNothing(ClassAverages):
    shrink: float = 0.0


@dataclass(frozen=True)
class CrashesOnOneClass(ClassAverages):
    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> Predictor:
        if len(labels.unique()) < 2:
            raise IndexError("which class?")
        return super().fit(data, rows, labels, **options)


@dataclass(frozen=True)
class RefusesOneClass(ClassAverages):
    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> Predictor:
        if len(labels.unique()) < 2:
            raise LearnerError("one class only")
        return super().fit(data, rows, labels, **options)


@dataclass(frozen=True)
class RemembersItsFit(ClassAverages):
    history: list[int] = field(default_factory=list, hash=False)

    def fit(self, data: Prepared, rows: Tensor, labels: Tensor, **options: Any) -> Predictor:
        self.history.append(len(rows))
        return super().fit(data, rows, labels, **options)


@dataclass(frozen=True)
class NothingIsLabelFree(ClassAverages):
    def untrained(self, data: Prepared) -> Predictor:
        raise LearnerError("train first")


WRONG: list[tuple[str, type[Learner]]] = [
    ("declaration", AnnotatedProvides),
    ("declaration", LabelFreeBeyondProvided),
    ("prepare", LosesARow),
    ("prepare", FloatLengths),
    ("provided names", predicting(WrongWidth)),
    ("provided names", predicting(AllowsOnlyWhatIsAsked)),
    ("row order", predicting(SortsRows)),
    ("row order", predicting(LooksAtNeighbours)),
    ("same seed, same outputs", predicting(Unseeded)),
    ("same seed, same outputs", DrawsItsFit),
    ("samples", predicting(NoDropout)),
    ("joint samples", predicting(NoDropout)),
    ("joint samples", predicting(OneMaskPerRow)),
    ("unknown name", predicting(AnswersAnything)),
    ("label-free names", NothingIsLabelFree),
    ("label-free names", predicting(AnswersAnything)),
    ("save and load", predicting(ForgetsToSave)),
    ("save and load", predicting(SavesAPickle)),
    ("save and load", predicting(NeedsANewFolder)),
    ("global randomness", predicting(DrawsGlobally)),
    ("fit options", RefusesWeights),
    ("fit options", WritesToLabels),
    ("single class", DividesByNothing),
    ("single class", CrashesOnOneClass),
    ("real loop", LeavesStateInPrepared),
    ("value", RemembersItsFit),
]


@pytest.fixture(scope="module")
def vectors() -> Rows:
    return default_rows("vectors")


def failures(report: Report) -> set[str]:
    return {result.name for result in report.failed}


@pytest.mark.parametrize(("check", "wrong"), WRONG, ids=lambda value: getattr(value, "__name__", value))
def test_each_check_fails_on_a_learner_wrong_in_its_way(check: str, wrong: type[Learner], vectors: Rows) -> None:
    report = learner_report(wrong(), vectors)
    assert check in failures(report), str(report)
    assert report[check].message


def test_report_names_the_options_that_differ_from_the_defaults(vectors: Rows) -> None:
    assert learner_report(ProbeLearner(model=None, samples=8), vectors).subject == "ProbeLearner(model=None, samples=8)"


def test_every_check_has_a_learner_that_it_fails_on() -> None:
    assert {check for check, _ in WRONG} == LEARNER_CHECKS.keys()


@pytest.mark.parametrize("learner", [ClassAverages(), ClassAverages(2.0), RefusesOneClass()], ids=repr)
def test_a_right_learner_passes(learner: Learner, vectors: Rows) -> None:
    assert check_learner(learner, vectors).ok


def test_data_are_made_up_for_a_learner_of_vectors_as_for_one_of_texts(tiny_bert: Path) -> None:
    assert check_learner(ClassAverages).ok
    assert check_learner(ProbeLearner(model=str(tiny_bert), precision="float32")).ok


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
def test_fine_tuning_passes(tiny_bert: Path) -> None:
    learner = TransformerLearner(str(tiny_bert), max_length=32, epochs=1, min_steps=2, max_steps=2, samples=3)
    assert check_learner(learner).ok


def test_the_probe_on_vectors_passes() -> None:
    assert check_learner(ProbeLearner(model=None)).ok


def test_the_probe_passes_on_multi_label_rows(vectors: Rows) -> None:
    labels = torch.stack([vectors.labels == 0, vectors.labels == 1, vectors.inputs[:, 0] > 1], 1)
    rows = Rows.from_inputs(vectors.inputs, labels, ("one", "two", "three"), multilabel=True)
    assert check_learner(ProbeLearner(model=None), rows).ok


def test_rows_without_a_label_are_not_trained_on(vectors: Rows) -> None:
    labels = [None if row % 3 == 0 else code for row, code in enumerate(vectors.labels.tolist())]
    rows = Rows.from_inputs(vectors.inputs, labels, ("0", "1"))
    assert check_learner(ClassAverages(), rows).ok


def test_a_failed_check_raises_an_error_that_holds_the_report(vectors: Rows) -> None:
    with pytest.raises(ConformanceError, match="fit with weights raised TypeError: no weights, please") as caught:
        check_learner(RefusesWeights(), vectors)
    assert failures(caught.value.report) == {"fit options"}


def test_a_learner_that_prepares_nothing_of_ours_asks_for_data() -> None:
    @dataclass(frozen=True)
    class Pictures(ClassAverages):
        def prepare(self, data: Any) -> Prepared:
            raise DataError("these are no pictures")

    message = learner_report(Pictures())["declaration"].message
    assert "pass data, in dal check with --data (texts: DataError: these are no pictures; vectors: DataError" in message


def test_a_learner_that_cannot_train_on_made_up_rows_asks_for_data_once(vectors: Rows) -> None:
    @dataclass(frozen=True)
    class Pictures(ClassAverages):
        def fit(self, data: Any, rows: Any, labels: Any, **options: Any) -> Any:
            if data.inputs.shape[1] == 12:
                raise RuntimeError("expected 8 x 8 pictures")
            return super().fit(data, rows, labels, **options)

    (result,) = learner_report(Pictures()).results
    assert result.message.startswith("RuntimeError: expected 8 x 8 pictures (on made-up vectors of 12 numbers, ")
    assert result.message.endswith("in dal check with --data)")
    pictures = Rows.from_inputs(vectors.inputs[:, :5], vectors.labels.tolist(), vectors.classes)
    assert learner_report(Pictures(), pictures).ok


def test_what_is_no_learner_at_all_is_said_plainly() -> None:
    report = learner_report(json.JSONDecoder)  # type: ignore[arg-type]
    assert "is not a dal.learner.Learner" in report["declaration"].message
