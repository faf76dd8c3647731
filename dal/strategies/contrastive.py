"""Strategies that compare a row's prediction with those of other rows."""

from dataclasses import dataclass

from torch import Tensor

from dal.functional.checking import Options
from dal.functional.contrast import falcun, neighbor_divergence
from dal.functional.neighbors import k_nearest
from dal.strategy import Query, ScoreStrategy, Selection, Strategy


@dataclass(frozen=True)
class CAL(ScoreStrategy):
    """Rows that the model tells apart from labeled rows which look the same to it (contrastive examples).

    `score = 1/k sum_j KL(p(x_j) || p(x))` in nats, over the k labeled rows x_j whose features are nearest to the row's.
    Multi-label: the mean over the classes of the binary divergence. Such rows lie where the model changes its mind
    between neighbours. With fewer than k labeled rows all of them count; with none every score is 0, a random choice.

    Margatina, Vernikos, Barrault and Aletras 2021, "Active Learning by Acquiring Contrastive Examples".

    Args:
        neighbors: k.
        space: the name of the outputs in which neighbours are sought.
    """

    neighbors: int = 10
    space: str = "features"
    multilabel = True
    paper = "Margatina et al. 2021"
    advice = "Fine-tuned models with a hundred labels or more, also out of domain. Blind to redundancy; weak early."

    def __post_init__(self) -> None:
        Options(self).whole("neighbors", least=1, said="at least 1").text("space")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """The predictions and the chosen space."""
        return frozenset({"log_probs", self.space})

    @property
    def labeled_needs(self) -> frozenset[str]:  # type: ignore[override]
        """The same."""
        return self.needs

    def score(self, query: Query) -> Tensor:
        """The mean divergence from the labeled neighbours, (N,)."""
        pool, labeled = query.pool, query.labeled
        log_probs: Tensor = pool.log_probs
        if not len(labeled):
            return log_probs.new_zeros(len(pool))
        near = k_nearest(pool[self.space], min(self.neighbors, len(labeled)), among=labeled[self.space])
        return neighbor_divergence(log_probs, labeled.log_probs, near.indices, multilabel=pool.multilabel)


@dataclass(frozen=True)
class FALCUN(Strategy):
    """Unsure rows that are predicted unlike one another, drawn at random: neither features nor gradients are read.

    Each row is drawn with probability proportional to `(u + d)^gamma`: u is one minus its margin; d the smallest L1
    distance of its probabilities to those of the rows drawn before, and u for the first; both scaled to 0..1 over the
    rows left. Each score is `u + d` at the draw. Costs n passes over the N x C probabilities.

    Gilhuber, Beer, Ma and Seidl 2024, "FALCUN: A Simple and Efficient Deep Active Learning Strategy".

    Args:
        gamma: how strongly the draw favours the highest; 0 draws uniformly.
    """

    gamma: float = 10.0
    needs = frozenset({"probs"})
    multilabel = True
    paper = "Gilhuber et al. 2024"
    advice = "BADGE's balance for the price of Margin. Two classes leave it little to spread over."

    def __post_init__(self) -> None:
        Options(self).number("gamma", least=0, said="0 or more")

    def select(self, query: Query) -> Selection:
        """n positions in the order of their draw."""
        drawn = falcun(
            query.pool.probs, query.n, gamma=self.gamma, generator=query.generator, multilabel=query.pool.multilabel
        )
        return Selection(*drawn)
