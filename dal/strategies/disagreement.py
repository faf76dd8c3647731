"""Query by committee: strategies that score the disagreement of sampled models.

The learner provides the K samples: dropout masks, committee members or responses of a language model. The strategies
read reductions over the samples that are computed during the pass. None is `rowwise`, because rescoring a row would
draw other dropout masks; all are exact on shards, because a score depends on the outputs of its row alone.
"""

from dataclasses import dataclass

from torch import Tensor

from dal.functional.uncertainty import entropy, least_confidence
from dal.strategy import Query, ScoreStrategy


@dataclass(frozen=True)
class BALD(ScoreStrategy):
    """Highest mutual information between label and model first: `score = H(mean_k p_k) - mean_k H(p_k)`, in nats.

    Multi-label: the mean over the classes of the binary mutual information. Unlike `Entropy`, it gives low scores to
    rows that all samples find equally ambiguous: labeling those does not reduce the uncertainty about the model.

    Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning"; Gal, Islam and
    Ghahramani 2017, "Deep Bayesian Active Learning with Image Data".
    """

    needs = frozenset({"mutual_information"})
    multilabel = True
    exact_on_shards = True
    paper = "Houlsby et al. 2011; Gal et al. 2017"
    advice = "For noisy or ambiguous labels, where plain uncertainty wastes labels. Needs dropout or a committee."

    def score(self, query: Query) -> Tensor:
        """Mutual information in nats, (N,)."""
        information: Tensor = query.pool.mutual_information
        return information


@dataclass(frozen=True)
class VariationRatio(ScoreStrategy):
    """Fewest votes for the most voted class first: `score = 1 - max_c v_c / K`, with v_c of K samples voting for c.

    Each sample votes for its most probable class. Multi-label: a sample votes for or against every class, and the score
    is the mean over the classes of `1 - max(v, K - v) / K`. With few samples the score takes few distinct values, so
    ties are common; they are broken at random.

    Freeman 1965, "Elementary Applied Statistics"; for active learning Gal, Islam and Ghahramani 2017, "Deep Bayesian
    Active Learning with Image Data".
    """

    needs = frozenset({"vote_shares"})
    multilabel = True
    exact_on_shards = True
    paper = "Freeman 1965; Gal et al. 2017"
    advice = "Samples that only vote, such as LLM responses. Needs many: with few, most rows tie; BALD uses more."

    def score(self, query: Query) -> Tensor:
        """One minus the vote share of the most voted class, (N,)."""
        return least_confidence(query.pool.vote_shares, multilabel=query.pool.multilabel)


@dataclass(frozen=True)
class MeanStd(ScoreStrategy):
    """Highest standard deviation of the probabilities first: `score = mean_c sqrt(mean_k (p_kc - mean_k p_kc)^2)`.

    The same for C independent Bernoullis. With many classes most have a probability and a deviation near zero, which
    scales all scores alike and does not change their order.

    Kampffmeyer, Salberg and Jenssen 2016, "Semantic Segmentation of Small Objects and Modeling of Uncertainty in Urban
    Remote Sensing Images Using Deep Convolutional Neural Networks"; Kendall, Badrinarayanan and Cipolla 2015,
    "Bayesian SegNet".
    """

    needs = frozenset({"mean_std"})
    multilabel = True
    exact_on_shards = True
    paper = "Kampffmeyer et al. 2016; Kendall et al. 2015"
    advice = "Close to BALD, but prefers rare classes less: changes of large probabilities have the most weight."

    def score(self, query: Query) -> Tensor:
        """Mean standard deviation, (N,), between 0 and 1/2."""
        mean_std: Tensor = query.pool.mean_std
        return mean_std


@dataclass(frozen=True)
class VoteEntropy(ScoreStrategy):
    """Highest entropy of the votes first: `score = -sum_c (v_c / K) log(v_c / K)`, in nats.

    v_c of K samples vote for class c; each sample votes for its most probable class. Multi-label: the mean over the
    classes of the binary entropy of the votes for and against. The paper divides by log min(K, C), which does not
    change the order.

    Dagan and Engelson 1995, "Committee-Based Sampling for Training Probabilistic Classifiers".
    """

    needs = frozenset({"vote_shares"})
    multilabel = True
    exact_on_shards = True
    paper = "Dagan and Engelson 1995"
    advice = "Query by committee for members that only vote; use KLDivergence or BALD when they give probabilities."

    def score(self, query: Query) -> Tensor:
        """Entropy of the votes in nats, (N,)."""
        return entropy(query.pool.vote_shares, multilabel=query.pool.multilabel)


@dataclass(frozen=True)
class ConsensusEntropy(ScoreStrategy):
    """Highest entropy of the mean prediction first: `score = H(mean_k p_k)`, in nats.

    Query by committee with soft votes. Multi-label: the mean over the classes of the binary entropy. It is the sum of
    the disagreement of the samples (`BALD`) and their mean entropy, that is, the `Entropy` of an ensemble, which is
    better calibrated than that of a single model.

    Settles 2009, "Active Learning Literature Survey", section 3.2.
    """

    needs = frozenset({"consensus"})
    multilabel = True
    exact_on_shards = True
    paper = "Settles 2009"
    advice = "Entropy of a committee: more stable than that of one model, as prone to noisy rows and near-duplicates."

    def score(self, query: Query) -> Tensor:
        """Entropy of the mean prediction in nats, (N,)."""
        return entropy(query.pool.consensus, multilabel=query.pool.multilabel)


@dataclass(frozen=True)
class KLDivergence(ScoreStrategy):
    """Highest mean divergence of the members from their mean first: `score = mean_k KL(p_k || mean_j p_j)`, in nats.

    Query by committee with soft votes. For members of equal weight it equals the mutual information, so it is computed
    as such and ranks rows exactly as `BALD`; only the name differs. Multi-label: the mean over the classes of the
    binary divergence.

    McCallum and Nigam 1998, "Employing EM and Pool-Based Active Learning for Text Classification".
    """

    needs = frozenset({"mutual_information"})
    multilabel = True
    exact_on_shards = True
    paper = "McCallum and Nigam 1998"
    advice = "BALD by its query-by-committee name: for members that give probabilities. Selects the same rows."

    def score(self, query: Query) -> Tensor:
        """Mean divergence in nats, (N,)."""
        divergence: Tensor = query.pool.mutual_information
        return divergence
