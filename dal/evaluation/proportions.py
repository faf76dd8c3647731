"""Wilson interval of a proportion, without numpy."""

import math
from statistics import NormalDist


def wilson_interval(share: float, rows: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the two-sided Wilson interval of a proportion: the p with |share - p| = z sqrt(p (1 - p) / rows).

    The lower end of the one-sided interval at confidence c is that of the two-sided one at 2 c - 1.

    Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".

    Args:
        share: observed proportion, 0 to 1.
        rows: number of independent observations, positive; an effective number need not be whole.
        confidence: confidence level, between 0 and 1.

    Raises:
        ValueError: an argument is outside of its range.

    Example:
        >>> [round(end, 3) for end in wilson_interval(0.8, 10)]
        [0.49, 0.943]
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, got {share}")
    if not 0 < rows < math.inf:
        raise ValueError(f"rows must be a positive number, got {rows}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    center = share + z * z / (2 * rows)
    half = z * math.sqrt((share * (1 - share) + z * z / (4 * rows)) / rows)
    return max(0.0, (center - half) / (1 + z * z / rows)), min(1.0, (center + half) / (1 + z * z / rows))
