"""How many groups a converted layer gets."""

import operator
from collections.abc import Callable
from typing import Any

# One number for every layer, or a rule that gives one for a number of channels.
Groups = int | Callable[[int], int]


def choose_groups(channels: int, at_most: int = 32) -> int:
    """The most groups, up to ``at_most``, that leave two channels or more in each.

    That is 32 wherever the paper's 32 groups are more than instance norm, and the
    nearest divisor below elsewhere. One channel per group is avoided because it is
    what the paper found worst: 28.4% error against 24.1% with 32 groups and 25.3%
    with one. A prime number of channels gets one group.

    Opacus takes gcd(32, C), which is instance norm for C = 16 and 32, and a single
    group for every odd C. The functions of this module take any rule or one number:
    pass ``groups=functools.partial(math.gcd, 32)`` for that one.

    Args:
      channels: C, at least 1.
      at_most: the number of groups to aim for, at least 1.

    Returns:
      A divisor of ``channels``.

    Raises:
      ValueError: an argument is below 1.

    >>> from flax_gn.convert import choose_groups
    >>> [choose_groups(c) for c in (256, 64, 48, 32, 24, 7, 1)]
    [32, 32, 24, 16, 12, 1, 1]

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, tables 2 and 3.
    """
    if channels < 1 or at_most < 1:
        raise ValueError(
            "choose_groups: channels and at_most must be at least 1; got "
            f"channels={channels} and at_most={at_most}."
        )
    most = max(1, min(at_most, channels // 2))
    return next(g for g in range(most, 0, -1) if channels % g == 0)


def number_of_groups(caller: str, groups: Any, channels: int, path: str = "") -> int:
    """The number of groups that ``groups`` gives the norm at ``path``."""
    value: Any = groups(channels) if callable(groups) else groups
    name = f"groups({channels})" if callable(groups) else "groups"
    at = f" of the norm at {path}" if path else ""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(
            f"{caller}: {name} must be an int, for the {channels} channels{at}; got "
            f"{type(value).__name__}."
        )
    if number < 1 or channels % number:
        raise ValueError(
            f"{caller}: {name} must divide the {channels} channels{at}; got {number}. "
            "Pass a rule that gives a divisor for every number of channels, such as "
            "choose_groups."
        )
    return number
