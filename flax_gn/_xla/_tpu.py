"""On a TPU: two passes over memory forward and two backward, as XLA fuses them.

    forward    x      ->  pilot, nine values of each group
               x      ->  sums of x - pilot, its square; moments
               x      ->  y
    backward   x, dy  ->  sums of dz, dz * x_hat; means
               x, dy  ->  dx

So 3|x| bytes move forward and 5|x| backward, and the pilot's are few where the nine
values are cut out along the order that x has in memory, which the TPU chooses.
tests/compiled holds the compiler to it, on five generations.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from flax_gn._problem import is_known
from flax_gn._xla._arithmetic import (
    Saved,
    centred_and_square,
    dx_of,
    dz_and_product,
    dz_of,
    group_coefficients,
    per_channel,
    separate_sum,
    slope,
    sum_per_group,
    sum_to,
    to_channels,
    where,
    x_hat_of,
    y_of,
)
from flax_gn._xla._devices import means_over_devices
from flax_gn._xla._moments import moments_of, pilot_and_count
from flax_gn._xla._pilot import ninther, places, sliced

_LANES = 128  # along the axis that runs fastest
_SUBLANES = 8  # along the next one


def moments(problem, x, mask):
    """The statistics of x, over all devices along the problem's axis_name."""
    near, count = pilot_and_count(problem, x, mask, pilot, _group_sum)
    centre = to_channels(near, x.shape[-1])
    both = group_sums(problem, partial(centred_and_square, problem), x, centre, mask)
    return moments_of(problem, near, count, *both)


def forward(problem, x, gamma, beta, mask):
    """The result and its moments."""
    saved = Saved(x, gamma, beta, mask, moments(problem, x, mask))
    coefficients = per_channel(problem, saved, group_coefficients(problem, saved))
    return y_of(problem, x, mask, coefficients), saved.moments


def cotangent(problem, saved: Saved, dy):
    """The cotangents of x, gamma and beta."""
    x, mask = saved.x, saved.mask
    coefficients = per_channel(problem, saved, group_coefficients(problem, saved))
    dz, product = dz_and_product(problem, x, dy, mask, coefficients)
    sum_dz = sum_kept_dz = separate_sum(problem.reduced, dz)
    sum_dz_x_hat = separate_sum(problem.reduced, product)
    if mask is not None:
        sum_kept_dz = separate_sum(problem.reduced, where(mask, dz))
    of_x = slope(coefficients)
    totals = (
        sum_per_group(problem.groups, lax.mul(of_x, total))
        for total in (sum_kept_dz, sum_dz_x_hat)
    )
    means = means_over_devices(problem, totals, saved.moments.number)

    # Keeps what the first pass made of x and dy from being stored for the next. The
    # compiler for 7x kept the activation's derivative in float32: 8|x| for
    # (2, 64, 64, 960) instead of 5|x|.
    x, dy = lax.optimization_barrier((x, dy))
    dz = dz_of(problem, x, dy, mask, coefficients)
    x_hat = x_hat_of(problem, x, mask, coefficients)
    dx = where(mask, dx_of(lax.mul(of_x, dz), x_hat, means))
    return (
        dx.astype(x.dtype),
        sum_to(saved.gamma, sum_dz_x_hat),
        sum_to(saved.beta, sum_dz),
    )


def group_sums(problem, function, *arrays):
    """Sums over groups of both values that are formed of each element."""
    return tuple(_group_sum(problem, value) for value in function(*arrays))


def _group_sum(problem, value):
    return sum_per_group(problem.groups, separate_sum(problem.reduced, value))


def pilot(problem, x):
    """A value of each group, near its mean."""
    return ninther(problem, x, _nine_values)


def _nine_values(problem, x):
    """Nine values of each group, cut out of x."""
    axis = _spatial_minor(problem, x.shape)
    if axis is not None:
        return _from_rows(problem, x, axis)
    if _many_samples(problem, x.shape) and not any(jax.typeof(x).sharding.spec[1:]):
        return _apart(problem, x)
    return sliced(problem, x)


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
    slices = sliced(problem, x)
    values = jnp.stack([value.reshape(-1) for value in slices])
    values = lax.optimization_barrier(values)
    return list(values.reshape(len(slices), *slices[0].shape))


def _from_rows(problem, x, axis):
    """Three values of each group from each of three rows along an axis.

    To cut single values out of the axis that runs fastest, the TPU compiler would first
    bring all of x into another order.
    """
    nine = np.array(places(problem, x))
    values = []
    for i, place in enumerate(nine):
        starts, ends = [0] * x.ndim, list(x.shape)
        for other, start in zip(problem.reduced, nine[i // 3], strict=False):
            starts[other], ends[other] = int(start), int(start) + 1
        position, channel = int(place[problem.reduced.index(axis)]), int(place[-1])
        start = position // _LANES * _LANES
        starts[axis], ends[axis] = start, min(start + _LANES, x.shape[axis])
        row = lax.slice(x, starts, ends)
        here = np.arange(start, ends[axis]) == position
        here = np.expand_dims(here, tuple(a for a in range(x.ndim) if a != axis))
        # A sum of one value and zeros, whatever else stands in the row.
        value = jnp.sum(jnp.where(here, row, 0), axis, keepdims=True)
        # Strided slices of x itself would take memory for the gaps.
        size = x.shape[-1] // problem.groups
        values.append(lax.slice_in_dim(value, channel, None, size, axis=-1))
    return values
