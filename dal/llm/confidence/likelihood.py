"""Log-probabilities of labels as answers of a causal model."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dal.errors import LLMError
from dal.llm.local_models.causal_model import CausalModel, Prefix, PromptState
from dal.monitor import SILENT, Monitor

#: Maximum number of tokens in the key-value cache, over prompts times labels.
LARGEST_CACHE = 1 << 15


def label_log_probs(
    model: CausalModel,
    prompts: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    *,
    length_normalized: bool = False,
    batch: int = 16,
    monitor: Monitor = SILENT,
) -> Tensor:
    """Return the log-probability (nats) of each label after each prompt, (N, C) float32 on the CPU.

    Each prompt is processed once and its keys and values are reused for all labels; the common prefix of the prompts is
    processed once. Labels of a single token need no further pass. Prompts are batched by length.

    Args:
        model: causal model.
        prompts: N prompts as tokens.
        labels: C labels as tokens, see `label_ids`.
        length_normalized: use the mean over the tokens of a label instead of the sum, so that long labels are not at a
            disadvantage (Brown et al. 2020, "Language Models are Few-Shot Learners", section 2.4).
        batch: prompts per batch.
        monitor: receives the progress.
    """
    out = torch.empty(len(prompts), len(labels))
    if not len(prompts):
        return out
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # less padding within a batch
    prefix = model.prefix(prompts)
    monitor.started("read", len(prompts))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        out[rows] = _batch(model, [prompts[row] for row in rows], labels, prefix)
        monitor.advanced(len(rows))
    monitor.finished()
    return out / torch.tensor([len(label) for label in labels]) if length_normalized else out


def label_ids(model: CausalModel, labels: Sequence[str]) -> list[list[int]]:
    """Tokenize the labels such that none is a prefix of another.

    If one label is a prefix of another ("spam" and "spam or scam"), the end-of-answer token is appended to all labels,
    because otherwise the probability of the shorter one would include the longer one.

    Raises:
        LLMError: a label has no tokens, two labels have the same tokens, or an end-of-answer token is needed but the
            model has none.
    """
    ids = [model.label_tokens(label) for label in labels]
    if empty := [label for label, tokens in zip(labels, ids, strict=True) if not tokens]:
        raise LLMError(f"the label {empty[0]!r} has no tokens for this model")
    if len({tuple(tokens) for tokens in ids}) < len(ids):
        raise LLMError("two labels have the same tokens for this model: rename one")
    ordered = sorted(ids)  # a prefix comes right before the sequences that begin with it: neighbours suffice
    if not any(long[: len(short)] == short for short, long in pairwise(ordered)):
        return ids
    if not model.ends:
        raise LLMError("one label is a prefix of another, and this model has no end-of-answer token: rename one")
    return [[*tokens, model.ends[0]] for tokens in ids]


def calibrated(log_probs: Tensor, content_free: Tensor) -> Tensor:
    """Calibrate log-probabilities of labels by those of content-free texts, such as "N/A".

    Zhao et al. 2021, "Calibrate Before Use: Improving Few-Shot Performance of Language Models".

    Args:
        log_probs: (N, C), in nats; need not be normalised.
        content_free: (N, C) or (C,), log of the mean probability for content-free texts; need not be normalised.

    Returns:
        (N, C), normalised log-probabilities.

    >>> calibrated(torch.tensor([[0.6, 0.2]]).log(), torch.tensor([0.3, 0.1]).log()).exp()
    tensor([[0.5000, 0.5000]])
    """
    return (log_probs.log_softmax(-1) - content_free.log_softmax(-1)).log_softmax(-1)


def _batch(
    model: CausalModel, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], prefix: Prefix
) -> Tensor:
    """Summed log-probabilities (B, C) of the labels after a batch of prompts."""
    read = model.read(prompts, prefix)
    first = torch.tensor([label[0] for label in labels], device=model.device)
    scores = read.log_probs[:, first]  # (B, C)
    # The prompt is read once; its state is copied only for labels that have further tokens.
    longer = [number for number, label in enumerate(labels) if len(label) > 1]
    size = max(1, LARGEST_CACHE // (len(prompts) * read.mask.shape[1]))
    for start in range(0, len(longer), size):
        some = longer[start : start + size]
        scores[:, some] += _later_tokens(model, read, [labels[number] for number in some])
    return scores.cpu()


def _later_tokens(model: CausalModel, read: PromptState, labels: Sequence[Sequence[int]]) -> Tensor:
    """Summed log-probability of all tokens of each label but the first, (B, c)."""
    size, count, width = len(read.mask), len(labels), max(map(len, labels)) - 1
    tokens, answers, real = (torch.zeros(count, width, dtype=torch.int64, device=model.device) for _ in range(3))
    for row, label in enumerate(labels):
        length = len(label) - 1
        tokens[row, :length] = torch.tensor(label[:-1])
        answers[row, :length] = torch.tensor(label[1:])
        real[row, :length] = 1
    rows = torch.arange(size, device=model.device).repeat_interleave(count)
    tokens, answers, real = (each.repeat(size, 1) for each in (tokens, answers, real))  # (B * c, S)
    log_probs, _ = model.go_on(read.take(rows), tokens, real)
    of_tokens = log_probs.gather(-1, answers[..., None]).squeeze(-1) * real  # (B * c, S)
    return of_tokens.sum(1).view(size, count)
