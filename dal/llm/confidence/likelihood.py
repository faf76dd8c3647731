"""How probable a causal model finds each label as the answer: no parsing, a true distribution."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from dal.errors import LLMError
from dal.llm.local_models.causal_model import CausalModel, Prefix, PromptState
from dal.monitor import SILENT, Monitor

#: Tokens whose keys and values may be held at once, prompts times labels.
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
    """Log-probability (nats) of each label's tokens after each prompt, (N, C) float32 on the CPU.

    One pass per prompt, whose keys and values all labels then share; what all prompts begin with is read once. A label
    of a single token costs nothing more. Prompts are read in the order of their length.

    Args:
        model: the causal model.
        prompts: N prompts as tokens.
        labels: C labels as tokens, see `label_ids`.
        length_normalized: the mean over a label's tokens in place of their sum, so that long labels are not at a
            disadvantage (Brown et al. 2020, "Language Models are Few-Shot Learners", section 2.4).
        batch: prompts at once.
        monitor: watches the prompts.
    """
    out = torch.empty(len(prompts), len(labels))
    if not len(prompts):
        return out
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    prefix = model.prefix(prompts)
    monitor.started("read", len(prompts))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        out[rows] = _batch(model, [prompts[row] for row in rows], labels, prefix)
        monitor.advanced(len(rows))
    monitor.finished()
    return out / torch.tensor([len(label) for label in labels]) if length_normalized else out


def label_ids(model: CausalModel, labels: Sequence[str]) -> list[list[int]]:
    """The labels as tokens, none of which begins another.

    Where one would ("spam" and "spam or scam"), all end with the token that ends an answer, so that the probability
    of the shorter is not that of both.

    Raises:
        LLMError: two labels have the same tokens, or the model has no token that ends an answer and needs one.
    """
    ids = [model.label_tokens(label) for label in labels]
    if empty := [label for label, tokens in zip(labels, ids, strict=True) if not tokens]:
        raise LLMError(f"the label {empty[0]!r} has no tokens for this model")
    if len({tuple(tokens) for tokens in ids}) < len(ids):
        raise LLMError("two labels have the same tokens for this model: rename one")
    ordered = sorted(ids)
    if not any(long[: len(short)] == short for short, long in pairwise(ordered)):
        return ids
    if not model.ends:
        raise LLMError("one label begins another, and this model has no token that ends an answer: rename one")
    return [[*tokens, model.ends[0]] for tokens in ids]


def calibrated(log_probs: Tensor, content_free: Tensor) -> Tensor:
    """Log-probabilities of labels (N, C) without what the model prefers whatever the text is, scaled to 1, (N, C).

    `p_c` is divided by the mean probability `content_free` (N, C) or (C,) (in nats, not yet scaled to 1) that the label
    has for texts without content, such as "N/A".

    Zhao et al. 2021, "Calibrate Before Use: Improving Few-Shot Performance of Language Models".

    >>> calibrated(torch.tensor([[0.6, 0.2]]).log(), torch.tensor([0.3, 0.1]).log()).exp()
    tensor([[0.5000, 0.5000]])
    """
    return (log_probs.log_softmax(-1) - content_free.log_softmax(-1)).log_softmax(-1)


def _batch(
    model: CausalModel, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]], prefix: Prefix
) -> Tensor:
    """Summed log-probabilities (B, C)."""
    read = model.read(prompts, prefix)
    first = torch.tensor([label[0] for label in labels], device=model.device)
    scores = read.log_probs[:, first]  # (B, C)
    longer = [number for number, label in enumerate(labels) if len(label) > 1]
    for some in _chunks(longer, max(1, LARGEST_CACHE // (len(prompts) * read.mask.shape[1]))):
        scores[:, some] += _rest(model, read, [labels[number] for number in some])
    return scores.cpu()


def _rest(model: CausalModel, read: PromptState, labels: Sequence[Sequence[int]]) -> Tensor:
    """Log-probability of all tokens of each label but its first, (B, c)."""
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
    found = log_probs.gather(-1, answers[..., None]).squeeze(-1) * real
    return found.sum(1).view(size, count)


def _chunks(numbers: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(numbers), size):
        yield list(numbers[start : start + size])
