"""A pilot: a value of each group that is near its mean, for little reading.

It is Tukey's ninther, the median of three medians of three values of each group. As a
value of the group it centres a constant group to exact zeros, and three of the nine
values may be outliers. J. W. Tukey, "The ninther, a technique for low-effort robust
(resistant) location in large samples" (1978).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_gn._problem import Problem, is_known
from flax_gn._target import target

_LANES = 128  # of a TPU, along the axis that runs fastest
_SUBLANES = 8  # along the next one
_PARTS = 1 << 15  # of a size; its square has 31 bits


def ninther(problem: Problem, x: jax.Array) -> jax.Array:
    """One value of each group, (*kept, 1, ..., G), of x's dtype."""
    if not is_known(*(x.shape[axis] for axis in problem.reduced)):
        return _median_of_medians(_sliced_where_open(problem, x))
    if target().split:
        return _median_of_medians(_gathered(problem, x))
    return _median_of_medians(_cut_out(problem, x))


def _cut_out(problem, x):
    """Nine values of each group, cut out of x."""
    if target().platform != "tpu":
        return _sliced(problem, x)
    axis = _spatial_minor(problem, x.shape)
    if axis is not None:
        return _from_rows(problem, x, axis)
    if _many_samples(problem, x.shape) and not any(jax.typeof(x).sharding.spec[1:]):
        return _apart(problem, x)
    return _sliced(problem, x)


def _spatial_minor(problem, shape) -> int | None:
    """The reduced axis that runs fastest in a TPU's memory, None if channels do.

    A TPU pads the fastest axis to whole lanes, and lets that one be it for which the
    padding is least: 112 positions, say, rather than 64 channels.
    """

    def padding(axis):
        return -(-shape[axis] // _LANES) * _LANES / shape[axis]

    axis = min((len(shape) - 1, *problem.reduced), key=padding)
    return axis if axis in problem.reduced else None


def _many_samples(problem, shape) -> bool:
    """Whether groups are there as often as a TPU has sublanes, or may be."""
    kept = [n for axis, n in enumerate(shape[:-1]) if axis not in problem.reduced]
    return not is_known(*kept) or math.prod(kept) >= _SUBLANES


def _apart(problem, x):
    """The slices, by way of one array in which their order is that of x.

    Slices with a batch of at least 8 pad less on a TPU when the batch runs fastest, or
    next to it. To cut them out in that order the compiler would first bring all of x
    into it: 12|x| moved instead of 3|x| for (16, 64, 64, 512) in 8 groups on a v5e.

    An explicit mesh may split the batch alone: parts of other axes would have to change
    devices for it.
    """
    slices = _sliced(problem, x)
    values = jnp.stack([value.reshape(-1) for value in slices])
    values = jax.lax.optimization_barrier(values)
    return list(values.reshape(len(slices), *slices[0].shape))


def _from_rows(problem, x, axis):
    """Three values of each group from each of three rows along an axis.

    To cut single values out of the axis that runs fastest, the TPU compiler would first
    bring all of x into another order.
    """
    places = np.array(_places(problem, x))
    values = []
    for i, place in enumerate(places):
        starts, ends = [0] * x.ndim, list(x.shape)
        for other, start in zip(problem.reduced, places[i // 3], strict=False):
            starts[other], ends[other] = int(start), int(start) + 1
        position, channel = int(place[problem.reduced.index(axis)]), int(place[-1])
        start = position // _LANES * _LANES
        starts[axis], ends[axis] = start, min(start + _LANES, x.shape[axis])
        row = jax.lax.slice(x, starts, ends)
        here = np.arange(start, ends[axis]) == position
        here = np.expand_dims(here, tuple(a for a in range(x.ndim) if a != axis))
        # A sum of one value and zeros, whatever else stands in the row.
        value = jnp.sum(jnp.where(here, row, 0), axis, keepdims=True)
        # Strided slices of x itself would take memory for the gaps.
        size = x.shape[-1] // problem.groups
        values.append(jax.lax.slice_in_dim(value, channel, None, size, axis=-1))
    return values


def _sliced(problem, x):
    """Nine slices of x, each with one value of each group.

    The slices are of unit length: the TPU compiler runs out of scoped VMEM on long
    strided ones.
    """
    values = []
    for *positions, channel in _places(problem, x):
        starts, ends, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for axis, position in zip(problem.reduced, positions, strict=True):
            starts[axis], ends[axis] = position, position + 1
        starts[-1], strides[-1] = channel, x.shape[-1] // problem.groups
        values.append(jax.lax.slice(x, starts, ends, strides))
    return values


def _sliced_where_open(problem, x):
    """The same nine slices where `jax.export` leaves the reduced axes open.

    Whether a slice that starts at a multiple of an open size ends before that size is
    more than jax can tell of most sizes; a dynamic slice need not know.
    """
    sizes = [1 if axis in problem.reduced else n for axis, n in enumerate(x.shape)]
    values = []
    for *positions, channel in _places(problem, x):
        starts: list[Any] = [0] * x.ndim
        for axis, position in zip(problem.reduced, positions, strict=True):
            starts[axis] = position
        value = jax.lax.dynamic_slice(x, starts, sizes)
        size = x.shape[-1] // problem.groups
        values.append(jax.lax.slice_in_dim(value, channel, None, size, axis=-1))
    return values


def _gathered(problem, x):
    """The same nine values, from all channels of nine positions.

    Where devices hold parts of x, XLA fetches these with one all-reduce. For each of
    the slices it would hand rows of x from device to device.
    """
    places = np.array(_places(problem, x), np.int32)
    values = jax.lax.gather(
        x,
        jnp.array(places[:, :-1]),
        jax.lax.GatherDimensionNumbers(
            offset_dims=tuple(range(1, 1 + x.ndim - len(problem.reduced))),
            collapsed_slice_dims=problem.reduced,
            start_index_map=problem.reduced,
        ),
        [1 if axis in problem.reduced else size for axis, size in enumerate(x.shape)],
        mode="promise_in_bounds",
    )
    values = jnp.expand_dims(values, [1 + axis for axis in problem.reduced])
    values = values.reshape(*values.shape[:-1], problem.groups, -1)
    chosen = places[:, -1:] == np.arange(values.shape[-1])
    chosen = jnp.expand_dims(jnp.array(chosen), range(1, values.ndim - 1))
    return jnp.sum(jnp.where(chosen, values, 0), -1)


def _places(problem, x) -> list[list[Any]]:
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


def _median_of_medians(values):
    return _median(*(_median(*values[i : i + 3]) for i in (0, 3, 6)))


def _median(a, b, c):
    return jnp.maximum(jnp.minimum(a, b), jnp.minimum(jnp.maximum(a, b), c))
