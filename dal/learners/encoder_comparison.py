"""Comparison of text encoders by the labels at hand: whether they tell the classes apart, and which one does best."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dal.data.columns import TextColumn, TextPairs
from dal.data.rows import Rows
from dal.errors import DalError, DataError, LearnerError
from dal.evaluation.encoder_scores import MIN_LABELS, EncoderScore, compared_rows, score_encoders
from dal.functional.drawing import some_rows
from dal.learner import SILENT, Learner, Monitor
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.probe_learner import ProbeLearner
from dal.learners.text.embeddings import Embedder
from dal.learners.text.installed_encoders import installed_encoders
from dal.learners.text.tokenizers import locate, prepare_texts
from dal.learners.tfidf_learner import TfidfLearner
from dal.learners.training.devices import device_of
from dal.learners.transformer_learner import TransformerLearner

#: Name of the TF-IDF vectors among the encoders.
TFIDF = "TF-IDF"

#: Rows of the pool from which terms and document frequencies are counted.
_TFIDF_ROWS = 20_000

_SEED = 0


@dataclass(frozen=True)
class EncoderComparison:
    """Scores of several encoders on the same labeled rows.

    Attributes:
        scores: score of each encoder, the learner's own first; empty with too few labels.
        own: name of the learner's own encoder; None if the learner has none.
        labels: number of labeled rows.
        compared: number of labeled rows that were compared.
        advice: one line: keep the encoder, try another one, train or describe, or how many labels are missing.
        left_out: installed encoders that could not be used -> the reason.
    """

    scores: tuple[EncoderScore, ...]
    own: str | None
    labels: int
    compared: int
    advice: str
    left_out: dict[str, str] = field(default_factory=dict)


def compare_encoders(
    rows: Rows,
    *,
    learner: Learner | None = None,
    models: Sequence[str] | None = None,
    monitor: Monitor = SILENT,
    stage: Callable[[str], None] | None = None,
) -> EncoderComparison:
    """Compare encoders by how many labeled rows their nearest labeled neighbours predict.

    The encoders are the learner's own, the given ones, and TF-IDF. Only labeled rows are embedded, at most 500 of them,
    drawn at random; terms are counted on up to 20,000 rows with and without a label.

    Args:
        rows: texts, or pairs of texts, of which some have a label; single-label.
        learner: learner whose encoder is compared with the others; None for no such encoder.
        models: hub names, folders, "package:NAME/FOLDER" or GGUF files of encoders; by default all that are installed
            as packages. Of the default ones, those that cannot be loaded are left out.
        monitor: receives the progress of the embedding.
        stage: called with a line about each encoder before it is used.

    Raises:
        DataError: the rows are no texts or multi-label, none has a label, or their labels are of a single class.
        LearnerError: an encoder cannot be loaded.

    Example:
        >>> good, bad = [f"good number {i}" for i in range(20)], [f"bad number {i}" for i in range(20)]
        >>> found = compare_encoders(Rows.from_inputs(good + bad, ["+"] * 20 + ["-"] * 20), models=[])
        >>> [(score.name, score.share) for score in found.scores]
        [('TF-IDF', 1.0)]
    """
    if not isinstance(rows.inputs, TextColumn | TextPairs):
        raise DataError(f"{rows.source} holds vectors, not texts: encoders are compared on texts")
    labeled = rows.known.nonzero().flatten()
    check_labels(rows, labeled)
    own = own_encoder(learner)
    if len(labeled) < MIN_LABELS:
        return EncoderComparison((), own, len(labeled), 0, too_few(len(labeled)))
    compared = compared_rows(labeled)
    default = models is None
    names = [own, *(installed_encoders() if models is None else models), TFIDF]
    similarities, left_out, texts = dict[str, Tensor](), dict[str, str](), rows.take(compared)
    for name in dict.fromkeys(name for name in names if name is not None):
        if stage is not None:
            stage(f"comparing {len(compared)} labeled texts by {name}")
        try:
            if name == TFIDF:
                similarities[name] = tfidf_similarities(rows, compared)
            else:
                source = learner if name == own else None
                similarities[name] = embedding_similarities(embeddings(texts, name, source, monitor))
        except DalError as error:
            if not default or name == own:
                raise
            left_out[name] = str(error)
    scores = tuple(score_encoders(similarities, rows.labels[compared], own=own, seed=_SEED))
    return EncoderComparison(scores, own, len(labeled), len(compared), advice(scores, learner), left_out)


def check_labels(rows: Rows, labeled: Tensor) -> None:
    """Raise DataError unless there are labels of two classes, each row with one class."""
    if rows.multilabel:
        raise DataError(
            f"{rows.source} is multi-label: encoders are compared on single-label data; make one class at a time a "
            "data set of its own"
        )
    if not len(labeled):
        raise DataError(f"nothing is labeled yet: encoders are compared from {MIN_LABELS} labels on")
    sizes = torch.bincount(rows.labels[labeled], minlength=len(rows.classes))
    if int((sizes > 0).sum()) == 1:
        only = rows.classes[int(sizes.argmax())]
        raise DataError(f"all {len(labeled)} labels are of the class {only!r}: labels of two classes are needed")
    if len(labeled) >= MIN_LABELS and int((sizes > 1).sum()) < 2:
        raise DataError(f"{len(labeled)} labels, but fewer than two classes have two of them: label more rows")


def embeddings(rows: Rows, model: str, learner: Any = None, monitor: Monitor = SILENT) -> Tensor:
    """Embeddings (N, D) of texts: means over the tokens of the last layer of an encoder.

    Args:
        rows: the texts.
        model: hub name, folder, "package:NAME/FOLDER", or GGUF file.
        learner: learner whose maximum length, precision, token budget and device are used, else those of a
            `ProbeLearner`.
        monitor: receives the progress.
    """
    options = encoding_learner(learner) or ProbeLearner()
    embedder = Embedder(locate(model), options.precision, options.token_budget, device_of(options.device))
    return embedder.embed(prepare_texts(rows, model, options.max_length), monitor).inputs


def embedding_similarities(vectors: Tensor) -> Tensor:
    """Cosine similarities (L, L) float64 of embeddings (L, D) from their mean.

    Raises:
        LearnerError: an embedding is NaN or infinite.
    """
    bad = int((~torch.isfinite(vectors)).any(1).sum())
    if bad:
        raise LearnerError(f"the embeddings of {bad} of {len(vectors)} labeled rows are NaN or infinite")
    centred = vectors.double() - vectors.double().mean(0)
    directions = F.normalize(centred, dim=1)
    return directions @ directions.T


def tfidf_similarities(rows: Rows, labeled: Tensor) -> Tensor:
    """Cosine similarities (L, L) float64 of the TF-IDF vectors of some rows, as `TfidfLearner` computes them.

    Terms and document frequencies are those of these rows and of others, up to 20,000 in all.
    """
    others = torch.ones(len(rows), dtype=torch.bool)
    others[labeled] = False
    rest = others.nonzero().flatten()
    kept = max(0, _TFIDF_ROWS - len(labeled))
    rest = rest[some_rows(len(rest), kept, generator=torch.Generator().manual_seed(_SEED))]
    learner = TfidfLearner()
    _, vectors = learner.vectors(learner.prepare(rows.take(torch.cat([labeled, rest]))))
    first = vectors[: len(labeled)]
    return torch.from_numpy((first @ first.T).toarray())


# -- the learner -----------------------------------------------------------------------------------------------------


def encoding_learner(learner: Any) -> Any:
    """The learner that has the encoder: the learner of the members of a committee, else the learner itself."""
    return encoding_learner(learner.learner) if isinstance(learner, CommitteeLearner) else learner


def own_encoder(learner: Learner | None) -> str | None:
    """Name of the encoder of a learner, TF-IDF for a `TfidfLearner`; None if it has none."""
    inner = encoding_learner(learner)
    if isinstance(inner, TfidfLearner):
        return TFIDF
    model = getattr(inner, "model", None)
    return None if model is None else str(model)


def option(name: str, learner: Learner | None) -> str:
    """Option of the command line that gives a learner another encoder."""
    key, inner = "--learner", learner
    while isinstance(inner, CommitteeLearner):
        key, inner = f"{key}.learner", inner.learner
    if name == TFIDF:
        return f"{key} TfidfLearner"
    trainable = not (isinstance(inner, TransformerLearner) and name.endswith(".gguf"))
    if hasattr(inner, "model") and trainable:
        return f"{key}.model {shlex.quote(name)}"
    return f"{key} {shlex.quote(f'{{ProbeLearner: {{model: {name}}}}}')}"


# -- the advice ------------------------------------------------------------------------------------------------------


def too_few(labels: int) -> str:
    """Advice with fewer than `MIN_LABELS` labels."""
    return f"too few labels yet: {MIN_LABELS - labels} more are needed, {MIN_LABELS} in all"


def advice(scores: Sequence[EncoderScore], learner: Learner | None = None) -> str:
    """One line on what to do with the learner's encoder.

    Args:
        scores: scores of all encoders, the learner's own first if it has one.
        learner: the learner.
    """
    own = scores[0] if own_encoder(learner) is not None else None
    before = ", before any fine-tuning," if isinstance(encoding_learner(learner), TransformerLearner) else ""
    better = [score for score in scores if score.beats_own]
    able = [score for score in scores if score.above_chance]
    if own is not None and better:
        best = max(better, key=lambda score: score.share)
        return (
            f"try {best.name}: its neighbours predict {_percent(best.share)} of the rows, those of {own.name}{before} "
            f"{_percent(own.share)} (p {p_value(best.p_lead)}): {option(best.name, learner)}"
        )
    if not able:
        ways = "describe the classes (data.descriptions), look at the labels (dal report), or label more"
        if before:
            return f"no encoder here is better than chance before fine-tuning: {ways}"
        return f"no encoder here is better than chance: fine-tune one (--learner TransformerLearner), {ways}"
    best = max(able, key=lambda score: score.share)
    if own is None:
        return f"{best.name} predicts the most rows: {option(best.name, learner)}"
    if not own.above_chance:
        return (
            f"no certainty yet: {best.name} is better than chance (p {p_value(best.p_chance)}), {own.name}{before} is "
            f"not (p {p_value(own.p_chance)}), but their difference may be chance (p {p_value(best.p_lead)}): label "
            f"more, or try {option(best.name, learner)}"
        )
    ahead = ""
    if best is not own:
        lead = 100 * (best.lead or 0.0)
        ahead = f"; {best.name} is {lead:.0f} points ahead, which may be chance (p {p_value(best.p_lead)})"
    return (
        f"keep {own.name}: its neighbours predict {_percent(own.share)} of the rows, by chance "
        f"{_percent(own.chance)}{ahead}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def p_value(value: float | None) -> str:
    """A p-value in text: three digits without the leading zero."""
    p = 1.0 if value is None else value
    return "< .001" if p < 0.001 else f"= {p:.3f}".replace("= 0.", "= .")
