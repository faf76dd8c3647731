"""Strategies that ask for the rows on which sampled models disagree.

The samples k are the learner's: dropout masks, committee members or answers of an LLM, and so is their number K. All of
them read reductions over the samples that are folded inside the pass. None claims to be `rowwise`: scored again, a row
would meet other dropout masks.
"""

from dataclasses import dataclass

from torch import Tensor

from dal.functional.uncertainty import entropy, least_confidence
from dal.strategy import Query, ScoreStrategy


@dataclass(frozen=True)
class BALD(ScoreStrategy):
    """Highest mutual information of label and model first: `score = H(mean_k p_k) - mean_k H(p_k)`, in nats.

    Multi-label: the mean over the classes of the binary mutual information. Where `Entropy` asks for every row that is
    hard to tell, this one leaves out those that all samples find equally hard, which no label would settle.

    Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning"; Gal, Islam and
    Ghahramani 2017, "Deep Bayesian Active Learning with Image Data".
    """

    needs = frozenset({"mutual_information"})
    multilabel = True
    paper = "Houlsby et al. 2011; Gal et al. 2017"
    advice = "For noisy or ambiguous labels, where plain uncertainty wastes questions. Needs dropout or a committee."

    def score(self, query: Query) -> Tensor:
        """The mutual information in nats, (N,)."""
        information: Tensor = query.pool.mutual_information
        return information


@dataclass(frozen=True)
class VariationRatio(ScoreStrategy):
    """Fewest votes for the most voted class first: `score = 1 - max_c v_c / K`, with v_c of K samples voting for c.

    Each sample votes for its most probable class. Multi-label: a sample votes for or against every class, and the score
    is the mean over the classes of `1 - max(v, K - v) / K`. It takes K + 1 values at most, so ties are many with few
    samples and are drawn.

    Freeman 1965, "Elementary Applied Statistics"; for active learning Gal, Islam and Ghahramani 2017, "Deep Bayesian
    Active Learning with Image Data".
    """

    needs = frozenset({"vote_shares"})
    multilabel = True
    paper = "Freeman 1965; Gal et al. 2017"
    advice = "Samples that only vote, such as an LLM's answers. Needs many: with few, most rows tie; BALD sees more."

    def score(self, query: Query) -> Tensor:
        """One minus the share of the most voted class, (N,)."""
        return least_confidence(query.pool.vote_shares, multilabel=query.pool.multilabel)


@dataclass(frozen=True)
class MeanStd(ScoreStrategy):
    """Highest spread of the probabilities first: `score = mean_c sqrt(mean_k (p_kc - mean_k p_kc)^2)`.

    The same for C independent Bernoullis. With many classes most have almost no probability and no spread, which
    scales all scores alike and does not disturb their order.

    Kampffmeyer, Salberg and Jenssen 2016, "Semantic Segmentation of Small Objects and Modeling of Uncertainty in Urban
    Remote Sensing Images Using Deep Convolutional Neural Networks"; Kendall, Badrinarayanan and Cipolla 2015,
    "Bayesian SegNet".
    """

    needs = frozenset({"mean_std"})
    multilabel = True
    paper = "Kampffmeyer et al. 2016; Kendall et al. 2015"
    advice = "Close to BALD, less drawn to rare classes: it weighs changes of large probabilities most."

    def score(self, query: Query) -> Tensor:
        """The mean standard deviation, (N,), between 0 and 1/2."""
        spread: Tensor = query.pool.mean_std
        return spread


@dataclass(frozen=True)
class VoteEntropy(ScoreStrategy):
    """Highest entropy of the votes first: `score = -sum_c (v_c / K) log(v_c / K)`, in nats.

    v_c of K samples vote for class c, each for its most probable. Multi-label: the mean over the classes of the binary
    entropy of the votes for and against. The paper divides by log min(K, C), which does not change the order.

    Dagan and Engelson 1995, "Committee-Based Sampling for Training Probabilistic Classifiers".
    """

    needs = frozenset({"vote_shares"})
    multilabel = True
    paper = "Dagan and Engelson 1995"
    advice = "Query by committee for members that only vote; KLDivergence or BALD where they give probabilities."

    def score(self, query: Query) -> Tensor:
        """The entropy of the votes in nats, (N,)."""
        return entropy(query.pool.vote_shares, multilabel=query.pool.multilabel)


@dataclass(frozen=True)
class ConsensusEntropy(ScoreStrategy):
    """Highest entropy of the mean prediction first: `score = H(mean_k p_k)`, in nats.

    Query by committee with soft votes. Multi-label: the mean over the classes of the binary entropy. It adds what the
    samples disagree on (`BALD`) to what all find hard: `Entropy` of an ensemble, better calibrated than that of one
    model.

    Settles 2009, "Active Learning Literature Survey", section 3.2.
    """

    needs = frozenset({"consensus"})
    multilabel = True
    paper = "Settles 2009"
    advice = "Entropy of a committee: steadier than that of one model, and as drawn to noisy rows and near-copies."

    def score(self, query: Query) -> Tensor:
        """The entropy of the mean prediction in nats, (N,)."""
        return entropy(query.pool.consensus, multilabel=query.pool.multilabel)


@dataclass(frozen=True)
class KLDivergence(ScoreStrategy):
    """Highest mean divergence of the members from their mean first: `score = mean_k KL(p_k || mean_j p_j)`, in nats.

    Query by committee with soft votes. For members of equal weight it equals the mutual information, so it is computed
    as such and ranks exactly as `BALD` does; the name is the committee's. Multi-label: the mean over the classes of the
    binary divergence.

    McCallum and Nigam 1998, "Employing EM and Pool-Based Active Learning for Text Classification".
    """

    needs = frozenset({"mutual_information"})
    multilabel = True
    paper = "McCallum and Nigam 1998"
    advice = "BALD by another name: for a committee whose members give probabilities. The same rows win and lose."

    def score(self, query: Query) -> Tensor:
        """The mean divergence in nats, (N,)."""
        divergence: Tensor = query.pool.mutual_information
        return divergence
