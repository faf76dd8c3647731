"""Seeded samples and stratified shares that do not depend on the order of the rows."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Keys = NDArray[np.uint64]
Rows64 = NDArray[np.int64]


def keys(digest: Keys, seed: int, stream: int) -> Keys:
    """A pseudo-random number per row, (N,), determined by the row's hash, the seed and the purpose (`stream`).

    A row keeps its number when the file is reordered or extended, so shares and samples change little.
    """
    start = np.random.SeedSequence((seed, stream)).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        mixed: Keys = digest.astype(np.uint64) + start  # splitmix64 (Steele et al. 2014), in place
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed ^= mixed >> np.uint64(shift)
            mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def sample(key: Keys, n: int) -> Rows64:
    """The n rows with the smallest keys, or all if there are fewer, in file order."""
    if n >= len(key):
        return np.arange(len(key), dtype=np.int64)
    return np.sort(np.lexsort((np.arange(len(key)), key))[:n]).astype(np.int64)


def distinct(values: Keys) -> int:
    """Number of distinct values."""
    ordered = np.sort(values)  # many times faster than np.unique
    return len(ordered) and 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1]))


def strata(labels: Tensor) -> Rows64:
    """Stratum of each labeled row, (L,), from labels (L,) or (L, C): its class, or its set of classes."""
    values = labels.numpy()
    if values.ndim == 1:
        codes = values - values.min(initial=0)
        found: Rows64 = ((np.bincount(codes) > 0).cumsum() - 1)[codes]
        return found
    packed = np.packbits(values, axis=1)
    order = np.lexsort(packed.T[::-1]) if packed.size else np.arange(len(packed))
    new = (packed[order[1:]] != packed[order[:-1]]).any(1)
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.r_[0, np.cumsum(new)] if len(values) else 0
    return ranks


def share(key: Keys, stratum: Rows64, fraction: float) -> Rows64:
    """A stratified sample of the rows, in file order: the rows with the smallest keys of each stratum.

    The sample has `fraction` of all rows, rounded, at least one. It is divided among the strata by largest remainder.
    """
    counts = np.bincount(stratum)
    quota = np.floor(counts * fraction).astype(np.int64)
    lowest = np.full(len(counts), np.iinfo(np.uint64).max)
    np.minimum.at(lowest, stratum, key)
    left = max(1, round(len(key) * fraction)) - int(quota.sum())
    quota[np.lexsort((lowest, -(counts * fraction - quota)))[: max(0, left)]] += 1
    # Keys are spread evenly, so that a small share is among the small keys: only these are sorted, and all rows of
    # strata that have too few of them.
    small = key <= np.uint64(min(1.0, 1.1 * fraction + 0.01) * (2**64 - 2**11))
    short = np.bincount(stratum[small], minlength=len(counts)) < quota
    sorted_ = np.flatnonzero(small | short[stratum] if short.any() else small)
    order = sorted_[np.lexsort((key[sorted_], stratum[sorted_]))]
    sizes = np.bincount(stratum[order], minlength=len(counts))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the stratum, along `order`
    return np.sort(order[rank < quota[stratum[order]]]).astype(np.int64)
