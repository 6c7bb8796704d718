"""Sums over positions on a GPU, of two values at once: of blocks, or of rows.

XLA gives a sum over all positions few blocks of threads, so it goes in two steps,
blocks of positions first, for many to share the work. Two sums over the same values are
one sum of complex numbers: what both need would otherwise count as needed by two. A NaN
or an infinity in one does not reach the other: complex numbers add by part. Of few
positions whole groups are summed otherwise, in `_gpu_rows`.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
from jax import lax

from flax_gn._problem import Problem, is_known
from flax_gn._target import target
from flax_gn._xla import _gpu_rows
from flax_gn._xla._arithmetic import Both, separate_sum, to_groups
from flax_gn._xla._gpu_rows import sum_last

# Positions that one block sums. With fewer, writing and reading the partial sums, 16
# bytes per block and channel, adds over 5% to the bytes of a bfloat16 x; with more, XLA
# splits the sum in its own way.
_FEWEST, _GOOD, _MOST = 160, 256, 4096


def group_sum(problem: Problem, value: jax.Array) -> jax.Array:
    """Sum over the reduced axes and the channels of each group: (*kept, 1, ..., G)."""
    return sum_last(to_groups(problem.groups, separate_sum(problem.reduced, value)))


def group_sums(problem: Problem, function: Callable[..., Both], *arrays: Any) -> Both:
    """`group_sum` of two values that are formed of each element of arrays."""
    axes, groups = problem.reduced, problem.groups
    # A device may have a part of the positions or channels.
    if not target().split:
        rows = _gpu_rows.number(axes, groups, jax.tree.leaves(arrays)[0])
        if rows is not None:
            return _gpu_rows.sums(rows, axes, groups, function, *arrays)
    a, b = channel_sums(axes, *function(*arrays))
    return sum_last(to_groups(groups, a)), sum_last(to_groups(groups, b))


def channel_sums(axes: Sequence[int], a: jax.Array, b: jax.Array) -> Both:
    """Sums over the reduced axes, per channel: (*kept, 1, ..., C)."""
    both = lax.complex(a, b)
    block = block_of(axes, both)
    if block is not None:
        axis, size = block
        shape = both.shape
        shape = *shape[:axis], shape[axis] // size, size, *shape[axis + 1 :]
        within = (axis + 1, *(other + 1 for other in axes if other > axis))
        # Without the barrier XLA merges the two steps into one again.
        both = separate_sum(within, both.reshape(shape))
        both = lax.squeeze(both, [axis + 1])
        axes = tuple(other for other in axes if other <= axis)
    total = separate_sum(axes, both)
    return lax.real(total), lax.imag(total)


def block_of(axes: Sequence[int], value: jax.Array) -> tuple[int, int] | None:
    """`_block` of an array; no axis that an explicit mesh shards is split."""
    spec = jax.typeof(value).sharding.spec
    whole = tuple(axis for axis in axes if spec[axis] is None)
    if not is_known(*(value.shape[axis] for axis in axes)):
        return None
    return _block(tuple(axes), whole, value.shape)


@cache
def _block(
    axes: tuple[int, ...], whole: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, int] | None:
    """Where to split a sum over axes: one of those in whole, and its size in a block.

    A block takes all of the reduced axes after that axis, so that the split is no
    change of layout. None if no divisor of an axis makes a block of a fair size that
    leaves more than one; XLA then decides for itself.
    """
    positions = math.prod(shape[axis] for axis in axes)
    enough = max(_GOOD, min(math.isqrt(positions), _MOST))
    blocks = []
    for axis in whole:
        later = math.prod(shape[other] for other in axes if other > axis)
        blocks += (
            (later * size, axis, size)
            for size in range(1, shape[axis] + 1)
            if shape[axis] % size == 0 and _FEWEST <= later * size < positions
        )
    fitting = [block for block in blocks if block[0] >= enough]
    best = min(fitting) if fitting else max(blocks, default=None)
    return best and best[1:]
