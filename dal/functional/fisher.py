"""Fisher information of a linear last layer, and greedy optimal design (BAIT)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.errors import SelectionError
from dal.functional.blocks import blocks
from dal.functional.checked_tensors import aligned, finite, floats
from dal.functional.checking import MAX_SCALE, MIN_SCALE, chosen, number, whole
from dal.functional.precision import true_float32

#: Lower bound of the eigenvalues in the careful mode; smaller ones are rounding errors.
_SMALLEST = 1e-12

#: If the smallest eigenvalue may be below this, rounding could decide, and `eigh` replaces the Cholesky factorisation.
_CLEAR = 1e-8

#: Replaces 0 in divisors.
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class FisherFactors:
    """Factors V_i (R, P) of the Fisher information `I_i = V_i' V_i` of N rows, computed on access.

    For a softmax over C classes, `I = (diag(p) - p p') (x) h h'` is the covariance of the gradient `(p - e_y) (x) h`
    for labels y drawn from the model. The closed-form Cholesky factor of its first part, with the classes in decreasing
    order of probability, gives C - 1 rows of V; for independent Bernoullis (multi-label) that part is
    `diag(p (1 - p))` and gives C rows. Two approximations bound memory:

    - at most `rank` rows of V are kept, those of the most probable classes, rescaled to preserve the trace of I;
    - if there are more parameters C * D than columns of `signs`, V is projected: column k of the row `a (x) h` is
      `<a, s_k> <h, t_k> / sqrt(P)` with random signs s and t, which preserves inner products in expectation.

    Tanabe and Sagae 1992, "An exact Cholesky decomposition and the generalized inverse of the variance-covariance
    matrix of the multinomial distribution"; Kar and Karnick 2012, "Random feature maps for dot product kernels".

    Attributes:
        probs: (N, C) predicted probabilities.
        features: (N, D) inputs of the last layer.
        rank: maximum number R of rows of V.
        signs: projection signs (C, P) and (D, P) of ones and minus ones; `None` for no projection, P = C * D.
        multilabel: whether probs are C independent Bernoullis.
    """

    probs: Float[Tensor, "N C"]
    features: Float[Tensor, "N D"]
    rank: int
    signs: tuple[Float[Tensor, "C P"], Float[Tensor, "D P"]] | None = None
    multilabel: bool = False

    def __len__(self) -> int:
        return len(self.probs)

    def __getitem__(self, index: Tensor | slice) -> "FisherFactors":
        return self.like(self.probs[index], self.features[index])

    def like(self, probs: Float[Tensor, "M C"], features: Float[Tensor, "M D"]) -> "FisherFactors":
        """Factors of other rows with the same rank and projection."""
        return FisherFactors(probs, features, self.rank, self.signs, self.multilabel)

    @property
    def width(self) -> int:
        """Number P of parameters, after projection."""
        return self.signs[0].shape[1] if self.signs else self.probs.shape[1] * self.features.shape[1]

    @property
    def height(self) -> int:
        """Number R of rows of V."""
        return max(1, min(self.rank, self.probs.shape[1] - (not self.multilabel)))

    def blocks(self) -> "Iterator[FisherFactors]":
        """Iterate over blocks of rows whose dense factors fit into a block."""
        for rows in blocks(len(self), self.height * max(self.width, self.probs.shape[1]), self.probs.device):
            yield self[rows]

    def traces(self) -> Float[Tensor, " N"]:
        """Trace of the information of each row, before any projection, (N,)."""
        out = self.features.new_empty(len(self))
        for rows in blocks(len(self), self.probs.shape[1] + self.features.shape[1], self.probs.device):
            p, h = self.probs[rows].double(), self.features[rows].double()
            out[rows] = (_variances(p, self.multilabel).sum(1) * h.square().sum(1)).to(out.dtype)
        return out

    def dense(self) -> Float[Tensor, "N R P"]:
        """Dense factors V of all rows, float32. For blocks of rows only."""
        classes = _class_factors(self.probs.double(), self.height, self.multilabel).float()  # (B, R, C)
        h = self.features.float()
        if self.signs is None:
            return (classes[..., None] * h[:, None, None]).flatten(2)
        left, right = self.signs
        with true_float32():
            projected: Tensor = (classes @ left) * ((h @ right) / self.width**0.5)[:, None]
        return projected


@torch.no_grad()
def fisher_factors(
    probs: Float[Tensor, "N C"],
    features: Float[Tensor, "N D"],
    *,
    generator: torch.Generator,
    dimensions: int = 512,
    rank: int = 8,
    multilabel: bool = False,
) -> FisherFactors:
    """Factors of the last layer's Fisher information, projected to `dimensions` if C * D exceeds it.

    The generator (on the CPU) is used for the projection only. See `FisherFactors` for the approximations.

    >>> probs, features = torch.tensor([[0.5, 0.5]]), torch.tensor([[2.0, 0.0]])
    >>> fisher_factors(probs, features, generator=torch.Generator()).dense().abs()
    tensor([[[1., 0., 1., 0.]]])
    """
    dimensions, rank = whole(dimensions, "dimensions", 1), whole(rank, "rank", 1)
    probs = finite(floats(probs, "probs", 2), "probs")
    features = finite(floats(features, "features", 2), "features")
    aligned(probs=probs, features=features)
    C, D = probs.shape[1], features.shape[1]
    if dimensions >= C * D:
        return FisherFactors(probs, features, rank, None, multilabel)
    drawn = 2.0 * torch.randint(2, (C + D, dimensions), generator=generator) - 1
    left, right = drawn.to(probs.device).split([C, D])
    return FisherFactors(probs, features, rank, (left, right), multilabel)


def _variances(p: Tensor, multilabel: bool) -> Tensor:
    """Variance of each entry of the one-hot or multi-hot label, (B, C)."""
    return p * (1 - p) if multilabel else p * (p.sum(1, keepdim=True) - p)


def _class_factors(p: Tensor, rank: int, multilabel: bool) -> Tensor:
    """R rows of a factor of each label covariance, (B, R, C), rescaled to preserve its trace."""
    variances = _variances(p, multilabel)
    factors = _binary_factors(variances, rank) if multilabel else _cholesky_factors(p, rank)
    kept = factors.square().sum((1, 2))
    # A row predicted with certainty has no information and no factors: 0 instead of 0 / 0.
    stretch = torch.where(kept > 0, variances.sum(1) / kept.clamp_min(_TINY), 0).sqrt()
    return factors * stretch[:, None, None]


def _cholesky_factors(p: Tensor, rank: int) -> Tensor:
    """First R columns of the Cholesky factor of diag(p) - p p', most probable class first, (B, R, C).

    With t_j the total probability of the classes after j, column j is sqrt(p_j t_j / t_{j-1}) at j, and
    -p_i sqrt(p_j / (t_j t_{j-1})) at each later i.
    """
    # The formula needs rows of sum 1, which predictions are only up to rounding. Stable: ties are alike on all devices.
    p, order = (p / p.sum(1, keepdim=True)).sort(stable=True, dim=1, descending=True)
    # Summed from the smallest on, not as 1 - cumsum: the tail of a confident row would be lost to cancellation.
    before = p.flip(1).cumsum(1).flip(1)  # t_{j-1}: class j and those after it
    after = torch.nn.functional.pad(before[:, 1:], (0, 1))  # t_j
    share = (p / before.clamp_min(_TINY)).sqrt()[:, :rank]
    spread = (share / after[:, :rank].clamp_min(_TINY).sqrt())[..., None]  # (B, R, 1)
    factors = (-spread * p[:, None]).triu(1)  # (B, R, C)
    factors.diagonal(dim1=1, dim2=2).copy_(share * after[:, :rank].sqrt())
    return torch.zeros_like(factors).scatter_(2, order[:, None].expand_as(factors), factors)


def _binary_factors(variances: Tensor, rank: int) -> Tensor:
    """Square roots of the R largest of C variances, each in the column of its class, (B, R, C)."""
    largest, classes = variances.sort(stable=True, dim=1, descending=True)
    factors = variances.new_zeros(len(variances), rank, variances.shape[1])
    return factors.scatter_(2, classes[:, :rank, None], largest[:, :rank, None].sqrt())


@dataclass(frozen=True, eq=False)
class Design:
    """Result of `bait`.

    Attributes:
        positions: (n,) int64, distinct, in the order of selection.
        gains: (n,) decrease of the objective when each row was added.
        objective: `tr(M^-1 F)` once all rows are labeled; proportional to the expected excess loss of the model.
    """

    positions: Int64[Tensor, " n"]
    gains: Float[Tensor, " n"]
    objective: float


@torch.no_grad()
def bait(
    rows: FisherFactors,
    n: int,
    *,
    target: FisherFactors | None = None,
    labeled: FisherFactors | None = None,
    regularisation: float = 1.0,
    oversampling: float = 2.0,
) -> Design:
    """Select n rows whose labels minimise the expected uncertainty on the target rows, by greedy optimal design.

    Minimises `tr(M^-1 F)` over the selection, with `M = regularisation * 1 + sum of I_i over labeled and selected rows`
    and F the mean of I_i over the target rows. Forward-backward greedy search: `oversampling * n` rows are added, each
    the one that lowers the objective most, then all but n are removed, each the one whose removal raises it least.

    A row with R factors changes M by rank R, so the new objective follows from two R x R matrices of the row,
    `V M^-1 V'` and `V M^-1 F M^-1 V'` (Woodbury identity). They are updated in each step with N * R * P * R operations,
    in float64, because small differences of large numbers matter. Memory: 8 bytes * (N R (P + 6 R) + 4 P^2) and blocks
    (4 MiB on the CPU).

    Steps do not wait for the host. It checks once after the additions and once after the removals whether a matrix was
    so nearly singular that rounding could decide; that part is then repeated with eigenvalue decompositions.

    Ash, Goel, Krishnamurthy and Kakade 2021, "Gone Fishing: Neural Active Learning with Fisher Embeddings".

    Args:
        rows: factors of the N rows that can be selected.
        n: number of rows to select, 1 <= n <= N.
        target: factors of the rows on which uncertainty should be minimal; `rows` by default.
        labeled: factors of the rows that are labeled already.
        regularisation: prior precision of each parameter, from 1e-16 to 1e16.
        oversampling: rows added per row kept, at least 1; 1 removes none.

    Raises:
        ValueError: n is not within 1..N, an argument is out of range, or there is no target row.
        SelectionError: the information is numerically singular because `regularisation` is too small.

    >>> probs, features = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[2.0], [2.0]])
    >>> bait(fisher_factors(probs, features, generator=torch.Generator()), 1)
    Design(positions=tensor([0]), gains=tensor([0.6667]), objective=0.3333333333333333)
    """
    n = chosen(n, len(rows), "rows")
    regularisation = number(regularisation, "regularisation", MIN_SCALE, MAX_SCALE)
    oversampling = number(oversampling, "oversampling", 1)
    if target is not None and not len(target):
        raise ValueError("target must have at least one row")
    prior = regularisation * torch.eye(rows.width, dtype=torch.float64, device=rows.probs.device)  # M, (P, P)
    if labeled is not None and len(labeled):
        prior = prior + _information(labeled)
    target = rows if target is None else target
    target_information = _information(target) / len(target)  # F, (P, P)
    added, gains = _added(rows, min(len(rows), round(n * oversampling)), prior, target_information)
    kept, objective = _kept(rows[added], n, prior, target_information)
    return Design(added[kept], gains[kept].float(), objective)


def _information(factors: FisherFactors) -> Tensor:
    """Sum of I over the rows, (P, P) float64."""
    total = torch.zeros(factors.width, factors.width, dtype=torch.float64, device=factors.probs.device)
    for block in factors.blocks():
        v = block.dense().flatten(0, 1).double()  # (B R, P)
        total.addmm_(v.T, v)
    return total


def _added(
    rows: FisherFactors, count: int, known: Tensor, wanted: Tensor, careful: bool = False
) -> tuple[Tensor, Tensor]:
    """Forward pass: positions of the rows added (count,), and the decrease of the objective by each (count,)."""
    state = _Woodbury(rows, known, wanted, careful)
    free = torch.ones(len(rows), dtype=torch.bool, device=known.device)
    positions = torch.empty(count, dtype=torch.int64, device=known.device)
    gains = known.new_empty(count)
    for step in range(count):
        gain = torch.where(free, state.gains(), -torch.inf)
        pick = gain.argmax().view(1)
        positions[step : step + 1], gains[step : step + 1] = pick, gain[pick]
        free[pick] = False
        state.add(pick)
    if bool(state.clear):
        return positions, gains
    del state  # free its memory before the same amount is allocated again
    return _added(rows, count, known, wanted, careful=True)


def _kept(rows: FisherFactors, n: int, known: Tensor, wanted: Tensor, careful: bool = False) -> tuple[Tensor, float]:
    """Backward pass: the n rows left after removing the others one by one, and the final objective."""
    state = _Woodbury(rows, known + _information(rows), wanted, careful)
    kept = torch.ones(len(rows), dtype=torch.bool, device=known.device)
    for _ in range(len(rows) - n):
        pick = torch.where(kept, state.losses(kept), torch.inf).argmin().view(1)
        kept[pick] = False
        state.remove(pick)
    if bool(state.clear):
        return kept.nonzero().flatten(), float((state.inverse * wanted).sum())
    del state
    return _kept(rows, n, known, wanted, careful=True)


class _Woodbury:
    """Change of the objective by each of m rows, updated while rows are added or removed.

    `inside` (m, R, R) holds V M^-1 V' and `outside` (m, R, R) V M^-1 F M^-1 V' of each row. `clear` () is true as long
    as all matrices were far from singular. With `careful`, eigenvalues are computed, and small ones raised.
    """

    def __init__(self, rows: FisherFactors, information: Tensor, wanted: Tensor, careful: bool) -> None:
        self.rows, self.wanted, self.careful = rows, wanted, careful
        self.clear = torch.ones((), dtype=torch.bool, device=wanted.device)
        lower, failed = torch.linalg.cholesky_ex(information)  # M once; its inverse is updated from here on
        if bool(failed):
            raise SelectionError("the Fisher information is numerically singular: increase regularisation")
        self.inverse = torch.cholesky_inverse(lower)
        self.factors = [block.dense().double() for block in rows.blocks()]  # each (B, R, P)
        shape = (len(rows), rows.height, rows.height)
        self.inside, self.outside = wanted.new_empty(shape), wanted.new_empty(shape)
        for place, v in self._places():
            half = v @ self.inverse
            self.inside[place] = half @ v.mT
            self.outside[place] = (half @ wanted) @ half.mT

    def _places(self) -> Iterator[tuple[slice, Tensor]]:
        """Iterate over the blocks of factors and the slices of their rows."""
        start = 0
        for v in self.factors:
            yield slice(start, start + len(v)), v
            start += len(v)

    def gains(self) -> Tensor:
        """Decrease of the objective if each row were added, (m,)."""
        eye = torch.eye(self.rows.height, dtype=torch.float64, device=self.inside.device)
        solved, _ = torch.linalg.solve_ex(eye + self.inside, self.outside)
        trace: Tensor = solved.diagonal(dim1=1, dim2=2).sum(1)
        return trace

    def losses(self, kept: Tensor) -> Tensor:
        """Increase of the objective if each row were removed, (m,); valid where `kept` (m,) is true."""
        # With W'W = (1 - V M^-1 V')^-1, the increase is the trace of W (V M^-1 F M^-1 V') W'.
        roots = self._inverse_roots(_identity_plus(self.inside, -1), kept)
        raised: Tensor = (roots @ self.outside).mul_(roots).sum((1, 2))
        return raised

    def add(self, pick: Tensor) -> None:
        """Add the row at `pick` (1,) to the labeled rows."""
        self._change(pick, 1)

    def remove(self, pick: Tensor) -> None:
        """Remove the row at `pick` (1,) from the labeled rows."""
        self._change(pick, -1)

    def _change(self, pick: Tensor, sign: int) -> None:
        """Add sign * V'V to M: its inverse changes by -sign * U U', U = M^-1 V' (1 + sign * V M^-1 V')^-1/2."""
        half = self.rows[pick].dense()[0].double() @ self.inverse  # (R, P)
        u = half.T @ self._inverse_roots(_identity_plus(self.inside[pick], sign))[0].T  # (P, R)
        pulled = self.wanted @ u
        towards, within = self.inverse @ pulled, u.T @ pulled
        self.inverse -= sign * u @ u.T
        # With M'^-1 = M^-1 - s U U', M'^-1 F M'^-1 is M^-1 F M^-1 plus B U' + U B', with B the second half of `both`:
        # one product with V gives what both matrices of every row need.
        both = torch.cat([u, u @ within / 2 - sign * towards], 1)  # (P, 2 R)
        for place, v in self._places():
            a, b = (v @ both).chunk(2, -1)  # each (B, R, R)
            cross = b @ a.mT
            self.inside[place] -= sign * a @ a.mT
            self.outside[place] += cross + cross.mT

    def _inverse_roots(self, matrices: Tensor, counting: Tensor | None = None) -> Tensor:
        """Inverse roots W, with W'W the inverse, of symmetric positive definite matrices (B, R, R); same shape.

        Only matrices where `counting` (B,) is true are checked for near-singularity.
        """
        if self.careful:
            values, vectors = torch.linalg.eigh(matrices)
            raised: Tensor = vectors.mT / values.clamp_min(_SMALLEST).sqrt()[..., None]
            return raised
        lower, failed = torch.linalg.cholesky_ex(matrices)
        eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device)
        roots: Tensor = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False)
        clear = (failed == 0) & (roots.square().sum((1, 2)) * _CLEAR <= 1)  # the trace of the inverse
        self.clear &= (clear if counting is None else clear | ~counting).all()
        return roots


def _identity_plus(inside: Tensor, sign: int) -> Tensor:
    return torch.eye(inside.shape[-1], dtype=inside.dtype, device=inside.device) + sign * inside
