"""Linear classifier on frozen embeddings, fitted in about a second, with a posterior over its weights."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.data.class_descriptions import DESCRIPTIONS
from dal.errors import ConfigError, LearnerError
from dal.functional.checking import Options, model_name
from dal.functional.class_shares import logit_adjustment, share_thresholds
from dal.functional.drawing import spread_rows
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.heads.described_head import (
    ZERO_SHOT,
    ZERO_SHOT_STRENGTH,
    ZeroShotHead,
    choose_strength,
    class_directions,
)
from dal.learners.heads.head_posteriors import DrawnBy
from dal.learners.heads.linear_head import LinearHead, fit_linear_head, head_shapes, moved, shifted
from dal.learners.heads.self_training import SAMPLE, HeadFit, self_train
from dal.learners.inference import DEFAULT_SAMPLES, Precision
from dal.learners.probe_predictor import TRAINED, ProbePredictor, embedded, fill_embeddings
from dal.learners.text.embeddings import EMBEDDINGS, CachedAs, Embedder
from dal.learners.text.surprisal import SURPRISAL, Surprisal
from dal.learners.text.tokenizers import prepare_described_texts, prepare_texts
from dal.learners.text.tokens import TextPrepared
from dal.learners.training.devices import device_of, named_device
from dal.learners.training.saved_files import read_class_facts, read_tensors
from dal.learners.training.tensor_rows import TensorPrepared, prepare_tensors
from dal.learners.training.training_labels import checked_labels, row_weights
from dal.objective import DEFAULT, Objective, ObjectiveWord, RecallOf, as_objective

_THRESHOLD_ROWS = 20_000  # rows whose logits decide the thresholds of classes

#: Strength of the logit adjustment by objective, chosen leaving one of seven data sets out (docs/objectives.md).
_ADJUSTMENT: Mapping[ObjectiveWord, float] = {
    "accuracy": 0.5,
    "micro_f1": 0.5,  # the accuracy, with one class a row
    "macro_f1": 0.75,
    "balanced_accuracy": 1.0,
    "log_loss": 0.0,
}

#: The same for a head of labels and pseudo-labels, which have part of it already (docs/self_training.md).
_SELFTRAINED_ADJUSTMENT: Mapping[ObjectiveWord, float] = {
    "accuracy": 0.25,
    "micro_f1": 0.25,
    "macro_f1": 0.375,
    "balanced_accuracy": 0.75,
    "log_loss": 0.0,
}


def adjustment_strength(objective: Objective | None, *, self_trained: bool = False) -> float:
    """Strength of the logit adjustment for an objective, where a row has one class; None is the accuracy."""
    # The recall of one class at a precision depends on the order of the rows by p(class | x) alone, and no other order
    # has a higher recall where p is right: a shift of the other classes would change the order.
    strengths = _SELFTRAINED_ADJUSTMENT if self_trained else _ADJUSTMENT
    return 0.0 if isinstance(objective, RecallOf) else strengths[objective or DEFAULT]


def check_encoder(recipe: Any) -> None:
    """Validate the options that learners on embeddings have in common.

    Raises:
        ConfigError: an option has an invalid value.
    """
    if recipe.model is not None:
        model_name(recipe.model, error=ConfigError)
    options = Options(recipe)
    options.whole("max_length", "token_budget", least=1)
    options.one_of("class_weights", (None, "balanced"))
    options.one_of("precision", get_args(Precision))
    options.one_of("cached_as", (None, *get_args(CachedAs)))
    if recipe.device != "auto":
        named_device(recipe.device)


def prepare_vectors(data: Any, model: str | None, max_length: int) -> Prepared:
    """Tokenize the rows for the encoder `model`; without an encoder, return them as vectors (N, D).

    Raises:
        ConfigError: there is no encoder, and the rows are not vectors.
    """
    if model is not None:
        return prepare_texts(data, model, max_length)
    prepared = prepare_tensors(data)
    if len(prepared.shape) != 2:
        raise ConfigError(f"model=None reads vectors (N, D), got {tuple(prepared.shape)}: name an encoder")
    return prepared


@dataclass(frozen=True)
class ProbeLearner(Learner):
    """Logistic regression on the embeddings of a frozen encoder, which are computed once and cached on disk.

    The regression (multinomial; one-vs-rest when multi-label) has an L2 penalty and is solved to the optimum, so that
    `logits` depend on the labels only, not on `seed`, `previous` or `validation`. `mc_logits` are draws from a Laplace
    approximation of the posterior over the weights, or logistic regressions on bootstrap resamples of the labels. Each
    sample is one function of all rows, so they are provided as `joint_mc_logits` as well.

    On texts, the head "adjusted" learns from more than the labels: embeddings are centred and divided by their norm;
    the embeddings of the class descriptions (`data.descriptions`, by default the readable class names) are the mean of
    the prior of the weights, with the strength that predicts held-out labels best, or none; and the shares of the
    classes among the labels are adjusted as the objective wants it: partly taken out of the decisions (single-label),
    folded into the bias; or reached by thresholds for each class (multi-label), which leave the probabilities as they
    were fitted. Where a row has one class, the head is then fitted once more, to the labels and to its own predictions
    for rows of the pool (self-training). Without any labels, `zero_shot_logits` are those of this head at strength 10,
    or `description_strength`.

    Args:
        model: hub name, folder, `package:NAME/FOLDER` or GGUF file (`FOLDER/FILE.gguf`) of an encoder; None if the rows
            are vectors.
        max_length: maximum number of tokens per text; longer texts are truncated.
        l2: strength of the penalty on features of mean squared norm 1, which is the prior precision of the weights.
        head: "adjusted", see above; None for the head of version 0.1, which has none of it, as vectors have.
        description_strength: strength of the class descriptions, 0 for none; None chooses it by cross-validation.
        objective: score that the decisions aim at: a word such as macro_f1, or the keys recall_of and precision; None
            for the accuracy.
        self_training: whether the head "adjusted" also learns from its predictions for the pool: "auto" unless
            cross-validation, from 20 labels on, speaks against it; "always"; None never.
        class_weights: "balanced" gives every class the same total weight; None weights rows equally.
        samples: number K of posterior samples.
        posterior: "laplace" draws from a Gaussian around the weights, in closed form; "bootstrap" fits K heads on
            resamples of the labels, each restricted to the classes in its resample.
        precision: precision of the encoder; "auto" is bfloat16 where the hardware supports it.
        token_budget: tokens per batch of the encoder, padding included; halved when memory runs out.
        device: device of the encoder and the head; "auto" uses a GPU if one is available.
        cached_as: "float16" keeps embeddings in the cache in half the space; None in float32. See docs/cache.md.
    """

    model: str | None = "sentence-transformers/all-MiniLM-L6-v2"
    max_length: int = 128
    l2: float = 0.1
    head: Literal["adjusted"] | None = "adjusted"
    description_strength: float | None = None
    objective: Objective | None = None
    self_training: Literal["auto", "always"] | None = "auto"
    class_weights: Literal["balanced"] | None = None
    samples: int = DEFAULT_SAMPLES
    posterior: DrawnBy = "laplace"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    token_budget: int = 16384
    device: str = "auto"
    cached_as: Literal["float16"] | None = None

    advice = "Seconds per round on a CPU; good embeddings decide how far it gets."
    earlier_values = MappingProxyType({"head": None, "self_training": None})

    def __post_init__(self) -> None:
        check_encoder(self)
        options = Options(self)
        options.number("l2", above=0)
        options.whole("samples", least=2)
        options.one_of("posterior", get_args(DrawnBy))
        options.one_of("head", ("adjusted", None))
        options.number("description_strength", least=0, optional=True)
        options.one_of("self_training", ("auto", "always", None))
        object.__setattr__(self, "objective", as_objective(self.objective))

    @property
    def reads_descriptions(self) -> bool:  # type: ignore[override]
        """Whether the head reads the descriptions of the classes."""
        return self.head is not None and self.model is not None and self.description_strength != 0

    @property
    def provides(self) -> frozenset[str]:  # type: ignore[override]
        """Raw outputs after fitting, the label-free ones included."""
        return self.label_free | TRAINED

    @property
    def label_free(self) -> frozenset[str]:  # type: ignore[override]
        """Outputs that need no labels: embeddings and, for texts, surprisal and zero-shot logits."""
        free = EMBEDDINGS if self.model is None else EMBEDDINGS | SURPRISAL
        return free | {ZERO_SHOT} if self.reads_descriptions else free

    def prepare(self, data: Any) -> Prepared:
        """Tokenize the rows, or return them as vectors if there is no encoder.

        Embeddings (N, D) are computed, or read from the cache, when first needed.
        """
        if self.reads_descriptions and self.model is not None:
            return prepare_described_texts(data, self.model, self.max_length)
        return prepare_vectors(data, self.model, self.max_length)

    def check_rows(self, data: Any) -> None:
        """Raise ConfigError or DataError if there is no encoder and the rows are not vectors."""
        if self.model is None:
            prepare_vectors(data.take([0]), None, self.max_length)

    @property
    def caches(self) -> frozenset[str]:  # type: ignore[override]
        """Embeddings, if the rows are texts."""
        return frozenset() if self.model is None else EMBEDDINGS

    def fill_cache(
        self, data: Prepared, names: Iterable[str] = frozenset(), *, monitor: Monitor = SILENT
    ) -> dict[str, int]:
        """Embed the texts, and the descriptions of the classes, that are not in the cache."""
        return fill_embeddings(data, self._embedder(), monitor)

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
    ) -> ProbePredictor:
        """Fit the head to the labeled rows."""
        targets = checked_labels(labels, data.classes, data.multilabel)  # (L, C)
        vectors = embedded(data, self._embedder(), monitor)
        embeddings = vectors.take(rows.cpu()).float()
        weighted = row_weights(targets, weights, self.class_weights, data.multilabel)
        mean, scale = vectors.moments  # of all rows: those of a few labeled rows would change in every round
        prior_mean, notes = None, dict[str, Any]()
        adjusted = self.head is not None and (self.model is not None or vectors.described is not None)
        if adjusted:
            # The length of a row says little about its class, and the scale of a coordinate less than on features
            # that are standardised for their own sake: directions from the centre are compared.
            scale = torch.ones_like(scale)
            directions = self._directions(data, mean, monitor)
            if directions is not None:
                prior_mean, notes = self._prior_mean(embeddings - mean, targets, weighted, directions, data)
        head = fit_linear_head(
            embeddings,
            targets,
            weighted,
            mean=mean,
            scale=scale,
            l2=self.l2,
            multilabel=data.multilabel,
            posterior=self.posterior,
            samples=self.samples,
            seed=seed,
            normalized=adjusted,
            prior_mean=prior_mean,
        )
        if not adjusted:
            return self._predictor(head, data, notes)
        layer = None
        if not data.multilabel and self.self_training is not None:
            layer, text = self._self_trained(head, embeddings, targets, weighted, vectors, rows, prior_mean)
            notes |= {"self_training": layer is not None, "text": "; ".join(filter(None, (notes.get("text"), text)))}
        if layer is None:
            head = self._decided(head, targets, weighted, vectors, data.multilabel)
        else:  # the posterior stays that of the labels: pseudo-labels are no evidence
            head = moved(head, layer[:, :-1].float().contiguous(), layer[:, -1].float().contiguous())
        return self._predictor(head, data, notes)

    def _directions(self, data: Prepared, mean: Tensor, monitor: Monitor) -> Tensor | None:
        """Directions (C, D) of the class descriptions; None without any."""
        described = data.described if isinstance(data, TextPrepared | TensorPrepared) else None
        if described is None or self.description_strength == 0:
            return None
        texts, classes = described
        inputs = texts if isinstance(texts, Tensor) else embedded(texts, self._embedder(), monitor).inputs
        vectors = F.normalize(inputs.float() - mean, dim=1)
        return class_directions(vectors, classes, len(data.classes), multilabel=data.multilabel)

    def _zero_shot_head(self, pool: Prepared, monitor: Monitor) -> ZeroShotHead:
        """The adjusted head before any label, on embeddings centred by those of the pool."""
        mean, _ = embedded(pool, self._embedder(), monitor).moments
        directions = self._directions(pool, mean, monitor)
        if directions is None:
            raise LearnerError(
                f"{ZERO_SHOT} needs class descriptions, and these classes have only codes for names: describe them "
                "(data.descriptions), or label some rows"
            )
        strength = ZERO_SHOT_STRENGTH if self.description_strength is None else self.description_strength
        return ZeroShotHead(mean, strength * directions)

    def _prior_mean(
        self, centred: Tensor, targets: Tensor, weights: Tensor, directions: Tensor, data: Prepared
    ) -> tuple[Tensor, dict[str, Any]]:
        """Mean (C, D) of the prior of the weights, and a note about the choice of its strength."""
        described_by = data.described_by if isinstance(data, TextPrepared | TensorPrepared) else DESCRIPTIONS
        if self.description_strength is not None:
            strength = self.description_strength
            text = f"{described_by} at the given strength {strength:g}"
        else:
            features = F.pad(F.normalize(centred, dim=1), (0, 1), value=1.0)
            choice = choose_strength(
                features,
                targets,
                weights,
                directions,
                penalty=self.l2,
                multilabel=data.multilabel,
                described_by=described_by,
            )
            strength, text = choice.strength, choice.text
        return strength * directions, {"description_strength": strength, "text": text}

    def _self_trained(
        self,
        head: LinearHead,
        embeddings: Tensor,
        targets: Tensor,
        weights: Tensor,
        vectors: TensorPrepared,
        rows: Tensor,
        prior_mean: Tensor | None,
    ) -> tuple[Tensor | None, str]:
        """Layer (C, D + 1) after self-training, or None, and a note that says why."""
        spread = spread_rows(len(vectors), 2 * SAMPLE)
        others = spread[~torch.isin(spread, rows.cpu())]
        features, pool = (
            F.pad(head.features(part).double(), (0, 1), value=1.0)
            for part in (embeddings, vectors.take(others).float())
        )
        fit = HeadFit(
            self.l2,
            None if prior_mean is None else F.pad(prior_mean.double(), (0, 1)),
            adjustment_strength(self.objective),
            adjustment_strength(self.objective, self_trained=True),
        )
        teacher = torch.cat([head.weight, head.bias[:, None]], 1)
        trained = self_train(features, targets, weights, teacher, pool, fit, always=self.self_training == "always")
        return trained.layer, trained.text

    def _decided(
        self, head: LinearHead, targets: Tensor, weights: Tensor, vectors: TensorPrepared, multilabel: bool
    ) -> LinearHead:
        """The head with the decisions that the objective wants: shifted logits, or thresholds if multi-label."""
        if self.objective == "log_loss":
            return head
        counts = (weights[:, None] * targets).sum(0)
        if not multilabel:
            return shifted(head, logit_adjustment(counts, adjustment_strength(self.objective)))
        rows = spread_rows(len(vectors), _THRESHOLD_ROWS)
        logits = head.logits(head.features(vectors.take(rows).float()))
        return replace(head, thresholds=share_thresholds(logits, (counts + 0.5) / (weights.sum() + 1)))

    def untrained(self, data: Prepared) -> ProbePredictor:
        """Return a predictor of the label-free outputs."""
        return self._predictor(None, data)

    def load(self, folder: Path, data: Prepared) -> ProbePredictor:
        """Load a head written by `save`.

        Raises:
            LearnerError: the head was trained for different classes, or a file is damaged.
        """
        facts = read_class_facts(folder, "probe.json", data)
        sizes = {"C": len(data.classes)}
        if isinstance(data, TensorPrepared):
            sizes["D"] = data.width
        notes = facts.get("training_notes", {})
        if not isinstance(notes, dict):
            raise LearnerError(f"{folder}/probe.json is damaged: 'training_notes' is a {type(notes).__name__}")
        return self._predictor(LinearHead.of(read_tensors(folder, "head.safetensors", head_shapes, sizes)), data, notes)

    def _predictor(
        self, head: LinearHead | None, data: Prepared, notes: Mapping[str, Any] = MappingProxyType({})
    ) -> ProbePredictor:
        placed = None if head is None else head.to(device_of(self.device))
        zero_shot = partial(self._zero_shot_head, data) if self.reads_descriptions else None
        return ProbePredictor(
            placed, self._embedder(), data.classes, data.multilabel, self.samples, self._surprisal(), notes, zero_shot
        )

    def _surprisal(self) -> Surprisal | None:
        if self.model is None:
            return None
        return Surprisal(self.model, self.max_length, self.precision, self.token_budget, device_of(self.device))

    def _embedder(self) -> Embedder | None:
        return None if self.model is None else Embedder.of(self)
