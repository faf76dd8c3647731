"""Masked-language-model training of an encoder on unlabeled texts.

Gururangan et al. 2020, "Don't Stop Pretraining: Adapt Language Models to Domains and Tasks". Devlin et al. 2019, "BERT:
Pre-training of Deep Bidirectional Transformers for Language Understanding", for the masks.
"""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

from dal.errors import LearnerError
from dal.functional.checking import Options
from dal.learner import SILENT, Monitor
from dal.learners.inference import autocast_to, evaluating
from dal.learners.text.masked_models import SHARE, MaskedTokenPredictor
from dal.learners.text.surprisal import draw_tokens
from dal.learners.text.tokens import TextPrepared
from dal.learners.training.fitting import deterministic, explaining_memory, own_randomness
from dal.learners.training.length_batches import GROUP, batches_of_similar_length

#: Seconds of training between two checkpoints.
CHECKPOINT_SECONDS = 300.0

_HELD_OUT = 500  # maximum number of texts that are kept apart
_WARMUP = 0.06  # share of the steps with a rising learning rate
_WEIGHT_DECAY = 0.01
_CLIP = 1.0  # maximum gradient norm

_SPLIT, _ORDER, _STEP, _MASK = range(1, 5)  # streams of random numbers

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Adaptation:
    """Masked-language-model training of the encoder on the texts of the pool, before the first fit.

    Attributes:
        steps: number of optimiser steps.
        learning_rate: peak learning rate, reached after 6 % of the steps; it then decays to zero.
        batch_tokens: tokens per batch, padding included; fewer with a large vocabulary.
        seed: seed of the held-out texts, the batches, the masks and the dropout; not that of a run or a round.
    """

    steps: int = 500
    learning_rate: float = 1e-4
    batch_tokens: int = 4096
    seed: int = 0

    def __post_init__(self) -> None:
        options = Options(self)
        options.whole("steps", "batch_tokens", least=1)
        options.number("learning_rate", above=0)
        options.whole("seed", least=0)


@dataclass(frozen=True)
class Checkpoint:
    """State of a training after some steps.

    Attributes:
        steps: number of steps that are done.
        loss_before: held-out loss before the first, in nats per token.
        tensors: weights of the model, "model." and their names, and moments of the optimiser, "optimizer.",
            the index of a parameter and their names.
    """

    steps: int
    loss_before: float
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class TrainingRecord:
    """Figures of a finished training.

    Attributes:
        texts: number of different texts that were trained on.
        held_out: number of those that were kept apart.
        loss_before: masked-token loss on these before the training, in nats per token.
        loss_after: the same after the training.
    """

    texts: int
    held_out: int
    loss_before: float
    loss_after: float


def train_on_masks(
    predictor: MaskedTokenPredictor,
    tokenizer: PreTrainedTokenizerBase,
    texts: TextPrepared,
    recipe: Adaptation,
    *,
    model: str,
    start: Checkpoint | None = None,
    keep: Callable[[Checkpoint], None] = lambda checkpoint: None,
    monitor: Monitor = SILENT,
) -> TrainingRecord:
    """Train a masked-language model on the different texts of the pool, in place.

    A random 15 % of the ordinary tokens of a batch are predicted: 80 % of them are masked, 10 % are replaced by random
    tokens and 10 % are left. A tenth of the texts, at most 500, are kept apart. The weights are determined by the set
    of texts, the recipe and the device; a training that goes on from a checkpoint ends at the same weights.

    Args:
        predictor: the model, on its device.
        tokenizer: its tokenizer.
        texts: prepared rows of the pool.
        recipe: length of the training and its options.
        model: name of the model for messages.
        start: checkpoint to go on from; None to begin.
        keep: function that stores a checkpoint, called every `CHECKPOINT_SECONDS`, and before an interruption that the
            monitor raises.
        monitor: receives the progress.

    Raises:
        LearnerError: there are fewer than two different texts or none with a word, memory ran out, or the training
            diverged.
    """
    device, budget = predictor.device, min(recipe.batch_tokens, predictor.most_tokens)
    trained, held_out = _parts(texts, recipe.seed)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=SHARE)
    optimizer = _optimizer(predictor.model, recipe.learning_rate)
    mask, seed = tokenizer.mask_token_id, recipe.seed
    out_of_memory_text = (
        f"adapt ran out of memory with batches of {budget} tokens: lower adapt.batch_tokens or max_length, or set "
        "device to cpu"
    )
    randomness = own_randomness(seed, device)
    with randomness, deterministic(device), warnings.catch_warnings(), explaining_memory(out_of_memory_text):
        warnings.filterwarnings("ignore", message=r".*does not have a deterministic implementation.*")
        if start is None:
            loss_before = held_out_loss(predictor, texts, held_out, mask=mask, seed=seed, budget=budget)
        else:
            loss_before = start.loss_before
            _restore(predictor.model, optimizer, start.tensors)
        done, kept = 0 if start is None else start.steps, time.monotonic()
        monitor.started("adaptation", recipe.steps)
        if done:
            monitor.advanced(done)
        predictor.train()
        batches = enumerate(islice(token_batches(texts, trained, budget, seed), done, recipe.steps), done)
        for step, rows in batches:
            torch.manual_seed(_number(seed, _STEP, step))  # of its own, so that a checkpoint needs no random state
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _schedule(step, recipe.steps)
            loss = masked_loss(predictor, collator, texts.batch(rows.tolist()))
            if loss is not None:
                loss.backward()
                torch.nn.utils.clip_grad_norm_(predictor.parameters(), _CLIP)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            try:
                monitor.advanced(1)
            except BaseException:
                keep(_checkpoint(predictor.model, optimizer, step + 1, loss_before))
                raise
            if time.monotonic() - kept >= CHECKPOINT_SECONDS and step + 1 < recipe.steps:
                keep(_checkpoint(predictor.model, optimizer, step + 1, loss_before))
                kept = time.monotonic()
        predictor.eval()
        monitor.finished()
        loss_after = held_out_loss(predictor, texts, held_out, mask=mask, seed=seed, budget=budget)
    if not math.isfinite(loss_after):
        raise LearnerError(
            f"adapt: the training of {model} diverged (a masked-token loss of {loss_after}): lower adapt.learning_rate"
        )
    return TrainingRecord(len(trained), len(held_out), loss_before, loss_after)


def held_out_loss(
    predictor: MaskedTokenPredictor, texts: TextPrepared, rows: Rows, *, mask: int, seed: int, budget: int
) -> float:
    """Mean loss at masked tokens of some rows, in nats per token, in float32 and evaluation mode.

    A random 15 % of the ordinary tokens of each text, at least one, are all masked. They depend only on the text and
    the seed, so that the losses of two models are those of the same tokens.

    Raises:
        LearnerError: no text has an ordinary token.
    """
    losses: list[Tensor] = []
    rows = rows[np.argsort(-texts.lengths.numpy()[rows], kind="stable")]
    with evaluating(predictor), torch.no_grad():
        for part in _cut(rows, texts.lengths.numpy(), budget):
            batch = {name: value.to(predictor.device) for name, value in texts.batch(part.tolist()).items()}
            ids, real = batch["input_ids"], batch["attention_mask"].bool()
            drawn = draw_tokens(ids, real, predictor.ordinary(batch), share=SHARE, seed=_number(seed, _MASK))
            row, column = drawn.nonzero(as_tuple=True)
            if len(row):
                logits = predictor.logits({**batch, "input_ids": ids.masked_fill(drawn, mask)}, row, column)
                losses.append(F.cross_entropy(logits, ids[row, column], reduction="none").double().cpu())
    if not losses:
        raise LearnerError("adapt: the texts of the pool have no tokens to predict: leave adapt out")
    return float(torch.cat(losses).mean())


def distinct_rows(texts: TextPrepared) -> tuple[NDArray[np.uint64], Rows]:
    """Different digests (n, 2) of the texts in ascending order, and the first row (n,) of each."""
    digests, rows = np.unique(texts.digests, axis=0, return_index=True)
    return digests, rows.astype(np.int64)


def _parts(texts: TextPrepared, seed: int) -> tuple[Rows, Rows]:
    """Rows to train on, one of each different text, and those kept apart. The order of the pool has no effect."""
    _, rows = distinct_rows(texts)
    if len(rows) < 2:
        raise LearnerError("adapt needs at least two different texts in the pool: leave adapt out")
    order = np.random.default_rng(np.random.SeedSequence((seed, _SPLIT))).permutation(len(rows))
    held_out = min(_HELD_OUT, max(1, len(rows) // 10))
    return rows[order[held_out:]], rows[order[:held_out]]


def token_batches(texts: TextPrepared, rows: Rows, budget: int, seed: int) -> Iterator[Rows]:
    """Endless training batches of rows of similar length, at most `budget` tokens each, in a new order in every epoch.

    See `batches_of_similar_length`; a group has about 16 batches.
    """
    lengths = texts.lengths.numpy()[rows]
    group_size = max(1, int(GROUP * budget / lengths.mean()))
    for epoch in count():
        generator = np.random.default_rng(np.random.SeedSequence((seed, _ORDER, epoch)))
        batches = batches_of_similar_length(lengths, group_size, lambda group: _cut(group, lengths, budget), generator)
        yield from (rows[batch] for batch in batches)


def _cut(rows: Rows, lengths: Rows, budget: int) -> list[Rows]:
    """Cut rows, in order, into batches of at most `budget` tokens, padding included, but at least one row."""
    starts, longest = [0], 0
    for position, length in enumerate(lengths[rows].tolist()):
        longest = max(longest, length)
        if position > starts[-1] and longest * (position + 1 - starts[-1]) > budget:
            starts.append(position)
            longest = length
    return np.split(rows, starts[1:])


def masked_loss(
    predictor: MaskedTokenPredictor, collator: DataCollatorForLanguageModeling, batch: Mapping[str, Tensor]
) -> Tensor | None:
    """Mean loss at the tokens that are drawn for prediction, in nats; None if none is drawn.

    Args:
        predictor: the model.
        collator: draws the tokens with torch's global generator, and hides them.
        batch: a batch of texts on the CPU.
    """
    hidden, labels = collator.torch_mask_tokens(
        batch["input_ids"].clone(), special_tokens_mask=~predictor.ordinary(batch)
    )
    row, column = (labels >= 0).nonzero(as_tuple=True)
    if not len(row):
        return None
    device = predictor.device
    moved = {name: value.to(device) for name, value in {**batch, "input_ids": hidden}.items()}
    with autocast_to(device, "auto"):
        logits = predictor.logits(moved, row.to(device), column.to(device))
    return F.cross_entropy(logits, labels[row, column].to(device))


def _optimizer(model: Any, learning_rate: float) -> torch.optim.AdamW:
    """AdamW without weight decay on biases and layer norms."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [each for each in parameters if each.dim() > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [each for each in parameters if each.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=model.device.type in ("cpu", "cuda"))


def _schedule(step: int, steps: int) -> float:
    """Factor of the learning rate at this step, counted from 0: linear warm-up and decay."""
    warmup = math.ceil(_WARMUP * steps)
    return (step + 1) / (warmup + 1) if step < warmup else (steps - step) / max(steps - warmup, 1)


def _number(*facts: int) -> int:
    """Seed of 63 bits that some numbers determine."""
    return int(np.random.SeedSequence(facts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _checkpoint(model: Any, optimizer: torch.optim.AdamW, steps: int, loss_before: float) -> Checkpoint:
    tensors = {f"model.{name}": value for name, value in model.named_parameters()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in moments.items()}
    return Checkpoint(steps, loss_before, {name: value.detach().cpu().contiguous() for name, value in tensors.items()})


@torch.no_grad()
def _restore(model: Any, optimizer: torch.optim.AdamW, tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(tensors[f"model.{name}"])
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimizer":
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
