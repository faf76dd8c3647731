"""Committee of scikit-learn classifiers on the embeddings of a frozen encoder."""

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
from dal.learners.collector import Collector
from dal.learners.committee_learner import COMPUTED, consensus
from dal.learners.heads.head_posteriors import FLOOR, resamples, spawn_seeds
from dal.learners.probe_learner import check_encoder, prepare_vectors
from dal.learners.probe_predictor import embedded, fill_embeddings
from dal.learners.text.embeddings import EMBEDDINGS, Embedder
from dal.learners.training.devices import device_of
from dal.learners.training.saved_files import read_class_facts, read_tensors, refusing_damage
from dal.learners.training.training_labels import checked_labels, row_weights
from dal.outputs import Outputs, closure
from dal.store.atomic_files import replacing

_log = logging.getLogger("dal")

_FACTS = {
    "estimators": list,
    "bootstrap": bool,
    "seed": int,
    "scikit-learn": str,
}
_SHAPES = {"mean": "D", "scale": "D", "vectors": "L D", "targets": "L C", "weights": "L"}
_ROWS = 1 << 14  # rows per prediction batch


def _logistic(classes: int, each: bool) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=10.0, max_iter=1000)


def _random_forest(classes: int, each: bool) -> Any:
    """A forest of 100 trees, fewer if each class has its own forest."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=_trees_per_class(classes, 20, 100) if each else 100)


def _gradient_boosting(classes: int, each: bool) -> Any:
    """Small trees with few thresholds and a tenth of the features each, tuned for a few hundred rows.

    A boosting step fits one tree per class, so there are fewer steps for many classes. Without the L2 penalty, rare
    classes lead to very large steps and overconfident predictions.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=_trees_per_class(classes, 10, 40),
        learning_rate=0.3,
        l2_regularization=1.0,
        max_leaf_nodes=4,
        min_samples_leaf=3,
        max_bins=16,
        max_features=0.1,
        early_stopping=False,
    )


def _trees_per_class(classes: int, least: int, most: int) -> int:
    """Trees per class for a total of about 1000, between `least` and `most`."""
    return max(least, min(most, 1000 // classes))


#: Built-in estimators: name -> factory, called with the number of classes and whether each class has its own estimator.
ESTIMATORS: Mapping[str, Callable[[int, bool], Any]] = {
    "logistic": _logistic,
    "random_forest": _random_forest,
    "gradient_boosting": _gradient_boosting,
}


def make_estimator(name: str, seed: int, classes: int = 2, each: bool = False) -> Any:
    """Return an unfitted classifier: one of `ESTIMATORS`, or the class at an import path with its default options.

    Args:
        name: key of `ESTIMATORS`, or import path of a class.
        seed: value of every `random_state` parameter.
        classes: number of classes.
        each: whether each class has its own estimator.

    Raises:
        ConfigError: the class does not exist, requires options, or has no `predict_proba`.
    """
    estimator = ESTIMATORS[name](classes, each) if name in ESTIMATORS else _imported(name)
    if not hasattr(estimator, "fit") or not hasattr(estimator, "predict_proba"):
        raise ConfigError(f"{name} has no fit or no predict_proba, so it cannot be a member of a committee")
    params = estimator.get_params() if hasattr(estimator, "get_params") else {}
    # With the suffix, the seed of an estimator inside a pipeline or a calibrated classifier.
    seeded = {key: seed for key in params if key == "random_state" or key.endswith("__random_state")}
    return estimator.set_params(**seeded) if seeded else estimator


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
        raise ConfigError(f"the estimator {name} cannot be created: {error}") from error


# Members


@dataclass(frozen=True, eq=False)
class Member:
    """Trained classifier over C classes, some of which may be missing in its training rows.

    Attributes:
        classes: number C of classes.
        multilabel: whether there is one estimator per class.
        estimators: a single estimator, or one per class; None where all training targets were equal.
        seen: for each estimator, the targets in its training rows, in the order of its probabilities: class codes, or
            0 and 1 when multi-label.
    """

    classes: int
    multilabel: bool
    estimators: tuple[Any, ...]
    seen: tuple[np.ndarray, ...]

    def logits(self, vectors: Any) -> np.ndarray:
        """Return finite log-probabilities (N, C) of vectors (N, D), dense or sparse; log-odds when multi-label."""
        logs = []
        for estimator, seen in zip(self.estimators, self.seen, strict=True):
            # Estimators of a single class were not fitted: scikit-learn refuses to, and the class is certain anyway.
            probs = estimator.predict_proba(vectors) if len(seen) > 1 else np.ones((vectors.shape[0], 1))
            logs.append(np.log(aligned(probs, seen, 2 if self.multilabel else self.classes)))
        return np.stack([part[:, 1] - part[:, 0] for part in logs], 1) if self.multilabel else logs[0]


def aligned(probs: np.ndarray, seen: np.ndarray, classes: int) -> np.ndarray:
    """Expand probabilities (N, S) of the seen classes to (N, C), clipped below at `FLOOR` and normalised."""
    out = np.full((len(probs), classes), FLOOR)  # not 0: a class without labels so far remains possible
    out[:, seen] = np.maximum(probs, FLOOR)
    out /= out.sum(1, keepdims=True)
    return out


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
    """Train one member per estimator. The result is deterministic given the arguments.

    Args:
        estimators: names, see `make_estimator`.
        vectors: (L, D), standardised.
        targets: (L, C) of zeros and ones.
        weights: (L,), sample weights.
        seed: seed of the resamples and the estimators.
        bootstrap: whether to train each member on its own resample of the rows.
        multilabel: whether to train one estimator per class.
        monitor: receives the progress.
    """
    from threadpoolctl import threadpool_limits

    monitor.started("fit", len(estimators))
    members = []
    with warnings.catch_warnings(), threadpool_limits(1):  # with few rows, a single thread is faster
        warnings.simplefilter("ignore")
        for name, member_seed in zip(estimators, spawn_seeds(seed, len(estimators)), strict=True):
            members.append(_fit_member(name, member_seed, vectors, targets, weights, bootstrap, multilabel))
            monitor.advanced(1)
    monitor.finished()
    return members


def _fit_member(
    name: str, seed: int, vectors: Tensor, targets: Tensor, weights: Tensor, bootstrap: bool, multilabel: bool
) -> Member:
    from sklearn.utils.validation import has_fit_parameter

    weighted = has_fit_parameter(make_estimator(name, seed), "sample_weight")
    generator = torch.Generator().manual_seed(seed)
    uniform = bool((weights == weights[0]).all())
    if weighted or uniform:
        counts = torch.ones(len(targets), dtype=torch.int64)
        if bootstrap:
            counts = resamples(targets, 1, generator, multilabel=multilabel, weights=weights)[0]
        # Rows are repeated rather than weighted by their counts, since some estimators refuse weights.
        rows = torch.arange(len(targets)).repeat_interleave(counts * (weights > 0))
    else:  # the estimator has no sample_weight: draw rows in proportion to their weight instead
        rows = torch.multinomial(weights.double(), len(weights), replacement=True, generator=generator).sort().values
    x, w = vectors[rows].numpy(), weights[rows].numpy() if weighted and not uniform else None
    answers = targets[rows].long()
    columns = answers.T.numpy() if multilabel else [answers.argmax(1).numpy()]
    classes = targets.shape[1]
    fitted = [fit_estimator(make_estimator(name, seed, classes, multilabel), x, column, w) for column in columns]
    return Member(classes, multilabel, tuple(fitted), tuple(np.unique(column) for column in columns))


def fit_estimator(estimator: Any, x: Any, y: np.ndarray, weights: np.ndarray | None) -> Any:
    """Fit the estimator to x (L, D), dense or sparse, and targets y (L,). Returns None if all targets are equal."""
    if len(np.unique(y)) == 1:
        return None
    return estimator.fit(x, y) if weights is None else estimator.fit(x, y, sample_weight=weights)


# The learner


@dataclass(frozen=True, eq=False)
class Training:
    """Training set of the members, which is saved instead of the estimators.

    Shapes: mean and scale (D,), vectors (L, D) standardised by them, targets (L, C), weights (L,).
    """

    mean: Tensor
    scale: Tensor
    vectors: Tensor
    targets: Tensor
    weights: Tensor


class SklearnPredictor(Predictor):
    """Predictor of the committee on cached embeddings; without members, of the embeddings only."""

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
        """Raw outputs that it computes."""
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
        """Compute the named outputs of `rows` in one pass over the embeddings; always exact, regardless of `seed`."""
        names = frozenset(names)
        if not self.members and (missing := names - closure(self.provides)):
            raise NeedError(f"{', '.join(sorted(missing))} cannot be read before anything is fitted")
        index = torch.arange(len(data)) if rows is None else rows.cpu()
        device = device_of(self._learner.device)
        collector = Collector(names, len(index), provides=self.provides, multilabel=data.multilabel, device=device)
        vectors = embedded(data, self._learner.embedder, monitor)
        monitor.started("pass", len(index))
        for positions in torch.arange(len(index)).split(_ROWS):
            embeddings = vectors.take(index[positions])
            computed = {"embeddings": embeddings}
            if collector.raw - EMBEDDINGS:
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
        """Write the training set (`training.safetensors`), and the seed and options (`sklearn.json`).

        Estimators are not saved: formats of scikit-learn models can execute code when loaded.
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
    """Query by committee of different scikit-learn classifiers on the embeddings of a frozen encoder.

    Logistic regression, a random forest and gradient boosting make different errors. Each is trained on a bootstrap
    resample of the labels (Abe and Mamitsuka 1998, "Query Learning Strategies Using Boosting and Bagging"). Members
    assign a floor probability to classes missing in their training rows. `mc_logits` and `joint_mc_logits` are the
    log-probabilities of the members (log-odds when multi-label, with one estimator per class); `logits` are those of
    the mean probability. `features` are not provided, because the members have no common last layer.

    Saving stores the training vectors, labels and the seed, and loading trains again, because formats of scikit-learn
    models can execute code.

    Args:
        model: hub name, folder, `package:NAME/FOLDER` or GGUF file (`FOLDER/FILE.gguf`) of an encoder; None if the rows
            are vectors.
        max_length: maximum number of tokens per text; longer texts are truncated.
        estimators: "logistic", "random_forest", "gradient_boosting", or import paths of classifiers with
            `predict_proba`, such as sklearn.neighbors.KNeighborsClassifier, created with their default options.
        repeats: number of members per estimator.
        bootstrap: whether to train each member on a resample of the labeled rows, drawn with replacement.
        class_weights: "balanced" gives every class the same total weight; None weights rows equally.
        precision: precision of the encoder; "auto" is bfloat16 where the hardware supports it.
        token_budget: tokens per batch of the encoder, padding included; halved when memory runs out.
        device: device of the encoder and the outputs; "auto" uses a GPU if one is available. Members run on the CPU.
        cached_as: "float16" keeps embeddings in the cache in half the space; None in float32. See docs/cache.md.
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
    cached_as: Literal["float16"] | None = None

    provides = frozenset({"logits", "embeddings", "mc_logits", "joint_mc_logits"})
    label_free = frozenset({"embeddings"})
    advice = "Different models that disagree where the embeddings are ambiguous; seconds per round."

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
            raise ConfigError("without bootstrap, repeats of an estimator would be identical: set repeats=1")
        for name in self.estimators:
            if name not in ESTIMATORS:
                make_estimator(name, 0)

    @property
    def names(self) -> tuple[str, ...]:
        """Estimator name of each member."""
        return self.estimators * self.repeats

    @property
    def embedder(self) -> Embedder | None:
        """Embedder of texts; None if the rows are vectors."""
        return None if self.model is None else Embedder.of(self)

    @property
    def caches(self) -> frozenset[str]:  # type: ignore[override]
        """Embeddings, if the rows are texts."""
        return frozenset() if self.model is None else EMBEDDINGS

    def prepare(self, data: Any) -> Prepared:
        """Tokenize the rows, or return them as vectors if there is no encoder."""
        return prepare_vectors(data, self.model, self.max_length)

    def fill_cache(
        self, data: Prepared, names: Iterable[str] = frozenset(), *, monitor: Monitor = SILENT
    ) -> dict[str, int]:
        """Embed the texts that are not in the cache."""
        return fill_embeddings(data, self.embedder, monitor)

    def check_rows(self, data: Any) -> None:
        """Raise ConfigError or DataError if there is no encoder and the rows are not vectors."""
        if self.model is None:
            prepare_vectors(data.take([0]), None, self.max_length)

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
        """Train the members on the labeled rows."""
        targets = checked_labels(labels, data.classes, data.multilabel)
        vectors = embedded(data, self.embedder, monitor)
        mean, scale = vectors.moments
        training = Training(
            mean,
            scale,
            (vectors.take(rows.cpu()).float() - mean) * scale,
            targets,
            row_weights(targets, weights, self.class_weights, data.multilabel),
        )
        return self._trained(training, data, seed, monitor)

    def untrained(self, data: Prepared) -> SklearnPredictor:
        """Return a predictor that computes embeddings only."""
        return SklearnPredictor(self, data.classes, data.multilabel)

    def load(self, folder: Path, data: Prepared) -> SklearnPredictor:
        """Train the members again on the saved training set.

        Raises:
            LearnerError: the classes or the options of the learner differ, or a file is damaged.
        """
        import sklearn

        facts = read_class_facts(folder, "sklearn.json", data, _FACTS)
        if facts["estimators"] != list(self.names) or facts["bootstrap"] != self.bootstrap:
            saved = shortened(", ".join(map(str, facts["estimators"])), 200)
            raise LearnerError(f"{folder} holds the members {saved}, not this learner's")
        if facts["scikit-learn"] != sklearn.__version__:
            _log.warning(
                "%s was trained by scikit-learn %s and is trained again by %s: predictions may differ",
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
