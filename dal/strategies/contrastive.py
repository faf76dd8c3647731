"""Strategies that compare the prediction for a row with those for other rows."""

from dataclasses import dataclass

from torch import Tensor

from dal.functional.checking import Options
from dal.functional.contrast import falcun, neighbor_divergence
from dal.functional.neighbors import k_nearest
from dal.strategy import Query, ScoreStrategy, Selection, Strategy


@dataclass(frozen=True)
class CAL(ScoreStrategy):
    """Contrastive examples: rows whose prediction differs most from those for the nearest labeled rows.

    `score = 1/k sum_j KL(p(x_j) || p(x))` in nats, over the k labeled rows x_j nearest in feature space. Multi-label:
    the mean over the classes of the binary divergence. High scores mark regions where the prediction changes between
    neighbours. With fewer than k labeled rows all of them are used; with none every score is 0, which makes the
    selection random.

    Margatina, Vernikos, Barrault and Aletras 2021, "Active Learning by Acquiring Contrastive Examples".

    Args:
        neighbors: number k of labeled neighbours.
        space: output in which neighbours are searched.
    """

    neighbors: int = 10
    space: str = "features"
    multilabel = True
    paper = "Margatina et al. 2021"
    advice = "Fine-tuned models with a hundred labels or more, also out of domain. Blind to redundancy; weak early."

    def __post_init__(self) -> None:
        Options(self).whole("neighbors", least=1, description="at least 1").text("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The predictions and the chosen space."""
        return frozenset({"log_probs", self.space})

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The same."""
        return self.needs

    def score(self, query: Query) -> Tensor:
        """Mean divergence from the predictions for the labeled neighbours, in nats, (N,)."""
        pool, labeled = query.pool, query.labeled
        log_probs: Tensor = pool.log_probs
        if not len(labeled):
            return log_probs.new_zeros(len(pool))
        near = k_nearest(pool.blockwise(self.space), min(self.neighbors, len(labeled)), among=labeled[self.space])
        return neighbor_divergence(log_probs, labeled.log_probs, near.indices, multilabel=pool.multilabel)


@dataclass(frozen=True)
class FALCUN(Strategy):
    """Uncertain rows with diverse predictions, drawn at random from the probabilities alone.

    Each row is drawn with probability proportional to `(u + d)^gamma`. u is one minus the margin; d is the smallest L1
    distance between the row's probabilities and those of the rows drawn before (u for the first draw). Both are scaled
    to 0..1 over the remaining rows. The score is `u + d` at the time of the draw. The cost is n passes over the N x C
    probabilities.

    Gilhuber, Beer, Ma and Seidl 2024, "FALCUN: A Simple and Efficient Deep Active Learning Strategy".

    Args:
        gamma: exponent of the sampling weights, at least 0; 0 samples uniformly.
    """

    gamma: float = 10.0
    needs = frozenset({"probs"})
    multilabel = True
    paper = "Gilhuber et al. 2024"
    advice = "The balance of BADGE at the cost of Margin. With two classes, predictions offer little diversity."

    def __post_init__(self) -> None:
        Options(self).number("gamma", least=0, description="0 or more")

    def select(self, query: Query) -> Selection:
        """Select n positions, in the order in which they were drawn."""
        drawn = falcun(
            query.pool.probs, query.n, gamma=self.gamma, generator=query.generator, multilabel=query.pool.multilabel
        )
        return Selection(*drawn)
