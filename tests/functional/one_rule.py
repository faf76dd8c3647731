"""One rule for all public functions: which tensors and sizes are taken, and which are refused in one line by name."""

import inspect
import math
from functools import partial

import pytest
import torch

from dal import functional
from functional.made import seeded

N, C, K, D = 40, 3, 4, 5
G = torch.Generator().manual_seed(0)
X = torch.randn(N, D, generator=G)
PROBS = torch.randn(N, C, generator=G).softmax(-1)
MC = torch.randn(N, K, C, generator=G).log_softmax(-1)
LABELS = torch.randint(3, (N,), generator=G)
FACTORS = functional.fisher_factors(PROBS, X, generator=seeded())
CLUSTERS = functional.kmeans(X, 4, generator=seeded())


def f(name, **options):
    """The function itself, without the checks of types that tests add, so that its own are seen."""
    return partial(inspect.unwrap(getattr(functional, name)), **options)


#: For every function what it is called with, and its tensors, which all must be finite.
SHARES = torch.full((PROBS.shape[1],), 0.3)
CALLS = {
    "average_linkage": (lambda x: f("average_linkage")(x, 3, generator=seeded()), X),
    "bait": (lambda x: f("bait")(f("fisher_factors")(PROBS, x, generator=seeded()), 3), X),
    "batch_bald": (lambda x: f("batch_bald")(x, 3, generator=seeded()), MC),
    "central_rows": (lambda x: f("central_rows")(x, CLUSTERS), X),
    "closest_distance": (lambda x: f("closest_distance")(x), X),
    "consensus": (lambda x: f("consensus")(x), MC),
    "distances_at_selection": (lambda x: f("distances_at_selection")(x), X),
    "distinct_medoids": (lambda x: f("distinct_medoids")(x, CLUSTERS), X),
    "draw_without_replacement": (lambda x: f("draw_without_replacement")(x, 3, generator=seeded()), PROBS[:, 0]),
    "entropy": (lambda x: f("entropy")(x), PROBS),
    "entropy, multi-label": (lambda x: f("entropy")(x, multilabel=True), PROBS),
    "epig": (lambda x: f("epig")(x, MC), MC),
    "epig, target": (lambda x: f("epig")(MC, x), MC),
    "expected_gradient_length": (lambda x: f("expected_gradient_length")(PROBS, x), X),
    "expected_gradient_length, probs": (lambda x: f("expected_gradient_length")(x, X), PROBS),
    "falcun": (lambda x: f("falcun")(x, 3, generator=seeded()), PROBS),
    "fisher_factors": (lambda x: f("fisher_factors")(x, X, generator=seeded()), PROBS),
    "greedy_batch": (lambda x: f("greedy_batch")(x, 3, generator=seeded()), MC),
    "inconsistency": (lambda x: f("inconsistency")(x, PROBS), PROBS),
    "k_center_greedy": (lambda x: f("k_center_greedy")(x, 3), X),
    "k_center_greedy, centers": (lambda x: f("k_center_greedy")(X, 3, centers=x), X),
    "k_nearest": (lambda x: f("k_nearest")(x, 3), X),
    "k_nearest, among": (lambda x: f("k_nearest")(X, 3, among=x), X),
    "kmeans": (lambda x: f("kmeans")(x, 3, generator=seeded()), X),
    "kmeans, weights": (lambda x: f("kmeans")(X, 3, generator=seeded(), weights=x), PROBS[:, 0]),
    "kmeans_plusplus": (lambda x: f("kmeans_plusplus")(x, 3, generator=seeded()), X),
    "least_confidence": (lambda x: f("least_confidence")(x), PROBS),
    "lightweight_coreset_distribution": (lambda x: f("lightweight_coreset_distribution")(x), X),
    "logit_adjustment": (lambda x: f("logit_adjustment")(x, 0.5), PROBS[:, 0]),
    "margin": (lambda x: f("margin")(x), PROBS),
    "max_coverage": (lambda x: f("max_coverage")(x, 3, 1.0), X),
    "max_coverage, targets": (lambda x: f("max_coverage")(X, 3, 1.0, targets=x), X),
    "max_herding": (lambda x: f("max_herding")(x, 3), X),
    "max_herding, weights": (lambda x: f("max_herding")(X, 3, weights=x), PROBS[:, 0]),
    "mean_similarity": (lambda x: f("mean_similarity")(x), X),
    "mean_std": (lambda x: f("mean_std")(x), MC),
    "medoids": (lambda x: f("medoids")(x, CLUSTERS), X),
    "mutual_information": (lambda x: f("mutual_information")(x), MC),
    "nearest_distance": (lambda x: f("nearest_distance")(x), X),
    "neighbor_divergence": (lambda x: f("neighbor_divergence")(x, MC[:, 0], LABELS[:, None]), MC[:, 0]),
    "pure_radius": (lambda x: f("pure_radius")(x, LABELS), X),
    "separate": (lambda x: f("separate")(x, X), X),
    "share_thresholds": (lambda x: f("share_thresholds")(x, SHARES), PROBS),
    "top": (lambda x: f("top")(x, 3), PROBS[:, 0]),
    "typicality": (lambda x: f("typicality")(x, 3), X),
}
WITHOUT_TENSORS = {"as_points", "round_robin"}
TABLES = [name for name, (_, x) in CALLS.items() if x.dim() > 1]


def plain(found):
    """Everything a function returned, as a flat list of tensors and numbers."""
    if isinstance(found, torch.Tensor | float | int):
        return [torch.as_tensor(found)]
    if isinstance(found, tuple):
        return [part for each in found for part in plain(each)]
    return [part for each in vars(found).values() if each is not None for part in plain(each)]


def test_every_public_function_is_called():
    public = {name for name in functional.__all__ if inspect.isfunction(getattr(functional, name))}
    assert public == {name.partition(",")[0] for name in CALLS} | WITHOUT_TENSORS


@pytest.mark.parametrize("name", CALLS)
def test_a_tensor_that_requires_grad_gives_the_same_without_a_history(name):
    call, x = CALLS[name]
    with torch.no_grad():
        expected = plain(call(x))
    public = inspect.unwrap(getattr(functional, name.partition(",")[0]))
    assert public is not getattr(functional, name.partition(",")[0])  # it stops the recording of gradients
    with torch.no_grad():
        found = plain(call(x.clone().requires_grad_()))
    assert not any(part.requires_grad for part in found)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["margin", "falcun", "max_herding", "average_linkage", "kmeans", "bait", "batch_bald"])
def test_a_public_function_records_no_gradient(name):
    calls = {
        "margin": lambda: functional.margin(PROBS.clone().requires_grad_()),
        "falcun": lambda: functional.falcun(PROBS.clone().requires_grad_(), 3, generator=seeded()),
        "max_herding": lambda: functional.max_herding(X.clone().requires_grad_(), 3),
        "average_linkage": lambda: functional.average_linkage(X.clone().requires_grad_(), 3, generator=seeded()),
        "kmeans": lambda: functional.kmeans(X.clone().requires_grad_(), 3, generator=seeded()),
        "bait": lambda: functional.bait(FACTORS, 3),
        "batch_bald": lambda: functional.batch_bald(MC.clone().requires_grad_(), 3, generator=seeded()),
    }
    assert not any(part.requires_grad for part in plain(calls[name]()))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", CALLS)
def test_values_that_are_not_finite_are_refused_by_their_rows(name, value):
    call, x = CALLS[name]
    if name == "top" and math.isinf(value):
        assert len(call(x)) == 3  # infinite scores have their rank
        return
    broken = x.clone()
    broken[[7, 31]] = value
    with torch.no_grad(), pytest.raises(ValueError, match=r"7, 31|2 of 40 scores are NaN") as caught:
        call(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", CALLS)
def test_a_tensor_in_another_order_of_memory_gives_the_same(name):
    call, x = CALLS[name]
    strided = torch.stack([x, x], -1)[..., 0] if x.dim() == 1 else x.transpose(0, 1).contiguous().transpose(0, 1)
    assert not strided.is_contiguous()
    with torch.no_grad():
        for one, other in zip(plain(call(strided)), plain(call(x)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool])
@pytest.mark.parametrize("name", CALLS)
def test_other_types_are_read_as_float32(name, kind):
    call, x = CALLS[name]
    other = x.to(kind) if kind.is_floating_point else (x > x.mean()).to(kind)
    with torch.no_grad():
        for one, two in zip(plain(call(other)), plain(call(other.float())), strict=True):
            torch.testing.assert_close(one.float(), two.float(), rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_dense_real_tensor_is_refused(name):
    call, x = CALLS[name]
    with torch.no_grad():
        for wrong in (x.to(torch.complex64), x[None], x.tolist(), None if "centers" not in name else "x"):
            if wrong is None and ("targets" in name or "among" in name or "weights" in name):
                continue
            with pytest.raises(ValueError, match="must") as caught:
                call(wrong)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_without_columns_is_refused(name):
    call, x = CALLS[name]
    with torch.no_grad(), pytest.raises(ValueError, match=r"columns|one width|one shape|same samples|must"):
        call(x[..., :0])


COUNTS = {
    "average_linkage": ("k", lambda n: f("average_linkage")(X, n, generator=seeded())),
    "bait": ("n", lambda n: f("bait")(FACTORS, n)),
    "batch_bald": ("n", lambda n: f("batch_bald")(MC, n, generator=seeded())),
    "draw_without_replacement": ("n", lambda n: f("draw_without_replacement")(PROBS[:, 0], n, generator=seeded())),
    "falcun": ("n", lambda n: f("falcun")(PROBS, n, generator=seeded())),
    "greedy_batch": ("n", lambda n: f("greedy_batch")(MC, n, generator=seeded())),
    "k_center_greedy": ("n", lambda n: f("k_center_greedy")(X, n)),
    "k_nearest": ("k", lambda n: f("k_nearest")(X, n)),
    "kmeans": ("k", lambda n: f("kmeans")(X, n, generator=seeded())),
    "kmeans_plusplus": ("n", lambda n: f("kmeans_plusplus")(X, n, generator=seeded())),
    "max_coverage": ("n", lambda n: f("max_coverage")(X, n, 1.0)),
    "max_herding": ("n", lambda n: f("max_herding")(X, n)),
    "round_robin": ("n", lambda n: f("round_robin")(LABELS, n)),
    "top": ("n", lambda n: f("top")(PROBS[:, 0], n)),
}
SIZES = {
    "average_linkage, summaries": ("summaries", lambda n: f("average_linkage")(X, 2, generator=seeded(), summaries=n)),
    "batch_bald, configurations": (
        "configurations",
        lambda n: f("batch_bald")(MC, 2, generator=seeded(), configurations=n),
    ),
    "fisher_factors, dimensions": (
        "dimensions",
        lambda n: f("fisher_factors")(PROBS, X, generator=seeded(), dimensions=n),
    ),
    "fisher_factors, rank": ("rank", lambda n: f("fisher_factors")(PROBS, X, generator=seeded(), rank=n)),
    "k_center_greedy, window": ("window", lambda n: f("k_center_greedy")(X, 2, window=n)),
    "k_center_greedy, chunk": ("chunk", lambda n: f("k_center_greedy")(X, 2, chunk=n)),
    "typicality": ("neighbors", lambda n: f("typicality")(X, n)),
}
NUMBERS = {
    "bait, regularisation": ("regularisation", lambda x: f("bait")(FACTORS, 2, regularisation=x)),
    "max_herding, sigma": ("sigma", lambda x: f("max_herding")(X, 2, sigma=x)),
    "pure_radius, purity": ("purity", lambda x: f("pure_radius")(X, LABELS, purity=x)),
    "separate, penalty": ("penalty", lambda x: f("separate")(X, X + 1, penalty=x)),
}
AT_LEAST_ZERO = {
    "closest_distance": ("beyond", lambda x: f("closest_distance")(X, beyond=x)),
    "falcun, gamma": ("gamma", lambda x: f("falcun")(PROBS, 2, gamma=x, generator=seeded())),
    "kmeans, tolerance": ("tolerance", lambda x: f("kmeans")(X, 2, tolerance=x, generator=seeded())),
    "max_coverage, radius": ("radius", lambda x: f("max_coverage")(X, 2, x)),
}
NO_COUNT = [0, -1, 2.0, 2.5, math.nan, math.inf, True, "2", None]


def refused(call, value, name):
    with torch.no_grad(), pytest.raises(ValueError, match=rf"\b{name}\b|there are no") as caught:
        call(value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [*NO_COUNT, N + 1, 10**30])
@pytest.mark.parametrize("function", COUNTS)
def test_a_number_of_rows_that_cannot_be_is_refused_by_its_name(function, value):
    name, call = COUNTS[function]
    refused(call, value, name)


@pytest.mark.parametrize("value", [each for each in NO_COUNT if each is not None])
@pytest.mark.parametrize("function", SIZES)
def test_a_size_that_cannot_be_is_refused_by_its_name(function, value):
    name, call = SIZES[function]
    refused(call, value, name)


@pytest.mark.parametrize("value", [-1.0, math.nan, True, "2", None])
@pytest.mark.parametrize("function", {**NUMBERS, **AT_LEAST_ZERO})
def test_a_number_that_cannot_be_is_refused_by_its_name(function, value):
    name, call = {**NUMBERS, **AT_LEAST_ZERO}[function]
    refused(call, value, name)
    if function in NUMBERS:
        refused(call, 0.0, name)


@pytest.mark.parametrize("function", COUNTS)
def test_there_is_nothing_to_choose_from_no_rows(function):
    calls = {
        "round_robin": lambda: f("round_robin")(LABELS[:0], 1),
        "top": lambda: f("top")(PROBS[:0, 0], 1),
        "bait": lambda: f("bait")(FACTORS[:0], 1),
        "draw_without_replacement": lambda: f("draw_without_replacement")(PROBS[:0, 0], 1, generator=seeded()),
    }
    tables = {"batch_bald": MC, "greedy_batch": MC, "falcun": PROBS}
    table = tables.get(function, X)[:0]
    options = {"max_coverage": {"radius": 1.0}, "k_center_greedy": {}, "k_nearest": {}, "max_herding": {}}
    given = options.get(function, {"generator": seeded()})
    call = calls.get(function, lambda: f(function)(table, 1, **given))
    with torch.no_grad(), pytest.raises(ValueError, match="there are no"):
        call()
