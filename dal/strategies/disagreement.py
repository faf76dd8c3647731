"""Strategies that ask for the rows on which sampled models disagree."""

from dataclasses import dataclass

from torch import Tensor

from dal.strategy import Query, ScoreStrategy


@dataclass(frozen=True)
class BALD(ScoreStrategy):
    """Highest mutual information of label and model first: `score = H(mean_k p_k) - mean_k H(p_k)`, in nats.

    The samples k are the learner's: dropout masks, committee members or answers of an LLM, and so is their number.
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
