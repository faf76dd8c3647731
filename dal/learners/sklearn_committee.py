"""A committee of scikit-learn models on the embeddings of a frozen encoder."""

import importlib
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from dal.errors import ConfigError, LearnerError, NeedError, shortened
from dal.functional.checking import Options, shown
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.committee_learner import COMPUTED, consensus
from dal.learners.heads.head_posteriors import FLOOR, resamples, spawned
from dal.learners.inference import Collector
from dal.learners.probe_learner import check_encoder, embedded, prepare_vectors
from dal.learners.text.embeddings import Embedder
from dal.learners.text.tokenizers import locate
from dal.learners.training.devices import device_of
from dal.learners.training.saved_files import check_classes, check_kind, read_facts, read_tensors, refusing_damage
from dal.learners.training.training_labels import checked_labels, row_weights
from dal.outputs import Outputs, closure
from dal.store.atomic_files import replacing

_log = logging.getLogger("dal")

_FACTS = {
    "classes": list,
    "multilabel": bool,
    "estimators": list,
    "bootstrap": bool,
    "seed": int,
    "scikit-learn": str,
}
_SHAPES = {"mean": "D", "scale": "D", "vectors": "L D", "targets": "L C", "weights": "L"}
_ROWS = 1 << 14  # predicted at once
_EMBEDDINGS = frozenset({"embeddings"})


def _logistic(classes: int, each: bool) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, max_iter=1000)


def _random_forest(classes: int, each: bool) -> Any:
    """A hundred trees, fewer in each forest where every class has one of its own."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=_portion(classes, 20, 100) if each else 100)


def _gradient_boosting(classes: int, each: bool) -> Any:
    """Small trees on few thresholds and a tenth of the features each, made for some hundred rows.

    A step is one tree per class, so there are fewer steps with many classes. Without the penalty the rare answers of
    many classes make steps so large that the model is sure of nonsense.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=_portion(classes, 10, 40),
        learning_rate=0.3,
        l2_regularization=1.0,
        max_leaf_nodes=4,
        min_samples_leaf=3,
        max_bins=16,
        max_features=0.1,
        early_stopping=False,
    )


def _portion(classes: int, least: int, most: int) -> int:
    """How many trees each class gets of about a thousand."""
    return max(least, min(most, 1000 // classes))


#: The estimators that have a name of their own, for so many classes, and whether each class has one of its own.
ESTIMATORS: Mapping[str, Callable[[int, bool], Any]] = {
    "logistic": _logistic,
    "random_forest": _random_forest,
    "gradient_boosting": _gradient_boosting,
}


def make_estimator(name: str, seed: int, classes: int = 2, each: bool = False) -> Any:
    """An untrained classifier: one of `ESTIMATORS`, or the class at an import path with its default options.

    Raises:
        ConfigError: there is no such class, it cannot be made without options, or it tells no probabilities.
    """
    made = ESTIMATORS[name](classes, each) if name in ESTIMATORS else _imported(name)
    if not hasattr(made, "fit") or not hasattr(made, "predict_proba"):
        raise ConfigError(f"{name} has no fit or no predict_proba, so it cannot be a member of a committee")
    takes = made.get_params() if hasattr(made, "get_params") else {}
    seeded = {key: seed for key in takes if key == "random_state" or key.endswith("__random_state")}
    return made.set_params(**seeded) if seeded else made


def _imported(name: str) -> Any:
    module, _, kind = name.replace(":", ".").rpartition(".")
    if not module:
        raise ConfigError(
            f"unknown estimator {name!r}: there are {', '.join(ESTIMATORS)}, and import paths such as "
            "sklearn.neighbors.KNeighborsClassifier"
        )
    try:
        return getattr(importlib.import_module(module), kind)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"the estimator {name} cannot be made: {error}") from error


# Members


@dataclass(frozen=True, eq=False)
class Member:
    """A trained classifier over the C classes, of which it may not have seen all.

    Attributes:
        classes: C.
        multilabel: whether there is one estimator per class.
        estimators: one, or one per class.
        seen: the classes (codes) that the one has seen, in the order of its probabilities; multi-label: for each class
            the answers (0, 1) that its estimator has seen.
    """

    classes: int
    multilabel: bool
    estimators: tuple[Any, ...]
    seen: tuple[np.ndarray, ...]

    def logits(self, vectors: Any) -> np.ndarray:
        """(N, C) of vectors (N, D), dense or sparse: log-probabilities; log-odds when multi-label. All finite."""
        parts = [
            aligned(_probabilities(estimator, seen, vectors), seen, 2 if self.multilabel else self.classes)
            for estimator, seen in zip(self.estimators, self.seen, strict=True)
        ]
        logs = [np.log(part) for part in parts]
        return np.stack([part[:, 1] - part[:, 0] for part in logs], 1) if self.multilabel else logs[0]


def aligned(probs: np.ndarray, seen: np.ndarray, classes: int) -> np.ndarray:
    """Probabilities (N, C) from those of the seen classes (N, S): at least `FLOOR` each before rows are scaled to 1."""
    out = np.full((len(probs), classes), FLOOR)
    out[:, seen] = np.maximum(probs, FLOOR)
    out /= out.sum(1, keepdims=True)
    return out


def _probabilities(estimator: Any, seen: np.ndarray, vectors: Any) -> np.ndarray:
    """(N, S) of the classes that were seen; a model that has seen one is sure of it."""
    if len(seen) == 1:
        return np.ones((vectors.shape[0], 1))
    found: np.ndarray = estimator.predict_proba(vectors)
    return found


def fit_members(
    estimators: Sequence[str],
    vectors: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    seed: int,
    bootstrap: bool,
    multilabel: bool,
    monitor: Monitor = SILENT,
) -> list[Member]:
    """One member per estimator, each on a resample of its own. The same arguments give the same members.

    Shapes: vectors (L, D), targets (L, C) of zeros and ones, weights (L,).
    """
    from threadpoolctl import threadpool_limits

    monitor.started("fit", len(estimators))
    members = []
    with warnings.catch_warnings(), threadpool_limits(1):  # so few rows are fitted faster by one thread
        warnings.simplefilter("ignore")
        for name, own in zip(estimators, spawned(seed, len(estimators)), strict=True):
            members.append(_fit_member(name, own, vectors, targets, weights, bootstrap, multilabel))
            monitor.advanced(1)
    monitor.finished()
    return members


def _fit_member(
    name: str, seed: int, vectors: Tensor, targets: Tensor, weights: Tensor, bootstrap: bool, multilabel: bool
) -> Member:
    from sklearn.utils.validation import has_fit_parameter

    weighs = has_fit_parameter(make_estimator(name, seed), "sample_weight")
    generator = torch.Generator().manual_seed(seed)
    alike = bool((weights == weights[0]).all())
    if weighs or alike:
        counts = torch.ones(len(targets), dtype=torch.int64)
        if bootstrap:
            counts = resamples(targets, 1, generator, multilabel=multilabel, weights=weights)[0]
        rows = torch.arange(len(targets)).repeat_interleave(counts * (weights > 0))
    else:  # it takes no weights, so heavier rows are drawn more often
        rows = torch.multinomial(weights.double(), len(weights), replacement=True, generator=generator).sort().values
    x, w = vectors[rows].numpy(), weights[rows].numpy() if weighs and not alike else None
    answers = targets[rows].long()
    columns = answers.T.numpy() if multilabel else [answers.argmax(1).numpy()]
    classes = targets.shape[1]
    fitted = [fit_estimator(make_estimator(name, seed, classes, multilabel), x, column, w) for column in columns]
    return Member(classes, multilabel, tuple(fitted), tuple(np.unique(column) for column in columns))


def fit_estimator(estimator: Any, x: Any, y: np.ndarray, weights: np.ndarray | None) -> Any:
    """The estimator trained on rows x (L, D), dense or sparse; None where all answers y (L,) are alike."""
    if len(np.unique(y)) == 1:
        return None
    return estimator.fit(x, y) if weights is None else estimator.fit(x, y, sample_weight=weights)


# The learner


@dataclass(frozen=True, eq=False)
class Training:
    """All that the members follow from, besides the learner's options: what is saved in their place.

    Shapes: mean and scale (D,), vectors (L, D) standardised by them, targets (L, C), weights (L,).
    """

    mean: Tensor
    scale: Tensor
    vectors: Tensor
    targets: Tensor
    weights: Tensor


class SklearnPredictor(Predictor):
    """Trained members over cached embeddings; without members, the embeddings alone."""

    def __init__(
        self,
        learner: "SklearnCommittee",
        classes: tuple[str, ...],
        multilabel: bool,
        members: Sequence[Member] = (),
        training: Training | None = None,
        seed: int = 0,
    ) -> None:
        self._learner, self._training, self._seed = learner, training, seed
        self.classes, self.multilabel, self.members = classes, multilabel, tuple(members)

    @property
    def provides(self) -> frozenset[str]:
        """The raw names it computes."""
        return SklearnCommittee.provides if self.members else SklearnCommittee.label_free

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
        """The named outputs for `rows`, in one pass over the embeddings; always exact, whatever `seed`."""
        names = frozenset(names)
        if not self.members and (missing := names - closure(self.provides)):
            raise NeedError(f"{', '.join(sorted(missing))} cannot be read before anything is fitted")
        index = torch.arange(len(data)) if rows is None else rows.cpu()
        device = device_of(self._learner.device)
        collector = Collector(names, len(index), provides=self.provides, multilabel=data.multilabel, device=device)
        vectors = embedded(data, self._learner.embedder, monitor).inputs
        monitor.started("pass", len(index))
        for positions in torch.arange(len(index)).split(_ROWS):
            embeddings = vectors[index[positions]]
            computed = {"embeddings": embeddings}
            if collector.raw - _EMBEDDINGS:
                computed |= self._computed(embeddings.float(), data.multilabel)
            collector.put(positions, computed)
            monitor.advanced(len(positions))
        monitor.finished()
        return collector.outputs()

    def _computed(self, embeddings: Tensor, multilabel: bool) -> dict[str, Tensor]:
        assert self._training is not None
        standardised = ((embeddings - self._training.mean) * self._training.scale).numpy()
        votes = np.stack([member.logits(standardised) for member in self.members], 1)  # (N, K, C)
        mc_logits = torch.from_numpy(votes).float()
        return dict.fromkeys(COMPUTED, mc_logits) | {"logits": consensus(mc_logits, multilabel)}

    def save(self, folder: Path) -> None:
        """Write `training.safetensors` and `sklearn.json`: what the members were trained on, and with which seed.

        No estimator is written: scikit-learn has no format for them that cannot execute code.
        """
        import sklearn

        if self._training is None:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        facts = {
            "classes": list(self.classes),
            "multilabel": self.multilabel,
            "estimators": list(self._learner.names),
            "bootstrap": self._learner.bootstrap,
            "seed": self._seed,
            "scikit-learn": sklearn.__version__,
        }
        with replacing(Path(folder)) as target:
            tensors = {name: value.contiguous() for name, value in vars(self._training).items()}
            save_file(tensors, target / "training.safetensors")
            (target / "sklearn.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class SklearnCommittee(Learner):
    """Query by committee of different kinds of scikit-learn models, on the embeddings of a frozen encoder.

    Logistic regression, a random forest and gradient boosting make different mistakes; each is trained on a bootstrap
    resample of the labels (Abe and Mamitsuka 1998, "Query Learning Strategies Using Boosting and Bagging"). A class
    that a member has not seen gets a floor probability of it. `mc_logits` are the members' log-probabilities (log-odds
    when multi-label, where each member is one model per class), and `joint_mc_logits` as well; `logits` are those of
    the mean probability. There are no `features`: the members share no last layer.

    Nothing that could execute code is saved: the training vectors, labels and the seed are, and loading trains again.

    Args:
        model: hub name, folder, or `package:NAME/FOLDER` of an encoder; None when the rows are vectors already.
        max_length: tokens per text, the rest is cut off.
        estimators: "logistic", "random_forest", "gradient_boosting", or import paths of classifiers with
            `predict_proba`, such as sklearn.neighbors.KNeighborsClassifier, made with their default options.
        repeats: how many members of each kind.
        bootstrap: train each member on a resample of the labeled rows, drawn with replacement.
        class_weights: "balanced" gives every class the same total weight.
        precision: of the encoder: "auto" is bfloat16 where the hardware has it.
        token_budget: tokens per batch of the encoder, padding included; halved when memory runs out.
        device: where the encoder runs and outputs are; "auto" takes a GPU when there is one. Members run on the CPU.
    """

    model: str | None = "sentence-transformers/all-MiniLM-L6-v2"
    max_length: int = 128
    estimators: tuple[str, ...] = ("logistic", "random_forest", "gradient_boosting")
    repeats: int = 1
    bootstrap: bool = True
    class_weights: Literal["balanced"] | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    token_budget: int = 16384
    device: str = "auto"

    provides = frozenset({"logits", "embeddings", "mc_logits", "joint_mc_logits"})
    label_free = frozenset({"embeddings"})
    advice = "Different kinds of models that disagree where the embeddings alone do not decide; seconds per round."

    def __post_init__(self) -> None:
        check_encoder(self)
        options = Options(self)
        options.whole("repeats", least=1)
        options.flag("bootstrap")
        if isinstance(self.estimators, str) or not all(isinstance(name, str) for name in self.estimators):
            raise ConfigError(f"estimators of SklearnCommittee must be a list of names, not {shown(self.estimators)}")
        if len(self.names) < 2:
            raise ConfigError("a committee needs at least 2 members: name more estimators, or raise repeats")
        if self.repeats > 1 and not self.bootstrap:
            raise ConfigError("without bootstrap, repeats of an estimator would be alike: set repeats=1")
        for name in self.estimators:
            if name not in ESTIMATORS:
                make_estimator(name, 0)

    @property
    def names(self) -> tuple[str, ...]:
        """The kind of each member."""
        return self.estimators * self.repeats

    @property
    def embedder(self) -> Embedder | None:
        """What embeds texts; None when the rows are vectors already."""
        if self.model is None:
            return None
        return Embedder(locate(self.model), self.precision, self.token_budget, device_of(self.device))

    def prepare(self, data: Any) -> Prepared:
        """The rows tokenized, or as vectors where there is no encoder."""
        return prepare_vectors(data, self.model, self.max_length)

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
    ) -> SklearnPredictor:
        """Every member trained on these labels."""
        targets = checked_labels(labels, data.classes, data.multilabel)
        vectors = embedded(data, self.embedder, monitor)
        mean, scale = vectors.moments
        training = Training(
            mean,
            scale,
            (vectors.inputs[rows.cpu()].float() - mean) * scale,
            targets,
            row_weights(targets, weights, self.class_weights, data.multilabel),
        )
        return self._trained(training, data, seed, monitor)

    def untrained(self, data: Prepared) -> SklearnPredictor:
        """The embeddings alone."""
        return SklearnPredictor(self, data.classes, data.multilabel)

    def load(self, folder: Path, data: Prepared) -> SklearnPredictor:
        """The members that were saved, trained again on what they had been trained on.

        Raises:
            LearnerError: they were trained for other classes or by another learner, or what was saved is damaged.
        """
        import sklearn

        facts = read_facts(folder, "sklearn.json", _FACTS)
        check_classes(folder, facts["classes"], data.classes)
        check_kind(folder, facts["multilabel"], data.multilabel)
        if facts["estimators"] != list(self.names) or facts["bootstrap"] != self.bootstrap:
            held = shortened(", ".join(map(str, facts["estimators"])), 200)
            raise LearnerError(f"{folder} holds the members {held}, not this learner's")
        if facts["scikit-learn"] != sklearn.__version__:
            _log.warning(
                "%s was trained by scikit-learn %s and is trained again by %s: choices may differ",
                folder,
                facts["scikit-learn"],
                sklearn.__version__,
            )
        sizes = {"C": len(data.classes)}
        training = Training(**read_tensors(folder, "training.safetensors", lambda names: _SHAPES, sizes))
        with refusing_damage(folder, "training.safetensors"):
            binary = (training.targets == 0) | (training.targets == 1)
            if not bool(binary.all()) or bool((training.weights < 0).any()):
                raise ValueError("targets are not zeros and ones, or a weight is negative")
            return self._trained(training, data, facts["seed"], SILENT)

    def _trained(self, training: Training, data: Prepared, seed: int, monitor: Monitor) -> SklearnPredictor:
        members = fit_members(
            self.names,
            training.vectors,
            training.targets,
            training.weights,
            seed=seed,
            bootstrap=self.bootstrap,
            multilabel=data.multilabel,
            monitor=monitor,
        )
        return SklearnPredictor(self, data.classes, data.multilabel, members, training, seed)
