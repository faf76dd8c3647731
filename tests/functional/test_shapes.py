"""The shapes in the annotations of the public functions hold, and are checked."""

import inspect

import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from dal import functional

G = torch.Generator()
PROBS, MC, X = torch.full((4, 3), 1 / 3), torch.zeros(4, 5, 3), torch.rand(4, 3)
CALLS = {
    "distances_at_selection": (lambda f, x: f(x), X),
    "entropy": (lambda f, x: f(x), PROBS),
    "k_center_greedy": (lambda f, x: f(x, 2, centers=X), X),
    "k_nearest": (lambda f, x: f(x, 2), X),
    "kmeans": (lambda f, x: f(x, 2, generator=G), X),
    "kmeans_plusplus": (lambda f, x: f(x, 2, generator=G), X),
    "least_confidence": (lambda f, x: f(x), PROBS),
    "margin": (lambda f, x: f(x), PROBS),
    "mutual_information": (lambda f, x: f(x), MC),
    "nearest_distance": (lambda f, x: f(x), X),
    "top": (lambda f, x: f(x, 2), X[:, 0]),
    "as_points": (lambda f, x: f(x), X),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_right_shape_is_accepted_and_another_refused(name):
    call, right = CALLS[name]
    checked = jaxtyped(getattr(functional, name), typechecker=beartype)
    call(checked, right)
    with pytest.raises(TypeCheckError):
        call(checked, right[None])


def test_every_public_function_is_among_them():
    public = {name for name in functional.__all__ if inspect.isfunction(getattr(functional, name))}
    assert public == set(CALLS)
