"""The most memory that this process has held."""

import math
import sys


def max_memory() -> float:
    """Largest resident size in bytes; NaN on Windows, which does not have the module `resource`."""
    try:
        import resource
    except ImportError:
        return math.nan
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(size if sys.platform == "darwin" else size * 1024)  # macOS reports bytes, Linux KiB
