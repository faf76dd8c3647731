"""Uncertainty sampling: strategies that score a row by its predicted probabilities."""

from dataclasses import dataclass

from torch import Tensor

from dal.functional.uncertainty import entropy, least_confidence, margin
from dal.strategy import Query, ScoreStrategy


@dataclass(frozen=True)
class LeastConfidence(ScoreStrategy):
    """Lowest top probability first: `score = 1 - max_c p(c | x)`.

    Multi-label: the mean over the classes of `1 - max(p, 1 - p)`. For two classes it ranks rows as `Margin` and
    `Entropy` do. It ignores redundancy: a batch may hold many near-duplicates of one hard row.

    Lewis and Gale 1994, "A Sequential Algorithm for Training Text Classifiers".
    """

    needs = frozenset({"probs"})
    multilabel = True
    rowwise = True
    paper = "Lewis and Gale 1994"
    advice = "Cheap and sound with few classes; with many, Margin is usually better. Batches may be redundant."

    def score(self, query: Query) -> Tensor:
        """One minus the largest probability, (N,)."""
        return least_confidence(query.pool.probs, multilabel=query.pool.multilabel)


@dataclass(frozen=True)
class LowestConfidence(ScoreStrategy):
    """Lowest verbalized confidence first: `score = 1 - confidence`, as stated by a language model with its answer.

    A response without a readable confidence counts as 0 and is therefore selected first. Models state few distinct
    values, often 90 and 95, so ties are common; they are broken at random.

    Tian et al. 2023, "Just Ask for Calibration: Strategies for Eliciting Calibrated Confidence Scores from Language
    Models Fine-Tuned with Human Feedback"; Xiong et al. 2024, "Can LLMs Express Their Uncertainty?".
    """

    needs = frozenset({"confidence"})
    rowwise = True
    paper = "Tian et al. 2023; Xiong et al. 2024"
    advice = "For language models that state a confidence: check first that it is informative (docs/llm.md)."

    def score(self, query: Query) -> Tensor:
        """One minus the stated confidence, (N,), from 0 to 1."""
        uncertainty: Tensor = 1 - query.pool.confidence
        return uncertainty


@dataclass(frozen=True)
class Margin(ScoreStrategy):
    """Smallest margin between the two most probable classes first: `score = p(c2 | x) - p(c1 | x)`.

    Multi-label: minus the mean over the classes of `|p - (1 - p)|`. Also known as breaking ties. It ignores redundancy.

    Scheffer, Decomain and Wrobel 2001, "Active Hidden Markov Models for Information Extraction"; Luo et al. 2005,
    "Active Learning to Recognize Multiple Types of Plankton".
    """

    needs = frozenset({"probs"})
    multilabel = True
    rowwise = True
    lowest = -1.0
    paper = "Scheffer et al. 2001"
    advice = (
        "The first to try: hard to beat on text once a model is trained. Needs a cold start; batches may be redundant."
    )

    def score(self, query: Query) -> Tensor:
        """Negative margin, (N,), so that the smallest margin comes first."""
        return -margin(query.pool.probs, multilabel=query.pool.multilabel)


@dataclass(frozen=True)
class Entropy(ScoreStrategy):
    """Highest predictive entropy first: `score = -sum_c p(c | x) log p(c | x)`, in nats.

    Multi-label: the mean over the classes of the binary entropy. With many classes, the many improbable ones contribute
    to the score, which is mostly noise while labels are few.

    Settles 2009, "Active Learning Literature Survey".
    """

    needs = frozenset({"probs"})
    multilabel = True
    rowwise = True
    paper = "Settles 2009"
    advice = "Takes all classes into account; weaker than Margin with many classes and few labels."

    def score(self, query: Query) -> Tensor:
        """Predictive entropy in nats, (N,)."""
        return entropy(query.pool.probs, multilabel=query.pool.multilabel)
