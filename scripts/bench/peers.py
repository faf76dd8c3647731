"""The selection step of dal, of a plain loop and of the peers, each behind the same call. See acquisition.py."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """What is chosen from what, and what must be reached: the ratio to the fastest peer and the extra memory in MiB."""

    kind: str
    N: int
    n: int
    D: int = 0
    L: int = 0
    C: int = 0
    K: int = 0
    data: str = "gaussian"
    target: float = 0.0
    memory: float = 0.0
    busy: bool = False


#: Makes the choice; what could be prepared before the clock starts is.
Run = Callable[[], Any]


def run_dal(case: Case, given: dict[str, Any], n: int) -> Run:
    import torch

    from dal import functional as f
    from dal.functional import DensePoints, OuterPoints

    generator = torch.Generator().manual_seed(1)
    if case.kind == "coreset":
        return lambda: f.k_center_greedy(DensePoints(given["x"]), n, centers=DensePoints(given["labeled"])).positions
    if case.kind == "badge":
        p, h = given["p"], given["h"]
        minus = p.new_tensor(-1.0).expand(case.N, 1)

        def badge() -> Any:
            a = p.scatter_add(1, p.argmax(1, keepdim=True), minus)
            return f.kmeans_plusplus(OuterPoints(a, h), n, generator=generator)

        return badge
    if case.kind == "bald":
        logs = given["mc"].log()
        return lambda: f.top(f.mutual_information(logs), n)
    if case.kind == "batchbald":
        logs = given["mc"].log()
        return lambda: f.batch_bald(logs, n, generator=generator)
    if case.kind == "kmeans":
        return lambda: f.kmeans(given["x"], n, generator=generator)
    score = {"least_confidence": f.least_confidence, "margin": lambda p: -f.margin(p), "entropy": f.entropy}[case.kind]
    return lambda: f.top(score(given["p"]), n, generator=generator)


def run_plain(case: Case, given: dict[str, Any], n: int) -> Run:
    """What a careful user writes in an afternoon: one fused pass per pick, no materialised gradients."""
    import torch

    def greedy(norms: torch.Tensor, gap: torch.Tensor, products: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        picks = []
        for _ in range(n):
            pick = gap.argmax()
            picks.append(pick)
            gap = torch.minimum(gap, norms + norms[pick] - 2 * products(pick))
            gap[pick] = -1
        return torch.stack(picks)

    if case.kind == "coreset":
        x, labeled = given["x"], given["labeled"]

        def coreset() -> torch.Tensor:
            norms = x.square().sum(1)
            gap = torch.full_like(norms, torch.inf)
            for block in labeled.split(64):
                squared = norms[:, None] + block.square().sum(1) - 2 * x @ block.T
                gap = torch.minimum(gap, squared.amin(1))
            return greedy(norms, gap, lambda pick: x @ x[pick])

        return coreset
    if case.kind == "badge":
        h = given["h"]

        def badge() -> torch.Tensor:
            a = given["p"] - torch.nn.functional.one_hot(given["p"].argmax(1), case.C)
            norms = a.square().sum(1) * h.square().sum(1)
            pick = norms.argmax()
            picks, gap = [pick], torch.full_like(norms, torch.inf)
            for _ in range(n - 1):
                gap = torch.minimum(gap, norms + norms[pick] - 2 * (a @ a[pick]) * (h @ h[pick])).clamp_min_(0)
                gap[pick] = 0
                pick = torch.multinomial(gap, 1)[0]
                picks.append(pick)
            return torch.stack(picks)

        return badge
    if case.kind == "bald":
        mc = given["mc"]

        def bald() -> torch.Tensor:
            mean = torch.special.entr(mc.mean(1)).sum(-1)
            return (mean - torch.special.entr(mc).sum(-1).mean(1)).topk(n).indices

        return bald
    if case.kind == "batchbald":
        return lambda: plain_batch_bald(given["mc"], n)
    if case.kind == "kmeans":
        raise LookupError("no plain loop")
    p = given["p"]
    if case.kind == "least_confidence":
        return lambda: (1 - p.amax(1)).topk(n).indices
    if case.kind == "entropy":
        return lambda: torch.special.entr(p).sum(1).topk(n).indices

    def margin() -> torch.Tensor:
        best = p.topk(2, 1).values
        return (best[:, 1] - best[:, 0]).topk(n).indices

    return margin


def plain_batch_bald(mc: Any, n: int, configurations: int = 10_000) -> list[int]:
    """Every row evaluated for every pick: joint entropies over all, then over sampled, label configurations."""
    import torch

    K, C = mc.shape[1:]
    conditional = torch.special.entr(mc).sum(2).mean(1)
    joint = mc.new_ones(1, K)  # p(configuration | sample)
    weight = mc.new_ones(1)  # how many configurations each stands for, over its mean probability when sampled
    chosen: list[int] = []
    for _ in range(n):
        scores = torch.empty(len(mc))
        for start in range(0, len(mc), 512):
            block = mc[start : start + 512]  # (B, K, C)
            both = torch.einsum("mk,bkc->bmc", joint, block) / K
            scores[start : start + 512] = -(both * both.log() * weight[:, None]).sum((1, 2))
        scores -= conditional
        scores[chosen] = -torch.inf
        chosen.append(int(scores.argmax()))
        joint = (joint[:, None, :] * mc[chosen[-1]].T).flatten(0, 1)  # (M*C, K)
        weight = weight[:, None].expand(-1, C).flatten()
        if len(joint) > configurations:
            kept = torch.multinomial(joint.mean(1) * weight, configurations, replacement=True)
            mean = joint[kept].mean(1)
            joint, weight = joint[kept], 1 / (mean * configurations)
    return chosen


def run_bmdal(case: Case, given: dict[str, Any], n: int) -> Run:
    import numpy as np

    np.Inf = np.inf  # bmdal-reg 3.0 was written for NumPy 1, which had both names
    from bmdal_reg.bmdal.feature_data import ListFeatureData, TensorFeatureData
    from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap, ProductFeatureMap
    from bmdal_reg.bmdal.features import Features
    from bmdal_reg.bmdal.selection import KmeansppSelectionMethod, MaxDistSelectionMethod

    if case.kind == "coreset":
        kernel = IdentityFeatureMap(case.D)

        def coreset() -> Any:
            pool = Features(kernel, TensorFeatureData(given["x"])).precompute()
            train = Features(kernel, TensorFeatureData(given["labeled"])).precompute()
            return MaxDistSelectionMethod(pool, train, verbosity=0).select(n)

        return coreset
    if case.kind == "badge":
        import torch

        a = given["p"] - torch.nn.functional.one_hot(given["p"].argmax(1), case.C)
        kernel = ProductFeatureMap([IdentityFeatureMap(case.C), IdentityFeatureMap(case.D)])

        def badge() -> Any:
            data = ListFeatureData([TensorFeatureData(a), TensorFeatureData(given["h"])])
            pool = Features(kernel, data).precompute()
            empty = Features(kernel, ListFeatureData([TensorFeatureData(a[:0]), TensorFeatureData(given["h"][:0])]))
            return KmeansppSelectionMethod(pool, empty, sel_with_train=False, verbosity=0).select(n)

        return badge
    raise LookupError(case.kind)


def run_distil(case: Case, given: dict[str, Any], n: int) -> Run:
    import torch

    if case.kind == "coreset":
        from distil.active_learning_strategies.core_set import CoreSet

        strategy, x, labeled = CoreSet.__new__(CoreSet), given["x"].numpy(), given["labeled"].numpy()
        return lambda: strategy.furthest_first(x, labeled, n)
    if case.kind == "badge":
        from distil.active_learning_strategies.badge import init_centers

        def badge() -> Any:
            a = given["p"] - torch.nn.functional.one_hot(given["p"].argmax(1), case.C)
            return init_centers(torch.einsum("nc,nd->ncd", a, given["h"]).flatten(1).numpy(), n, "cpu")

        return badge
    raise LookupError(case.kind)


def run_small_text(case: Case, given: dict[str, Any], n: int) -> Run:
    import numpy as np

    if case.kind == "coreset":
        from small_text.query_strategies.coresets import greedy_coreset

        x = np.concatenate([given["x"].numpy(), given["labeled"].numpy()])
        pool, labeled = np.arange(case.N), np.arange(case.N, case.N + case.L)
        return lambda: greedy_coreset(x, pool, labeled, n, distance_metric="euclidean")
    if case.kind == "kmeans":
        from small_text.query_strategies.strategies import EmbeddingKMeans

        x, pool = given["x"].numpy(), np.arange(case.N)
        return lambda: EmbeddingKMeans(normalize=False).sample(None, None, pool, None, None, n, x)
    if case.kind == "badge":
        from small_text.integrations.pytorch.query_strategies.strategies import BADGE

        p, h, pool = given["p"].numpy(), given["h"].numpy(), np.arange(case.N)
        return lambda: BADGE(case.C).sample(None, None, pool, None, None, n, h, embeddings_proba=p)
    if case.kind == "bald":
        from small_text.query_strategies.bayesian import _bald

        p = given["mc"].numpy()
        return lambda: np.argpartition(-_bald(p), n)[:n]
    from small_text.query_strategies.strategies import BreakingTies

    p = given["p"].numpy()
    scores = {
        "least_confidence": lambda: np.amax(p, axis=1),
        "margin": lambda: np.apply_along_axis(BreakingTies._best_versus_second_best, 1, p),
        "entropy": lambda: -np.apply_along_axis(_scipy_entropy(), 1, p),
    }
    return lambda: np.argpartition(scores[case.kind](), n)[:n]


def _scipy_entropy() -> Any:
    from scipy.stats import entropy

    return entropy


def run_skactiveml(case: Case, given: dict[str, Any], n: int) -> Run:
    import numpy as np

    if case.kind == "coreset":
        from skactiveml.pool import CoreSet

        x = np.concatenate([given["x"].numpy(), given["labeled"].numpy()])
        y = np.full(len(x), np.nan)
        y[case.N :] = 0
        return lambda: CoreSet(random_state=0).query(x, y, batch_size=n)
    if case.kind == "badge":
        from skactiveml.pool._badge import _d_2

        random = np.random.RandomState(0)

        def badge() -> Any:  # its query() after the classifier has answered
            p, h = given["p"].numpy(), given["h"].numpy()
            factor = p - np.eye(case.C)[p.argmax(1)]
            gradients = (factor[:, :, None] * h[:, None, :]).reshape(len(p), -1)
            distance = _d_2(gradients, [])
            picks = [int(np.argmax(distance))]
            distance = None
            for _ in range(n - 1):
                distance = _d_2(gradients, [picks[-1]], np.full(len(p), np.inf) if distance is None else distance)
                picks.append(int(random.choice(len(p), 1, replace=False, p=distance / distance.sum())[0]))
            return picks

        return badge
    if case.kind == "bald":
        from skactiveml.pool._bald import batch_bald

        committee = np.ascontiguousarray(given["mc"].numpy().swapaxes(0, 1))  # (K, N, C)
        return lambda: np.argpartition(-batch_bald(committee.copy(), 1)[0], n)[:n]
    if case.kind == "batchbald":
        from skactiveml.pool._bald import batch_bald

        committee = np.ascontiguousarray(given["mc"].numpy().swapaxes(0, 1))
        return lambda: np.nanargmax(batch_bald(committee.copy(), n, n_MC_samples=10_000, random_state=0), 1)
    if case.kind in ("least_confidence", "margin", "entropy"):
        from skactiveml.pool._uncertainty_sampling import uncertainty_scores

        name = {"least_confidence": "least_confident", "margin": "margin_sampling", "entropy": "entropy"}[case.kind]
        p = given["p"].numpy()
        return lambda: np.argpartition(-uncertainty_scores(p, method=name), n)[:n]
    raise LookupError(case.kind)


def run_baal(case: Case, given: dict[str, Any], n: int) -> Run:
    import numpy as np
    from baal.active.heuristics import BALD, BatchBALD, Certainty, Entropy, Margin

    if case.kind in ("bald", "batchbald"):
        p = np.ascontiguousarray(given["mc"].numpy().swapaxes(1, 2))  # (N, C, K)
        heuristic = BALD() if case.kind == "bald" else BatchBALD(n, num_draw=10_000 // case.K)
        return lambda: heuristic(p)[:n]
    kinds = {"least_confidence": Certainty, "margin": Margin, "entropy": Entropy}
    if case.kind in kinds:
        p, heuristic = given["p"].numpy(), kinds[case.kind]()
        return lambda: heuristic(p)[:n]
    raise LookupError(case.kind)


def run_modal(case: Case, given: dict[str, Any], n: int) -> Run:
    import numpy as np
    from modAL.uncertainty import _proba_entropy, _proba_margin, _proba_uncertainty

    scores = {
        "least_confidence": _proba_uncertainty,
        "margin": lambda p: 1 - _proba_margin(p),
        "entropy": _proba_entropy,
    }
    if case.kind not in scores:
        raise LookupError(case.kind)
    p = given["p"].numpy()
    return lambda: np.argpartition(-scores[case.kind](p), n)[:n]


def run_redux(case: Case, given: dict[str, Any], n: int) -> Run:
    if case.kind != "batchbald":
        raise LookupError(case.kind)
    import torch
    from batchbald_redux.batchbald import get_batchbald_batch

    logs = given["mc"].double().log()
    return lambda: get_batchbald_batch(logs, n, 10_000, dtype=torch.double, device="cpu")


def run_sklearn(case: Case, given: dict[str, Any], n: int) -> Run:
    if case.kind != "kmeans":
        raise LookupError(case.kind)
    from sklearn.cluster import KMeans

    x = given["x"].numpy()
    return lambda: KMeans(n, n_init=1, random_state=0).fit(x)


SYSTEMS: dict[str, Callable[[Case, dict[str, Any], int], Run]] = {
    "dal": run_dal,
    "plain": run_plain,
    "bmdal-reg": run_bmdal,
    "distil": run_distil,
    "small-text": run_small_text,
    "scikit-activeml": run_skactiveml,
    "baal": run_baal,
    "modAL": run_modal,
    "batchbald-redux": run_redux,
    "scikit-learn": run_sklearn,
}
