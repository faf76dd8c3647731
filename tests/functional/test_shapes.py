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
    "average_linkage": (lambda f, x: f(x, 2, generator=G), X),
    "bait": (lambda f, x: f(functional.fisher_factors(x, X, generator=G), 2), PROBS),
    "batch_bald": (lambda f, x: f(x, 2, generator=G), MC),
    "central_rows": (lambda f, x: f(x, functional.kmeans(X, 2, generator=G)), X),
    "closest_distance": (lambda f, x: f(x), X),
    "consensus": (lambda f, x: f(x), MC),
    "distances_at_selection": (lambda f, x: f(x), X),
    "draw_without_replacement": (lambda f, x: f(x, 2, generator=G), X[:, 0]),
    "entropy": (lambda f, x: f(x), PROBS),
    "epig": (lambda f, x: f(x, MC), MC),
    "expected_gradient_length": (lambda f, x: f(x, X), PROBS),
    "falcun": (lambda f, x: f(x, 2, generator=G), PROBS),
    "fisher_factors": (lambda f, x: f(x, X, generator=G), PROBS),
    "greedy_batch": (lambda f, x: f(x, 2, generator=G), MC),
    "inconsistency": (lambda f, x: f(x, PROBS), X),
    "k_center_greedy": (lambda f, x: f(x, 2, centers=X), X),
    "k_nearest": (lambda f, x: f(x, 2), X),
    "kmeans": (lambda f, x: f(x, 2, generator=G), X),
    "kmeans_plusplus": (lambda f, x: f(x, 2, generator=G), X),
    "least_confidence": (lambda f, x: f(x), PROBS),
    "lightweight_coreset_distribution": (lambda f, x: f(x), X),
    "logit_adjustment": (lambda f, x: f(x, 0.5), PROBS[:, 0]),
    "margin": (lambda f, x: f(x), PROBS),
    "max_coverage": (lambda f, x: f(x, 2, 0.5, targets=X, centers=X, generator=G), X),
    "max_herding": (lambda f, x: f(x, 2, targets=X, centers=X, weights=X[:, 0]), X),
    "mean_similarity": (lambda f, x: f(x), X),
    "mean_std": (lambda f, x: f(x), MC),
    "medoids": (lambda f, x: f(x, functional.kmeans(X, 2, generator=G)), X),
    "distinct_medoids": (lambda f, x: f(x, functional.kmeans(X, 2, generator=G)), X),
    "mutual_information": (lambda f, x: f(x), MC),
    "nearest_distance": (lambda f, x: f(x), X),
    "neighbor_divergence": (lambda f, x: f(x, PROBS, torch.zeros(4, 2, dtype=torch.int64)), PROBS),
    "pure_radius": (lambda f, x: f(x, torch.tensor([0, 0, 1, 1])), X),
    "round_robin": (lambda f, x: f(x, 2), torch.tensor([0, 0, 1, 1])),
    "separate": (lambda f, x: f(x, X), X),
    "share_thresholds": (lambda f, x: f(x, torch.full((3,), 0.3)), PROBS),
    "top": (lambda f, x: f(x, 2), X[:, 0]),
    "typicality": (lambda f, x: f(x, 2), X),
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
