"""Differences between predictions: to those for labeled neighbours (CAL) and to one another (FALCUN)."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import blocks
from dal.functional.checked_tensors import finite, floats, integers
from dal.functional.checking import chosen, number
from dal.functional.uncertainty import margin


@torch.no_grad()
def neighbor_divergence(
    log_probs: Float[Tensor, "N C"],
    others: Float[Tensor, "L C"],
    indices: Int64[Tensor, "N k"],
    *,
    multilabel: bool = False,
) -> Float[Tensor, " N"]:
    """Mean divergence of each row's prediction from the predictions for its k neighbours, in nats, (N,).

    `1/k sum_j KL(p(neighbour j) || p(row))`, with neighbour j the row `indices[:, j]` of `others`; 0 if all predictions
    are equal. With `multilabel`, log_probs are those of C independent Bernoullis and the result is the mean over the
    classes of the binary divergence. Log-probabilities must be finite (`dal.outputs.log_probs` floors them). Extra
    memory: O(N) numbers and a block.

    Margatina, Vernikos, Barrault and Aletras 2021, "Active Learning by Acquiring Contrastive Examples".

    >>> sure, torn = torch.tensor([[0.8, 0.2]]).log(), torch.tensor([[0.5, 0.5]]).log()
    >>> neighbor_divergence(torn, sure, torch.zeros(1, 1, dtype=torch.int64))
    tensor([0.1927])
    """
    log_probs = finite(floats(log_probs, "log_probs", 2), "log_probs")
    others = finite(floats(others, "others", 2), "others").to(log_probs.dtype)
    indices = integers(indices, "indices", 0, len(others), 2)
    if others.shape[1] != log_probs.shape[1] or len(indices) != len(log_probs) or not indices.shape[1]:
        shapes = f"{tuple(log_probs.shape)}, {tuple(others.shape)} and {tuple(indices.shape)}"
        raise ValueError(f"log_probs, others and indices must be (N, C), (L, C) and (N, k), not {shapes}")
    out = log_probs.new_empty(len(log_probs))
    for rows in blocks(len(log_probs), indices.shape[1] * log_probs.shape[1], log_probs.device):
        log_q, log_p = others[indices[rows]], log_probs[rows, None]  # (B, k, C) neighbours, (B, 1, C) rows
        terms = log_q.exp() * (log_q - log_p)
        if multilabel:
            against_q, against_p = _log_complement(log_q), _log_complement(log_p)
            out[rows] = (terms + against_q.exp() * (against_q - against_p)).mean(-1).mean(1)
        else:
            out[rows] = terms.sum(-1).mean(1)
    return out.clamp_min(0)  # a divergence of nearly equal predictions may be rounded to below 0


def _log_complement(log_p: Tensor) -> Tensor:
    """log(1 - p), with the same floor as log p."""
    floor = torch.finfo(log_p.dtype).tiny
    return (-torch.expm1(log_p)).clamp_min(floor).log().clamp_min(math.log(floor))


@torch.no_grad()
def falcun(
    probs: Float[Tensor, "N C"],
    n: int,
    *,
    gamma: float = 10.0,
    generator: torch.Generator,
    multilabel: bool = False,
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """Positions of n rows drawn by uncertainty and by distance to the predictions drawn before, with their scores.

    Each row is drawn with probability proportional to `(u + d)^gamma`. u is the uncertainty, one minus the margin; d is
    the smallest L1 distance between the row's probabilities and those of the rows drawn before (u for the first draw).
    Both are scaled to 0..1 over the remaining rows. The score of a row is its `u + d` at the time of the draw. Once
    `u + d` is 0 for all rows, they are drawn uniformly.

    Sampling uses exponential clocks: each row has a clock that runs at the speed `(u + d)^gamma`, and the first to run
    out is drawn. Exponential times are memoryless, so the other clocks continue and N random numbers suffice. With
    `multilabel`, probs are C independent Bernoullis. Extra memory: a copy of probs and O(N) numbers.

    Gilhuber, Beer, Ma and Seidl 2024, "FALCUN: A Simple and Efficient Deep Active Learning Strategy".

    Raises:
        ValueError: n is not within 1..N, gamma is negative, or a probability is not finite.

    >>> probs = torch.tensor([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]])
    >>> falcun(probs, 1, generator=torch.Generator().manual_seed(0))
    (tensor([1]), tensor([2.]))
    """
    probs, gamma = finite(floats(probs, "probs", 2), "probs"), number(gamma, "gamma", 0)
    n = chosen(n, len(probs), "rows")
    clock = torch.empty(len(probs), dtype=torch.float64).exponential_(generator=generator).to(probs.device)
    columns = probs.T.contiguous()  # (C, N): sums over the classes read memory in order
    free = torch.ones_like(clock, dtype=torch.bool)
    uncertainty = 1 - margin(probs, multilabel=multilabel).double()
    distance = uncertainty  # (N,)
    positions = torch.empty(n, dtype=torch.int64, device=probs.device)
    scores = probs.new_empty(n)
    for step in range(n):
        relevance = _scaled(uncertainty, free) + _scaled(distance, free)
        pick, clock = _next_to_run_out(clock, relevance, free, gamma)
        positions[step : step + 1], scores[step : step + 1] = pick, relevance[pick].to(scores.dtype)
        free[pick] = False
        to_pick = _l1_distances(columns, columns[:, pick])
        distance = torch.minimum(distance, to_pick) if step else to_pick
    return positions, scores


def _scaled(values: Tensor, free: Tensor) -> Tensor:
    """Values scaled to 0..1 over the free rows, (N,); 0 if they are equal."""
    low = torch.where(free, values, torch.inf).amin()
    high = torch.where(free, values, -torch.inf).amax()
    width = high - low
    return torch.where(width > 0, (values - low) / width, torch.zeros_like(values)).clamp(0, 1)


def _next_to_run_out(clock: Tensor, relevance: Tensor, free: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """First free clock to run out (1,), and the work left on all clocks at that time (N,)."""
    highest = torch.where(free, relevance, 0).amax()
    # Relative to the highest, so that a large gamma cannot overflow; only the ratios of the speeds matter.
    speed = torch.where(highest > 0, relevance / highest, 1).pow(gamma) * free
    time = torch.where(speed > 0, clock / speed, torch.inf)
    pick = time.argmin().view(1)
    return pick, (clock - time[pick] * speed).clamp_min_(0)


def _l1_distances(columns: Tensor, column: Tensor) -> Tensor:
    """L1 distance `sum_c |p_c - q_c|` of each row, (N,), from probabilities stored as (C, N) and (C, 1)."""
    out = columns.new_empty(columns.shape[1], dtype=torch.float64)
    for rows in blocks(columns.shape[1], len(columns), columns.device):
        out[rows] = (columns[:, rows] - column).abs_().sum(0)
    return out
