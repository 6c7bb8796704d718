"""Whether one norm did better than another, over seeds."""

import statistics
from collections.abc import Sequence


def exceeds(more: Sequence[float], less: Sequence[float]) -> bool:
    """Whether the mean difference is above its standard error; above 0 for one pair.

    Args:
      more: a number for each seed.
      less: the same, of runs that share their seeds.

    >>> exceeds([3.0, 4.0, 5.0], [2.0, 2.0, 2.0]), exceeds([3.0, 1.0], [2.0, 2.0])
    (True, False)
    """
    differences = [a - b for a, b in zip(more, less, strict=True)]
    error = 0.0
    if len(differences) > 1:
        error = statistics.stdev(differences) / len(differences) ** 0.5
    return statistics.fmean(differences) > error
