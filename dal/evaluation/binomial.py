"""What so many of so many say of the share behind them: the exact bounds of Clopper and Pearson."""

from scipy.stats import beta


def lower_bound(found: float, of: float, tail: float = 0.05) -> float:
    """At most the true share, with probability 1 - tail or more; 0 of nothing.

    Exact for `of` independent draws of which `found` hit; also for numbers between whole ones.

    Clopper and Pearson 1934, "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial".

    Example:
        >>> round(lower_bound(1, 20, 0.025), 3)
        0.001
    """
    return 0.0 if not found else float(beta.ppf(tail, found, of - found + 1))


def upper_bound(found: float, of: float, tail: float = 0.05) -> float:
    """At least the true share, with probability 1 - tail or more; 1 of nothing.

    Example:
        >>> round(upper_bound(0, 59), 4), round(upper_bound(1, 59), 4)
        (0.0495, 0.0779)
    """
    return 1.0 if found >= of else float(beta.ppf(1 - tail, found + 1, of - found))
