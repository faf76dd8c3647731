"""Logistic regression of two sides: the plane that best tells them apart."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from dal.functional.checking import floats, number
from dal.functional.points import as_points, check_finite
from dal.functional.precision import true_float32

_STEPS = 100
_TOLERANCE = 1e-12  # of the gradient, whose parts are of the order of the points


@dataclass(frozen=True, eq=False)
class Plane:
    """A linear separation: a point x lies on the second side with probability `sigmoid(weight . x + bias)`.

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
    """The regularised logistic regression that tells the second side's points from the first's, as a `Plane`.

    Minimises `mean over first log(1 + e^z) / 2 + mean over second log(1 + e^-z) / 2 + penalty / 2 |weight|^2` with
    `z = weight . x + bias`: both sides count alike, however many points they have. The minimum is unique; Newton's
    method finds it to rounding in float64 from any `start`, in a handful of steps of (A + B) D^2 multiplications.
    Extra memory: `3 (A + B) D + 3 D^2` numbers.

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
        if moved is None:  # far out, where the curvature is nearly none: its upper bound never steps too far
            moved = problem.descend(theta, problem.newton_step(gradient, problem.share / 4), value, gradient)
        if moved is None:  # no step lowers the value any more: rounding
            break
        theta, value, slope, curvature = moved
    return Plane(theta[:-1], theta[-1])


@dataclass(frozen=True, eq=False)
class _Problem:
    """The function to be minimised over (weight, bias).

    Attributes:
        x: (S, D + 1) the points with a 1 appended, in float64.
        rough: the same in float32, good enough for the curvature.
        sign: (S,) -1 on the first side, 1 on the second.
        share: (S,) what each counts, in all 1.
        penalty: (D + 1,) of every parameter; 0 for the bias.
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
        """The value, and the weighted first and second derivative in every point's z, (S,) each."""
        z = self.sign * (self.x @ theta)
        value = float(self.share @ F.softplus(-z) + (self.penalty @ theta.square()) / 2)
        wrong = torch.sigmoid(-z)
        return value, -self.share * self.sign * wrong, self.share * wrong * torch.sigmoid(z)

    def gradient(self, theta: Tensor, slope: Tensor) -> Tensor:
        """(D + 1,)."""
        return slope @ self.x + self.penalty * theta

    def newton_step(self, gradient: Tensor, curvature: Tensor) -> Tensor:
        """Where a quadratic of this gradient and curvature has its minimum, (D + 1,)."""
        factor, failed = torch.linalg.cholesky_ex(self._hessian(self.rough, curvature))
        if int(failed):  # a penalty so small that float32 cannot see it next to the largest points
            factor = torch.linalg.cholesky(self._hessian(self.x, curvature))
        return -torch.cholesky_solve(gradient[:, None], factor).squeeze(1)

    def _hessian(self, x: Tensor, curvature: Tensor) -> Tensor:
        with true_float32():
            hessian = (x.T @ (curvature.to(x.dtype)[:, None] * x)).double()  # (D + 1, D + 1)
        diagonal = hessian.diagonal()
        diagonal.add_(self.penalty + torch.finfo(x.dtype).eps * diagonal.amax())  # what rounding may have taken
        return hessian

    def descend(
        self, theta: Tensor, step: Tensor, value: float, gradient: Tensor
    ) -> tuple[Tensor, float, Tensor, Tensor] | None:
        """The new parameters with their value and derivatives, after as much of the step as lowers the value."""
        length, descent = 1.0, float(gradient @ step)
        while length > 1e-3:
            moved = theta + length * step
            lower, slope, curvature = self.at(moved)
            if lower <= value + 1e-4 * length * descent:
                return moved, lower, slope, curvature
            length /= 2
        return None
