"""Clopper-Pearson bounds of a binomial proportion."""

from scipy.special import betaincinv


def lower_bound(successes: float, trials: float, alpha: float = 0.05) -> float:
    """One-sided Clopper-Pearson lower bound of a binomial proportion.

    At most the true proportion with probability at least 1 - alpha; 0 for no successes. Fractional counts are allowed.

    Clopper and Pearson 1934, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial".

    Args:
        successes: number of successes, 0 to `trials`.
        trials: number of independent trials.
        alpha: probability that the bound exceeds the true proportion.

    Example:
        >>> round(lower_bound(1, 20, 0.025), 3)
        0.001
    """
    return 0.0 if not successes else float(betaincinv(successes, trials - successes + 1, alpha))


def upper_bound(successes: float, trials: float, alpha: float = 0.05) -> float:
    """One-sided Clopper-Pearson upper bound of a binomial proportion; 1 for no failures.

    Arguments and guarantee are those of `lower_bound`.

    Example:
        >>> round(upper_bound(0, 59), 4), round(upper_bound(1, 59), 4)
        (0.0495, 0.0779)
    """
    return 1.0 if successes >= trials else float(betaincinv(successes + 1, trials - successes, 1 - alpha))
