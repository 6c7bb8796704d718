"""Sums over positions, per channel, in the form that each platform's XLA is best at.

GPU: XLA gives a sum over all positions few blocks, so it goes in two steps, blocks of
positions first, for many to share the work. Two sums over the same values are one sum
of complex numbers: what both need would otherwise count as needed by two. Of few
positions whole groups are summed otherwise, in `_rows`.

CPU: XLA gives each sum a pass of its own, and is slow at sums of what is computed from
an array rather than of the array. It is good at loops over elements. So parts of the
array are added to each other element by element, as complex numbers again, until little
is left: one pass for both sums (docs/performance.md).

TPU: plain sums.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from flax_gn import _fold, _fusion, _rows
from flax_gn._problem import is_known
from flax_gn._target import barrier, target

# Parts of an array that are added in one loop: with fewer, more is written and read
# again. Parts whose distance is a multiple of the page are kept in the same places of a
# CPU's first cache, which has room for 8 of them: 16 took twice the time of 8.
_MANY, _PAGE, _WAYS = 16, 4096, 8

# Numbers that are left to XLA's own sums: more loops would take longer to compile than
# they save.
_LEFT = 1 << 14

Formed = _fold.Formed


def spatial_sum(axes: Sequence[int], value: jax.Array) -> jax.Array:
    """Sum over the reduced axes, per channel: (*kept, 1, ..., C).

    The barrier keeps XLA from merging this sum with a later one over samples or
    channels, after which the two would no longer share one read of ``value``.
    """
    total = jnp.sum(value, axes, keepdims=True)
    return barrier(total, on=("cpu", "gpu", "tpu"))


def sums(
    axes: Sequence[int],
    groups: int | None,
    function: Callable[..., Formed],
    *arrays: Any,
) -> Formed:
    """Sums of two values that are formed of each element.

    Args:
      axes: the reduced axes.
      groups: number of groups whose channels are summed too, or None.
      function: forms both of ``arrays``, element by element.
      *arrays: pytrees of arrays that broadcast to one shape; small ones had better be
        `_fusion.stored`.

    Returns:
      Two arrays of shape (*kept, 1, ..., C), or G in place of C.
    """
    if target().platform == "cpu":
        return _on_cpu(axes, groups, function, *arrays)
    if target().platform == "gpu":
        return _on_gpu(axes, groups, function, *arrays)
    return _plain(axes, groups, function, *arrays)


def _plain(axes, groups, function, *arrays):
    a, b = function(*arrays)
    return _fold.fold(groups, spatial_sum(axes, a), spatial_sum(axes, b))


def _on_cpu(axes, groups, function, *arrays):
    inner = _shape(arrays)[min(axes, default=0) :]
    # Parts of an array that devices share would have to change devices.
    if is_known(*inner) and 0 not in inner and not target().split:
        return _fold.fold(groups, *added_sums(axes, function, *arrays))
    again = jax.lax.optimization_barrier(arrays)
    a, b = function(*arrays)[0], function(*again)[1]
    return _fold.fold(groups, spatial_sum(axes, a), spatial_sum(axes, b))


def _on_gpu(axes, groups, function, *arrays):
    # A device may have a part of the positions or channels.
    if groups is not None and not target().split:
        rows = _rows.number(axes, groups, jax.tree.leaves(arrays)[0])
        if rows is not None:
            return _rows.sums(rows, axes, groups, function, *arrays)
    total = complex_sum(axes, jax.lax.complex(*function(*arrays)))
    return _fold.fold(groups, jnp.real(total), jnp.imag(total))


def complex_sum(axes: Sequence[int], both: jax.Array) -> jax.Array:
    """`spatial_sum` on a GPU of two sums in one.

    A NaN or an infinity in one does not reach the other: complex numbers add by part.
    """
    block = _fusion.block_of(axes, both)
    if block is not None:
        axis, size = block
        shape = both.shape
        shape = *shape[:axis], shape[axis] // size, size, *shape[axis + 1 :]
        within = (axis + 1, *(other + 1 for other in axes if other > axis))
        # Without the barrier XLA merges the two steps into one again.
        both = spatial_sum(within, both.reshape(shape))
        both = jnp.squeeze(both, axis + 1)
        axes = [other for other in axes if other <= axis]
    return spatial_sum(axes, both)


def added_sums(
    axes: Sequence[int], function: Callable[..., Formed], *arrays: Any
) -> Formed:
    """`spatial_sum` on a CPU of two values that are formed of each element."""

    def both(*arrays):
        return jax.lax.complex(*function(*arrays))

    total = _added_parts(axes, both, arrays)
    return jnp.real(total), jnp.imag(total)


def _added_parts(axes, function, arrays):
    """The sum of ``function(*arrays)`` over axes, by adding parts along one of them."""
    shape = _shape(arrays)
    if is_known(*shape) and math.prod(shape) <= _LEFT:
        # Complex numbers would be summed one after the other, and lose half a digit.
        both = function(*arrays)
        parts = jax.lax.optimization_barrier((jnp.real(both), jnp.imag(both)))
        return jax.lax.complex(*(jnp.sum(part, axes, keepdims=True) for part in parts))
    whole = [array for array in jax.tree.leaves(arrays) if array.shape == shape]
    itemsize = max(array.dtype.itemsize for array in whole)
    axis, number = _parts(
        tuple(shape[axis] for axis in axes),
        tuple(itemsize * math.prod(shape[axis + 1 :]) for axis in axes),
    )
    if number == 1:
        return function(*arrays)
    axis = axes[axis]
    size = shape[axis] // number

    def part(start, size):
        def of(array):
            if array.shape[axis] == 1:
                return array
            return jax.lax.slice_in_dim(array, start, start + size, axis=axis)

        return jax.tree.map(of, arrays)

    # Traced for one part.
    function = jax.jit(function, inline=True)
    first = _fold.tree_sum([function(*part(i * size, size)) for i in range(number)])
    total = _added_parts(axes, lambda same: same, jax.lax.optimization_barrier([first]))
    rest = shape[axis] % number
    if rest:
        total += _added_parts(axes, function, part(number * size, rest))
    return total


@functools.cache
def _parts(sizes: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, int]:
    """Which of the axes to split, and into how many parts; 1 if nothing is left to add.

    Whole numbers of parts, as many as may be; else as many, and a rest. The outermost
    axis that has enough of them, where parts are longest.

    Args:
      sizes: of the axes.
      strides: bytes from one element to the next along each.
    """

    def fits(axis, number):
        distance = sizes[axis] // number * strides[axis]
        return number <= _WAYS * (_PAGE // math.gcd(distance, _PAGE))

    def number(axis):
        most = min(sizes[axis], _MANY)
        whole = [n for n in range(1, most + 1) if sizes[axis] % n == 0]
        best = max(n for n in whole if fits(axis, n))
        return best if best > _WAYS // 2 or best == sizes[axis] else min(most, _WAYS)

    def order(axis):
        parts = number(axis)
        return sizes[axis] > 1, sizes[axis] % parts == 0, min(parts, _WAYS)

    if not sizes:
        return 0, 1
    axis = max(range(len(sizes)), key=order)
    return axis, number(axis)


def _shape(arrays) -> tuple[Any, ...]:
    return jnp.broadcast_shapes(*(array.shape for array in jax.tree.leaves(arrays)))
