"""Sums over positions on a CPU, of two values at once, a few at a time.

XLA gives each sum a pass of its own, and is slow at sums over many positions of what is
computed from an array. It is good at loops over elements, and so at sums of a few
positions that lie far apart. So eight parts of the array are added, both values as
one complex number, then as many of what is left: one pass for both sums
(docs/performance.md).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from flax_gn._problem import Problem, is_known
from flax_gn._target import target
from flax_gn._xla._arithmetic import (
    Both,
    part,
    separate_sum,
    spatial_sum,
    sum_per_group,
)

# Parts of an array that are added in one loop: with fewer, more is written and read
# again; of more, added one after the other, digits are lost: with 16 the largest errors
# of outputs are a tenth larger in the mean of experiments/numerics. Parts whose
# distance is a multiple of the page are kept in the same places of a CPU's first cache
# as well, which has room for 8: 16 took twice the time.
_MANY = 8
# Positions along one axis that are all added in one loop: so few lose no digits that
# show, and where they are all there is, a second loop takes as long as the first.
_FEW = 16


def group_sum(problem: Problem, value: jax.Array) -> jax.Array:
    """Sum over the reduced axes and the channels of each group: (*kept, 1, ..., G)."""
    return sum_per_group(problem.groups, separate_sum(problem.reduced, value))


def channel_sums(problem: Problem, function: Callable[..., Both], *arrays: Any) -> Both:
    """Sums over the reduced axes of two values, per channel: (*kept, 1, ..., C).

    Args:
      problem: what to normalise.
      function: forms both of ``arrays``, element by element.
      *arrays: pytrees of arrays that broadcast to one shape.
    """
    axes = problem.reduced
    inner = _shape(arrays)[min(axes, default=0) :]
    # Parts of an array that devices share would have to change devices.
    if is_known(*inner) and 0 not in inner and not target().split:
        return added_sums(axes, function, *arrays)
    again = lax.optimization_barrier(arrays)
    a, b = function(*arrays)[0], function(*again)[1]
    return separate_sum(axes, a), separate_sum(axes, b)


def fold(groups: int, a: jax.Array, b: jax.Array) -> Both:
    """Sums over the channels of each group, (..., C) to (..., G); small, so as one."""
    # An all-reduce of complex numbers is not to be had everywhere.
    if target().split:
        a, b = (sum_per_group(groups, value) for value in (a, b))
        return a, b
    both = sum_per_group(groups, lax.complex(a, b))
    return lax.real(both), lax.imag(both)


def added_sums(axes, function: Callable[..., Both], *arrays: Any) -> Both:
    """`spatial_sum` of two values that are formed of each element."""

    def both(*arrays):
        return lax.complex(*function(*arrays))

    shape = _shape(arrays)
    sizes = [shape[axis] for axis in axes if shape[axis] > 1]
    if len(sizes) == 1 and sizes[0] <= _FEW:
        total = separate_sum(axes, both(*arrays))
    else:
        total = _added(axes, both, arrays)
    return lax.real(total), lax.imag(total)


def _added(axes, function, arrays):
    """The sum of ``function(*arrays)`` over axes, by adding parts along one of them."""
    shape = _shape(arrays)
    at, number = _parts(tuple(shape[axis] for axis in axes))
    if number == 1:
        return function(*arrays)
    axis = axes[at]
    rest = shape[axis] % number
    if rest:
        end = shape[axis] - rest
        first = _added(axes, function, part(arrays, axis, 0, end))
        last = _added(axes, function, part(arrays, axis, end, shape[axis]))
        return lax.add(first, last)
    if math.prod(shape[axis] for axis in axes) <= _MANY:
        return spatial_sum(axes, function(*arrays))
    split = *shape[:axis], number, shape[axis] // number, *shape[axis + 1 :]
    left = lax.reduce_sum(lax.reshape(function(*arrays), split), [axis])
    return _added(axes, lambda same: same, lax.optimization_barrier([left]))


@functools.cache
def _parts(sizes: tuple[int, ...]) -> tuple[int, int]:
    """Which of the axes to split, and into how many parts; 1 if nothing is left to add.

    Whole numbers of parts, as many as may be; else as many, and a rest. The outermost
    axis that has enough of them, where parts are longest.
    """

    def number(axis):
        size = sizes[axis]
        best = max(n for n in range(1, _MANY + 1) if size % n == 0)
        if best > _MANY // 2 or best == size:
            return best
        # The few that would be left over would take loops of their own.
        return size if size <= _FEW else _MANY

    def order(axis):
        return sizes[axis] > 1, sizes[axis] % number(axis) == 0, number(axis)

    if not sizes:
        return 0, 1
    axis = max(range(len(sizes)), key=order)
    return axis, number(axis)


def _shape(arrays) -> tuple[Any, ...]:
    return jnp.broadcast_shapes(*(array.shape for array in jax.tree.leaves(arrays)))
