"""The largest batch whose step fits, asking the compiler as seldom as can be.

A program that does not fit is refused within seconds; one that does takes minutes to
compile. So the search starts above the answer and comes down, and pays for one success.
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

STEPS = 8  # candidates from one power of two to the next


def below(batch: int, multiple: int = 1) -> int:
    """The next smaller candidate; 0 if there is none.

    Candidates are powers of two and, from one to the next, 7 between them, as far as
    ``multiple`` divides them.

    Example:
      >>> below(256), below(240), below(10), below(8), below(240, multiple=32)
      (240, 224, 9, 7, 224)
    """
    while (batch := batch - _gap(batch - 1)) > 0:
        if batch % multiple == 0:
            return batch
    return 0


def at_least(batch: float, multiple: int = 1) -> int:
    """The smallest candidate that is not smaller.

    Example:
      >>> at_least(1), at_least(250.5), at_least(257), at_least(3, multiple=4)
      (1, 256, 288, 4)
    """
    power = multiple
    while power < batch:
        power *= 2
    while (smaller := below(power, multiple)) >= batch and smaller:
        power = smaller
    return power


def largest(make: Callable[[int], T | None], start: int, multiple: int = 1) -> T | None:
    """What ``make`` gives for the largest candidate that it gives anything for.

    Args:
      make: None for a batch that does not fit; whatever fits, all below it do too.
      start: where to start; it is better too large than too small.
      multiple: of every candidate.

    Returns:
      None if nothing fits.
    """
    batch, found = at_least(start, multiple), None
    while found is None and batch:
        found = make(batch)
        if found is None:
            batch = below(batch, multiple)
    if batch != at_least(start, multiple):
        return found
    while batch and found is not None:
        batch = at_least(batch + 1, multiple)
        larger = make(batch)
        if larger is None:
            break
        found = larger
    return found


def _gap(batch: int) -> int:
    """How far candidates are apart from ``batch`` up to the next power of two."""
    return max(1, (1 << (max(1, batch).bit_length() - 1)) // STEPS)
