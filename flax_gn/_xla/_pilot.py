"""A pilot: a value of each group that is near its mean, for little reading.

It is Tukey's ninther, the median of three medians of three values of each group. As a
value of the group it centres a constant group to exact zeros, and three of the nine
values may be outliers. J. W. Tukey, "The ninther, a technique for low-effort robust
(resistant) location in large samples" (1978).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flax_gn._problem import Problem, is_known
from flax_gn._target import target

_PARTS = 1 << 15  # of a size; its square has 31 bits


def ninther(
    problem: Problem,
    x: jax.Array,
    nine_values: Callable[[Problem, jax.Array], Sequence[jax.Array]],
) -> jax.Array:
    """One value of each group, (*kept, 1, ..., G), of x's dtype.

    Args:
      problem: what to normalise; no reduced axis is empty.
      x: its input.
      nine_values: takes them out of x if it lies on one device and its sizes are known:
        `sliced`, or what suits a platform better.
    """
    if not is_known(*(x.shape[axis] for axis in problem.reduced)):
        return _median_of_medians(_sliced_where_open(problem, x))
    if target().split:
        return _median_of_medians(_gathered(problem, x))
    return _median_of_medians(nine_values(problem, x))


def sliced(problem: Problem, x: jax.Array) -> list[jax.Array]:
    """Nine slices of x, each with one value of each group.

    The slices are of unit length: the TPU compiler runs out of scoped VMEM on long
    strided ones.
    """
    values = []
    for *positions, channel in places(problem, x):
        starts, ends, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for axis, position in zip(problem.reduced, positions, strict=True):
            starts[axis], ends[axis] = position, position + 1
        starts[-1], strides[-1] = channel, x.shape[-1] // problem.groups
        values.append(lax.slice(x, starts, ends, strides))
    return values


def _sliced_where_open(problem, x):
    """The same nine slices where `jax.export` leaves the reduced axes open.

    Whether a slice that starts at a multiple of an open size ends before that size is
    more than jax can tell of most sizes; a dynamic slice need not know.
    """
    sizes = [1 if axis in problem.reduced else n for axis, n in enumerate(x.shape)]
    values = []
    for *positions, channel in places(problem, x):
        starts: list[Any] = [0] * x.ndim
        for axis, position in zip(problem.reduced, positions, strict=True):
            starts[axis] = position
        value = lax.dynamic_slice(x, starts, sizes)
        size = x.shape[-1] // problem.groups
        values.append(lax.slice_in_dim(value, channel, None, size, axis=-1))
    return values


def _gathered(problem, x):
    """The same nine values, from all channels of nine positions.

    Where devices hold parts of x, XLA fetches these with one all-reduce. For each of
    the slices it would hand rows of x from device to device.
    """
    nine = np.array(places(problem, x), np.int32)
    values = lax.gather(
        x,
        jnp.array(nine[:, :-1]),
        lax.GatherDimensionNumbers(
            offset_dims=tuple(range(1, 1 + x.ndim - len(problem.reduced))),
            collapsed_slice_dims=problem.reduced,
            start_index_map=problem.reduced,
        ),
        [1 if axis in problem.reduced else size for axis, size in enumerate(x.shape)],
        mode="promise_in_bounds",
    )
    values = jnp.expand_dims(values, [1 + axis for axis in problem.reduced])
    values = values.reshape(*values.shape[:-1], problem.groups, -1)
    chosen = nine[:, -1:] == np.arange(values.shape[-1])
    chosen = jnp.expand_dims(jnp.array(chosen), range(1, values.ndim - 1))
    return jnp.sum(jnp.where(chosen, values, 0), -1)


def places(problem, x) -> list[list[Any]]:
    """Nine positions along the reduced axes and channels in a group, one per row.

    They follow a low-discrepancy sequence that starts in the middle and keeps off the
    edges, where padding is.
    """
    sizes = [x.shape[axis] for axis in problem.reduced]
    sizes.append(x.shape[-1] // problem.groups)
    primes = [(3, 5, 7, 11, 13, 17, 19, 2)[i % 8] for i in range(len(sizes) - 1)] + [2]
    points = (0.5 + np.arange(9)[:, None] * np.sqrt(primes)) % 1
    # In integers, which a size that `jax.export` leaves open can be multiplied with.
    parts = (points * _PARTS).astype(int).tolist()
    return [
        [_part_of(size, part) for size, part in zip(sizes, row, strict=True)]
        for row in parts
    ]


def _part_of(size, part):
    """A part of a size, and no number on the way exceeds it or _PARTS**2.

    Open sizes are multiplied in 32 bits, and would overflow.
    """
    return size // _PARTS * part + size % _PARTS * part // _PARTS


def _median_of_medians(values: Sequence[jax.Array]) -> jax.Array:
    """The ninther of nine values of each group."""
    return _median(*(_median(*values[i : i + 3]) for i in (0, 3, 6)))


def _median(a, b, c):
    return lax.max(lax.min(a, b), lax.min(lax.max(a, b), c))
