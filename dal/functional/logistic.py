"""Regularised binary logistic regression by Newton's method."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dal.functional.checked_tensors import floats
from dal.functional.checking import number
from dal.functional.points import as_points, check_finite
from dal.functional.precision import true_float32

_STEPS = 100
_TOLERANCE = 1e-12  # largest absolute gradient entry at convergence


@dataclass(frozen=True, eq=False)
class Plane:
    """Linear classifier: a point x belongs to the second side with probability `sigmoid(weight . x + bias)`.

    Attributes:
        weight: (D,) float64.
        bias: () float64.
    """

    weight: Float[Tensor, " D"]
    bias: Float[Tensor, ""]


@torch.no_grad()
def separate(
    first: Float[Tensor, "A D"], second: Float[Tensor, "B D"], *, penalty: float = 0.01, start: Plane | None = None
) -> Plane:
    """Fit a regularised logistic regression that separates the second side's points from the first's.

    Minimises `mean over first log(1 + e^z) / 2 + mean over second log(1 + e^-z) / 2 + penalty / 2 |weight|^2` with
    `z = weight . x + bias`; both sides have equal total weight. The minimum is unique, and Newton's method finds it up
    to float64 rounding from any `start`, in a few steps of (A + B) D^2 multiplications. Extra memory:
    `3 (A + B) D + 3 D^2` numbers.

    Raises:
        ValueError: a side is empty, the penalty is not above 0, or a point is not finite.

    >>> plane = separate(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [4.0]]))
    >>> round(float(-plane.bias / plane.weight), 6)
    2.0
    """
    first, second = floats(first, "first", 2), floats(second, "second", 2)
    if not len(first) or not len(second):
        raise ValueError("both sides need points")
    penalty = number(penalty, "penalty", above=0)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"both sides need points of one width, not {first.shape[1]} and {second.shape[1]}")
    check_finite(as_points(first))
    check_finite(as_points(second))
    problem = _Problem.of(first, second, penalty)
    theta = problem.x.new_zeros(first.shape[1] + 1, dtype=torch.float64)
    if start is not None:
        theta = torch.cat([start.weight, start.bias.view(1)])
    value, slope, curvature = problem.at(theta)
    for _ in range(_STEPS):
        gradient = problem.gradient(theta, slope)
        if float(gradient.abs().amax()) <= _TOLERANCE:
            break
        moved = problem.descend(theta, problem.newton_step(gradient, curvature), value, gradient)
        if moved is None:  # the curvature is almost 0 here: its upper bound 1/4 gives steps that are never too long
            moved = problem.descend(theta, problem.newton_step(gradient, problem.share / 4), value, gradient)
        if moved is None:  # converged up to rounding
            break
        theta, value, slope, curvature = moved
    return Plane(theta[:-1], theta[-1])


@dataclass(frozen=True, eq=False)
class _Problem:
    """Objective function over (weight, bias).

    Attributes:
        x: (S, D + 1) points with a 1 appended, in float64.
        rough: (S, D + 1) the same in float32, precise enough for the Hessian.
        sign: (S,) -1 on the first side, 1 on the second.
        share: (S,) weight of each point, with sum 1.
        penalty: (D + 1,) penalty of each parameter; 0 for the bias.
    """

    x: Tensor
    rough: Tensor
    sign: Tensor
    share: Tensor
    penalty: Tensor

    @classmethod
    def of(cls, first: Tensor, second: Tensor, penalty: float) -> "_Problem":
        x = F.pad(torch.cat([first, second]).double(), (0, 1), value=1.0)
        side = torch.arange(len(x), device=x.device) < len(first)
        sign = 1.0 - 2.0 * side.double()
        share = torch.where(side, 0.5 / len(first), 0.5 / len(second)).double()
        ridge = x.new_full((x.shape[1],), penalty)
        ridge[-1] = 0
        return cls(x, x.float(), sign, share, ridge)

    def at(self, theta: Tensor) -> tuple[float, Tensor, Tensor]:
        """Objective value, and its first and second derivatives with respect to each point's z, (S,) each."""
        z = self.sign * (self.x @ theta)
        value = float(self.share @ F.softplus(-z) + (self.penalty @ theta.square()) / 2)
        wrong = torch.sigmoid(-z)
        return value, -self.share * self.sign * wrong, self.share * wrong * torch.sigmoid(z)

    def gradient(self, theta: Tensor, slope: Tensor) -> Tensor:
        """Gradient with respect to the parameters, (D + 1,)."""
        return slope @ self.x + self.penalty * theta

    def newton_step(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """Newton step for this gradient and curvature, (D + 1,)."""
        factor, failed = torch.linalg.cholesky_ex(self._hessian(self.rough, curvature))
        if int(failed):  # the penalty is too small for float32 relative to the largest points
            factor = torch.linalg.cholesky(self._hessian(self.x, curvature))
        return -torch.cholesky_solve(gradient[:, None], factor).squeeze(1)

    def _hessian(self, x: Tensor, curvature: Tensor) -> Tensor:
        with true_float32():
            hessian = (x.T @ (curvature.to(x.dtype)[:, None] * x)).double()  # (D + 1, D + 1)
        diagonal = hessian.diagonal()
        diagonal.add_(self.penalty + torch.finfo(x.dtype).eps * diagonal.amax())  # compensates rounding errors
        return hessian

    def descend(
        self, theta: Tensor, step: Tensor, value: float, gradient: Tensor
    ) -> tuple[Tensor, float, Tensor, Tensor] | None:
        """Backtracking line search: new parameters, value and derivatives; `None` if no step length is sufficient."""
        length, descent = 1.0, float(gradient @ step)
        while length > 1e-3:
            moved = theta + length * step
            lower, slope, curvature = self.at(moved)
            if lower <= value + 1e-4 * length * descent:
                return moved, lower, slope, curvature
            length /= 2
        return None
