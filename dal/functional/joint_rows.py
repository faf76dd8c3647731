"""Rows of joint samples as the search of BatchBALD reads them: held by this process, or distributed over ranks."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.blocks import by_blocks
from dal.functional.checked_tensors import NotFiniteError, refuse_rows
from dal.functional.disagreement import mutual_information
from dal.functional.exchange import Shard

#: Number of rows sent to all ranks at first, and the factor by which it grows from one exchange to the next.
ROWS, GROWTH = 512, 4


class HeldRows:
    """Log-probabilities (N, K, C) held by this process, with their conditional entropies.

    Attributes:
        information: (N,) mutual information of each row and the model.
        like: (0, K, C) empty tensor of the dtype and device of the log-probabilities.

    Raises:
        ValueError: a log-probability is not finite.
    """

    def __init__(self, log_p: Float[Tensor, "N K C"]) -> None:
        self._log_p, self._entropies = log_p, _entropies(log_p)
        if not bool(torch.isfinite(self._entropies.sum())):
            refuse_rows(log_p, "joint_mc_log_probs")  # floor the log-probability of impossible outcomes
        self.information = mutual_information(log_p)
        self.like = log_p[:0]

    def log_p(self, rows: Int64[Tensor, " R"]) -> Float[Tensor, "R K C"]:
        """Log-probabilities of some rows."""
        return self._log_p[rows]

    def entropies(self, rows: Int64[Tensor, " R"]) -> Float[Tensor, "R K"]:
        """H(y | k) of some rows and every sample, which is independent of the labels of other rows."""
        return self._entropies[rows]


class SharedRows:
    """Log-probabilities that are distributed over ranks; rows are sent to all ranks when they are first read.

    All ranks read the same rows in the same order, so that they know which are sent. The rows of largest mutual
    information, which a search reads first, are sent along.

    Attributes:
        information: (N,) mutual information of all rows of all ranks.
        like: as for `HeldRows`.

    Raises:
        ValueError: a log-probability is not finite.
    """

    def __init__(self, log_p: Float[Tensor, "R K C"], shard: Shard, every: bool) -> None:
        shard.check_length(len(log_p))
        self._own, self._shard, self.like = log_p, shard, log_p[:0]
        finite = bool(torch.isfinite(log_p.sum()))
        own = log_p.new_full((shard.total,), -1)  # information is not negative
        own[shard.rows] = mutual_information(log_p) if finite else torch.nan
        everything = torch.stack(shard.comm.all_gather(own))  # (W, N)
        if bool(everything.isnan().any()):
            raise NotFiniteError("joint_mc_log_probs must be finite")
        self.information, self._owner = everything.max(0)
        self._order = self.information.argsort(descending=True, stable=True)
        self._place = torch.full_like(self._owner, -1)  # of each row among those that this rank holds
        self._held, self._entropies = self.like, log_p.new_zeros(0, log_p.shape[1])
        self._next = shard.total if every else ROWS

    def log_p(self, rows: Int64[Tensor, " R"]) -> Float[Tensor, "R K C"]:
        """Log-probabilities of some rows; in one collective if a row is read for the first time."""
        self._fetch(rows)
        return self._held[self._place[rows]]

    def entropies(self, rows: Int64[Tensor, " R"]) -> Float[Tensor, "R K"]:
        """H(y | k) of some rows and every sample."""
        self._fetch(rows)
        return self._entropies[self._place[rows]]

    def _fetch(self, rows: Int64[Tensor, " R"]) -> None:
        missing = rows[self._place[rows] < 0]
        if not len(missing):
            return
        wanted = torch.zeros_like(self._place, dtype=torch.bool)
        wanted[missing] = True
        others = self._order[(self._place[self._order] < 0) & ~wanted[self._order]]
        wanted[others[: max(0, self._next - len(missing))]] = True
        self._next *= GROWTH
        owner = self._owner.where(wanted, -1)
        counts = owner[wanted].bincount(minlength=self._shard.comm.size)
        message = self._own.new_zeros(int(counts.max()), *self._own.shape[1:])
        mine = self._shard.places(wanted.nonzero().flatten())[1]
        message[: len(mine)] = self._own[mine]
        received = self._shard.comm.all_gather(message)
        for rank, (part, count) in enumerate(zip(received, counts.tolist(), strict=True)):
            self._place[owner == rank] = torch.arange(count, device=owner.device) + len(self._held)
            self._held = torch.cat([self._held, part[:count]])
            self._entropies = torch.cat([self._entropies, _entropies(part[:count])])


def _entropies(log_p: Float[Tensor, "N K C"]) -> Float[Tensor, "N K"]:
    N, K, C = log_p.shape
    return by_blocks(lambda rows: log_p[rows].exp().mul_(log_p[rows]).sum(-1).neg_(), N, K * C, log_p.device)
