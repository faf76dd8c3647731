"""A linear head on frozen embeddings: fitted in well under a second, with a Bayesian last layer for its doubt."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from dal.durable import replacing
from dal.errors import ConfigError, LearnerError, NeedError
from dal.inference import Collector
from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.devices import device_of
from dal.learners.embeddings import Embedder
from dal.learners.labels import checked_labels, row_weights
from dal.learners.tensors import TensorPrepared, prepare_tensors
from dal.learners.texts import locate, prepare_texts
from dal.learners.tokens import TextPrepared
from dal.outputs import Outputs

_CHUNK = 1 << 22  # floats of features or samples held at once


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear classifier on standardised vectors, and how sure it is of its weights.

    features = (embeddings - mean) * scale; logits = features @ weight.T + bias. The posterior over [weight | bias] is
    the Kronecker-factored Laplace approximation (Ritter et al. 2018, "A Scalable Laplace Approximation for Neural
    Networks") with the prior exactly as the penalty: covariance (U_b (x) U_a) diag(deviation^2) (U_b (x) U_a)'.

    Shapes: mean and scale (D,), weight (C, D), bias (C,), class_basis (C, C), feature_basis (D + 1, D + 1),
    deviation (C, D + 1).
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    class_basis: Tensor
    feature_basis: Tensor
    deviation: Tensor

    def features(self, embeddings: Tensor) -> Tensor:
        """Embeddings (N, D) as the linear layer sees them, (N, D)."""
        return (embeddings - self.mean) * self.scale

    def logits(self, features: Tensor) -> Tensor:
        """Logits (N, C) of features (N, D)."""
        return F.linear(features, self.weight, self.bias)

    def samples(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Draws from the posterior: weights (K, C, D) and biases (K, C)."""
        noise = torch.randn(count, *self.deviation.shape, generator=torch.Generator().manual_seed(seed))
        noise = noise.to(self.weight.device) * self.deviation
        shift = self.class_basis @ noise @ self.feature_basis.T  # (K, C, D + 1)
        return self.weight + shift[..., :-1], self.bias + shift[..., -1]

    def to(self, device: torch.device) -> "LinearHead":
        """The same head on another device."""
        return LinearHead(**{name: value.to(device) for name, value in vars(self).items()})


def fit_linear_head(
    embeddings: Tensor,
    targets: Tensor,
    weights: Tensor,
    *,
    mean: Tensor,
    scale: Tensor,
    l2: float,
    multilabel: bool,
) -> LinearHead:
    """The penalised maximum-likelihood head (multinomial, or one-vs-rest when multi-label), by L-BFGS in float64.

    Minimises sum_i w_i loss_i + l2/2 |[weight | bias]|^2, which is convex: the answer depends on nothing else. With
    fewer rows than features it is solved in the span of the rows, where it lies. Shapes: embeddings (L, D), targets
    (L, C) of zeros and ones, weights (L,).
    """
    features = ((embeddings - mean) * scale).double()
    features = F.pad(features, (0, 1), value=1.0)  # (L, D + 1), the bias last
    span = torch.linalg.qr(features.T).Q if len(features) < features.shape[1] else None
    reduced = features if span is None else features @ span  # (L, min(L, D + 1))
    targets, weights = targets.double(), weights.double()

    beta = torch.zeros(targets.shape[1], reduced.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [beta],
        max_iter=200,
        history_size=20,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-6,
        tolerance_change=1e-10,
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        logits = reduced @ beta.T
        if multilabel:
            losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
        else:
            losses = -(targets * logits.log_softmax(1)).sum(1)
        loss = (weights * losses).sum() + 0.5 * l2 * beta.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(objective)  # type: ignore[no-untyped-call]
    solution = beta.detach()
    logits = reduced @ solution.T
    solution = solution if span is None else solution @ span.T  # (C, D + 1)
    class_basis, feature_basis, deviation = _laplace(features, logits, weights, l2, multilabel)
    return LinearHead(
        mean,
        scale,
        solution[:, :-1].float().contiguous(),
        solution[:, -1].float().contiguous(),
        class_basis.float().contiguous(),
        feature_basis.float().contiguous(),
        deviation.float().contiguous(),
    )


def _laplace(features: Tensor, logits: Tensor, weights: Tensor, l2: float, multilabel: bool) -> tuple[Tensor, ...]:
    gram = features.T @ (weights[:, None] * features)  # (D + 1, D + 1)
    if multilabel:
        probs = logits.sigmoid()
        curvature = torch.diag((weights[:, None] * probs * (1 - probs)).sum(0))
    else:
        probs = logits.softmax(1)
        weighted = weights[:, None] * probs
        curvature = torch.diag(weighted.sum(0)) - weighted.T @ probs
    curvature = curvature / weights.sum()  # (C, C), averaged over rows
    on_classes, class_basis = torch.linalg.eigh(curvature)
    on_features, feature_basis = torch.linalg.eigh(gram)
    precision = on_classes.clamp_min(0)[:, None] * on_features.clamp_min(0)[None, :] + l2
    return class_basis, feature_basis, precision.rsqrt()


class ProbePredictor(Predictor):
    """A linear head over cached embeddings; without a head it offers the embeddings alone."""

    def __init__(
        self,
        head: LinearHead | None,
        embedder: Embedder | None,
        classes: tuple[str, ...],
        multilabel: bool,
        samples: int,
    ) -> None:
        self.head = head
        self._embedder = embedder
        self.classes = classes
        self.multilabel = multilabel
        self.samples = samples

    @property
    def provides(self) -> frozenset[str]:
        """The raw names it computes."""
        return ProbeLearner.label_free if self.head is None else ProbeLearner.provides

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
        """The named outputs for `rows`, in one pass over the embeddings; always exact."""
        names = frozenset(names)
        if self.head is None and not names <= ProbeLearner.label_free:
            raise NeedError(
                f"{', '.join(sorted(names - ProbeLearner.label_free))} cannot be read before anything is fitted"
            )
        vectors = embedded(data, self._embedder, monitor).inputs
        index = torch.arange(len(data)) if rows is None else rows.cpu()
        device = torch.device("cpu") if self.head is None else self.head.weight.device
        collector = Collector(names, len(index), provides=self.provides, multilabel=data.multilabel, device=device)
        sampled = None
        if self.head is not None and any("mc_logits" in name for name in collector.raw):
            sampled = self.head.samples(self.samples, seed)
        width = vectors.shape[-1]
        per_row = max(width, sampled[1].numel() if sampled else 0)
        monitor.started("pass", len(index))
        for positions in torch.arange(len(index)).split(max(1, _CHUNK // max(1, per_row))):
            embeddings = vectors[index[positions]].to(device)
            collector.put(positions, _computed(self.head, sampled, embeddings, collector.raw))
            monitor.advanced(len(positions))
        monitor.finished()
        return collector.outputs()

    def save(self, folder: Path) -> None:
        """Write `head.safetensors` and `probe.json` into `folder`."""
        if self.head is None:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        with replacing(folder) as target:
            save_file(
                {name: value.contiguous().cpu() for name, value in vars(self.head).items()}, target / "head.safetensors"
            )
            facts = {"classes": list(self.classes), "multilabel": self.multilabel, "samples": self.samples}
            (target / "probe.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")


def embedded(data: Prepared, embedder: Embedder | None, monitor: Monitor = SILENT) -> TensorPrepared:
    """The vectors (N, D) that a probe reads: the rows themselves, or their embeddings."""
    if embedder is not None and isinstance(data, TextPrepared):
        return embedder.embed(data, monitor)
    if embedder is None and isinstance(data, TensorPrepared):
        return data
    raise LearnerError("these rows were prepared by another learner: use this learner's prepare")


def _computed(
    head: LinearHead | None, sampled: tuple[Tensor, Tensor] | None, embeddings: Tensor, names: frozenset[str]
) -> dict[str, Tensor]:
    computed = {"embeddings": embeddings}
    if head is None:
        return computed
    features = head.features(embeddings)
    computed |= {"features": features, "logits": head.logits(features)}
    if sampled is not None:
        weight, bias = sampled
        drawn = torch.einsum("nd,kcd->nkc", features, weight) + bias  # (N, K, C)
        computed |= {"mc_logits": drawn, "joint_mc_logits": drawn}
    return {name: value for name, value in computed.items() if name in names}


@dataclass(frozen=True)
class ProbeLearner(Learner):
    """A linear classifier on the embeddings of a frozen encoder, which are computed once and cached on disk.

    Logistic regression (multinomial; one-vs-rest when multi-label), penalised, solved to the optimum, so that the
    result depends on the labels alone: neither `seed`, `previous` nor `validation` changes it. Its `mc_logits` are
    draws from a Laplace approximation of the posterior over the weights: each draw is one function for every row, so
    they are `joint_mc_logits` as well.

    Args:
        model: hub name, folder, or `package:NAME/FOLDER` of an encoder; None when the rows are vectors already.
        max_length: tokens per text, the rest is cut off.
        l2: strength of the penalty on features of mean squared norm 1; the precision of the prior over the weights.
        class_weights: "balanced" gives every class the same total weight.
        samples: K, draws from the posterior.
        precision: of the encoder: "auto" is bfloat16 where the hardware has it.
        token_budget: tokens per batch of the encoder, padding included; halved when memory runs out.
        device: "auto" takes a GPU when there is one.
    """

    model: str | None = "sentence-transformers/all-MiniLM-L6-v2"
    max_length: int = 128
    l2: float = 0.1
    class_weights: Literal["balanced"] | None = None
    samples: int = 20
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    token_budget: int = 16384
    device: str = "auto"

    provides = frozenset({"logits", "features", "embeddings", "mc_logits", "joint_mc_logits"})
    label_free = frozenset({"embeddings"})
    advice = "Seconds per round on a CPU; good embeddings decide how far it gets."

    def __post_init__(self) -> None:
        if self.l2 <= 0:
            raise ConfigError(f"l2 must be positive, got {self.l2}")
        if self.samples < 2:
            raise ConfigError(f"samples must be at least 2 to show any disagreement, got {self.samples}")

    def prepare(self, data: Any) -> Prepared:
        """The rows tokenized; their embeddings (N, D) are computed, or read from the cache, when first needed.

        Without a model, the rows themselves as vectors.
        """
        if self.model is not None:
            return prepare_texts(data, self.model, self.max_length)
        prepared = prepare_tensors(data)
        if prepared.inputs.dim() != 2:
            raise ConfigError(f"model=None reads vectors (N, D), got {tuple(prepared.inputs.shape)}: name an encoder")
        return prepared

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
        """The optimal head for these labels."""
        targets = checked_labels(labels, data.classes, data.multilabel)  # (L, C)
        vectors = embedded(data, self._embedder(), monitor)
        mean, scale = vectors.moments
        head = fit_linear_head(
            vectors.inputs[rows.cpu()].float(),
            targets,
            row_weights(targets, weights, self.class_weights, data.multilabel),
            mean=mean,
            scale=scale,
            l2=self.l2,
            multilabel=data.multilabel,
        )
        return self._predictor(head, data)

    def untrained(self, data: Prepared) -> ProbePredictor:
        """The embeddings alone."""
        return self._predictor(None, data)

    def load(self, folder: Path, data: Prepared) -> ProbePredictor:
        """The head that `save` wrote."""
        facts = json.loads((Path(folder) / "probe.json").read_text(encoding="utf-8"))
        if tuple(facts["classes"]) != data.classes:
            raise LearnerError(
                f"{folder} was trained for the classes {facts['classes']}, the data has {list(data.classes)}"
            )
        head = LinearHead(**load_file(Path(folder) / "head.safetensors"))
        return self._predictor(head, data)

    def _predictor(self, head: LinearHead | None, data: Prepared) -> ProbePredictor:
        placed = None if head is None else head.to(device_of(self.device))
        return ProbePredictor(placed, self._embedder(), data.classes, data.multilabel, self.samples)

    def _embedder(self) -> Embedder | None:
        if self.model is None:
            return None
        return Embedder(locate(self.model), self.precision, self.token_budget, device_of(self.device))
