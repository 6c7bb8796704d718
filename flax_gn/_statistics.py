"""Mean and variance per group: accurate at any mean, in one read of x where possible.

A pilot, a robust middle value of each group, is subtracted before anything is summed.
Sums of x - pilot and (x - pilot)^2 then lose no digits however large the mean is: the
loss grows with ((pilot - mean) / deviation)^2, not with (mean / deviation)^2 (Chan,
Golub, LeVeque, The American Statistician 37 (1983) 242-247). Neither sum waits for the
mean, as the second pass of a two-pass algorithm does.

x is never reshaped: it is summed over its spatial axes per channel, and only those
small sums are folded to groups. A split of the channel axis would cost a relayout on a
TPU and a gather when channels are sharded.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flax_gn import _fold, _fusion, _pilot, _sums
from flax_gn._call import linear_call
from flax_gn._problem import Problem, is_known, is_positive


class Moments(NamedTuple):
    """Statistics per group, each of shape (*kept, 1, ..., G) with x's rank.

    Attributes:
      pilot: a value near the mean; constant under differentiation.
      shift: mean - pilot.
      var: biased variance.
      number: of values in the group, of x's compute dtype; 1 where there are none.
    """

    pilot: jax.Array
    shift: jax.Array
    var: jax.Array
    number: jax.Array


def moments(problem: Problem, x: jax.Array, mask: jax.Array | None) -> Moments:
    """The statistics of x, over all devices along the problem's axis_name."""
    if mask is None:
        pilot, count = _pilot_and_count(problem, x)
    else:
        pilot, count = _masked_pilot_and_count(problem, x, mask)
    x, pilot = _fusion.next_pass(problem.reduced, x, pilot)

    def of_element(x, centre, mask):
        centred = _centred(problem, x, centre, mask)
        return centred, jnp.square(centred)

    centre = to_channels(pilot, x.shape[-1])
    centre = _fusion.stored(problem.reduced, x, centre)
    total, square = group_sums(problem, of_element, x, centre, mask)
    divisor = jnp.maximum(count, 1)
    shift = total / divisor
    var = jnp.maximum(square / divisor - jnp.square(shift), 0)
    if problem.axis_name is None:
        return Moments(pilot, shift, var, divisor)
    # A device that keeps nothing enters the merge with its true count, zero.
    return merge_over_devices(problem, Moments(pilot, shift, var, count))


def tangent(
    problem: Problem,
    x: jax.Array,
    mask: jax.Array | None,
    value: Moments,
    dx: jax.Array,
) -> Moments:
    """The directional derivative of `moments`, whose ``value`` at x is known.

    With <.> the mean over a group, d mean = <dx> and d var = 2 <(x - mean) dx>.
    """

    def of_sums(saved, dx):
        x, mask, value = saved

        def of_element(x, dx, mean, mask):
            dx = widened(problem, dx, mask)
            return dx, 2 * _centred_by_mean(problem, x, mask, mean) * dx

        return group_sums(problem, of_element, x, dx, _mean(problem, x, value), mask)

    def transpose(saved, cotangents):
        x, mask, value = saved
        constant, slope = (to_channels(total, x.shape[-1]) for total in cotangents)
        centred = _centred_by_mean(problem, x, mask, _mean(problem, x, value))
        dx = constant + 2 * slope * centred
        return where(mask, dx).astype(x.dtype)

    sums = linear_call(of_sums, transpose, (x, mask, value), dx)
    # Outside of the call, for jax transposes an all-reduce in more than one way.
    shift, var = (s / value.number for s in sum_over_devices(problem, sums))
    zeros = jax.tree.map(jnp.zeros_like, value)
    return zeros._replace(shift=shift, var=var)


def _pilot_and_count(problem, x) -> tuple[jax.Array, jax.Array]:
    """A value near the mean of each group, and how many values the group has."""
    sizes = [x.shape[axis] for axis in problem.reduced]
    if all(map(is_positive, sizes)):
        pilot = _pilot.ninther(problem, x).astype(problem.compute_dtype)
    elif is_known(*sizes):
        pilot = jnp.zeros((1,) * x.ndim, problem.compute_dtype)
    else:
        # There may be no value to be the pilot.
        everything = jnp.ones((1,) * x.ndim, bool)
        pilot, _ = _masked_pilot_and_count(problem, x, everything)
    count: Any = x.shape[-1] // problem.groups
    for size in sizes:
        # The product of open sizes would be formed in 32 bits.
        known = is_known(size)
        count *= size if known else jnp.asarray(size, problem.compute_dtype)
    return pilot, jnp.full((1,) * x.ndim, count, problem.compute_dtype)


def _masked_pilot_and_count(problem, x, mask):
    """The mean of the kept values: any nine might be masked, so all are read.

    Formed as low + mean(x - low) with the least kept value, so that it equals the
    value of a constant group exactly; a plain mean does not.
    """
    x = widened(problem, x, mask)
    kept = jnp.broadcast_to(mask, x.shape)
    count = group_sum(problem, kept.astype(x.dtype))
    low = jnp.where(kept, x, jnp.inf)
    low = jnp.min(low, problem.reduced, keepdims=True, initial=jnp.inf)
    low = jnp.where(count > 0, jnp.min(_fold.split(problem.groups, low), -1), 0)
    above = where(mask, x - to_channels(low, x.shape[-1]))
    return low + group_sum(problem, above) / jnp.maximum(count, 1), count


def merge_over_devices(problem, local: Moments) -> Moments:
    """Merges per-device moments as Chan, Golub and LeVeque do, in one all-reduce.

    Every device writes its four small arrays into its own row and the rows are summed.
    Summing moments about a common pilot would need a second all-reduce to agree on
    the pilot, and sums about zero lose the digits this module is for.
    """
    devices = jnp.arange(jax.lax.axis_size(problem.axis_name))
    own = devices == jax.lax.axis_index(problem.axis_name)
    # Added up rather than stacked, which jax refuses under vmap if the mapped axis is
    # split over devices and one of the arrays is not mapped.
    rows = sum(
        jnp.where(
            jnp.expand_dims(own[:, None] & at, range(2, 2 + value.ndim)),
            value[None, None],
            0,
        )
        for at, value in zip(jnp.eye(4, dtype=bool)[:, None], local, strict=True)
    )
    rows = _psum(problem, rows)
    if problem.cut is not None:
        rows = _parts_of_own_groups(problem, rows)
    pilots, shifts, variances, counts = (rows[:, i] for i in range(4))
    fullest = jnp.argmax(counts, 0, keepdims=True)
    pilot = jnp.take_along_axis(pilots, fullest, 0)
    count = jnp.maximum(jnp.sum(counts, 0, keepdims=True), 1)
    # A device that keeps nothing has pilot 0, which may be far enough to overflow.
    means = jnp.where(counts > 0, (pilots - pilot) + shifts, 0)
    shift = jnp.sum(counts * means, 0, keepdims=True) / count
    squares = counts * (variances + jnp.square(means - shift))
    var = jnp.sum(squares, 0, keepdims=True) / count
    return Moments(pilot[0], shift[0], var[0], count[0])


def sum_over_devices(problem: Problem, values: Any) -> Any:
    """One all-reduce of sums per group along the problem's axis_name, if it has one."""
    if problem.axis_name is None:
        return values
    if problem.cut is None:
        return _psum(problem, values)
    own = _own_groups(problem)
    groups = jax.lax.axis_size(problem.cut.axis_name) * own.size // problem.cut.parts
    place = own[:, None] == jnp.arange(groups)[None]

    def spread(value):
        value = value[..., None]
        at = jnp.expand_dims(place, range(value.ndim - 2))
        return jnp.sum(jnp.where(at, value, 0), -2)

    sums = _psum(problem, jax.tree.map(spread, values))
    return jax.tree.map(lambda total: jnp.take(total, own, -1), sums)


def _psum(problem, values):
    return jax.lax.psum(
        values, problem.axis_name, axis_index_groups=problem.axis_index_groups
    )


def _own_groups(problem):
    """The group that each of this device's parts of groups belongs to."""
    first = jax.lax.axis_index(problem.cut.axis_name) * problem.groups
    return (first + jnp.arange(problem.groups)) // problem.cut.parts


def _parts_of_own_groups(problem, rows):
    """Rows per device to rows per part of this device's groups: channels' axes last.

    (devices, ..., parts on a device) to (devices along other axes * parts of a group,
    ..., parts on a device).
    """
    cut = problem.cut
    shards = jax.lax.axis_size(cut.axis_name)
    rows = jnp.moveaxis(rows.reshape(-1, shards, *rows.shape[1:]), 1, -2)
    rows = rows.reshape(*rows.shape[:-2], -1, cut.parts)
    rows = jnp.moveaxis(jnp.take(rows, _own_groups(problem), -2), -1, 1)
    return rows.reshape(-1, *rows.shape[2:])


def group_sum(problem: Problem, value: jax.Array) -> jax.Array:
    """Sum over the reduced axes and the channels of each group: (*kept, 1, ..., G)."""
    per_channel = _sums.spatial_sum(problem.reduced, value)
    return _fold.sum_last(_fold.split(problem.groups, per_channel))


def group_sums(
    problem: Problem, function: Callable[..., _sums.Formed], *arrays: Any
) -> _sums.Formed:
    """`group_sum` of two values that are formed of each element of arrays."""
    return _sums.sums(problem.reduced, problem.groups, function, *arrays)


def to_channels(per_group: jax.Array, channels: int) -> jax.Array:
    """Repeats each group's value for its channels: (..., G) to (..., C)."""
    *rest, groups = per_group.shape
    shape = (*rest, groups, channels // groups)
    return jnp.broadcast_to(per_group[..., None], shape).reshape(*rest, channels)


def where(mask: jax.Array | None, value: jax.Array) -> jax.Array:
    """``value``, zero where masked: nothing that stands there goes any further."""
    return value if mask is None else jnp.where(mask, value, 0)


def widened(problem: Problem, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """An array in the compute dtype, zero where masked.

    Nothing is computed of a masked NaN, not even its other dtype: `jax.debug_nans` and
    `checkify` look at every operation.
    """
    return where(mask, x).astype(problem.compute_dtype)


def _centred(problem, x, centre, mask):
    return where(mask, widened(problem, x, mask) - centre)


def _mean(problem, x, value: Moments):
    """Pilot and shift per channel: their sum would round away what the pilot saves."""
    both = tuple(to_channels(v, x.shape[-1]) for v in (value.pilot, value.shift))
    return _fusion.stored(problem.reduced, x, both)


def _centred_by_mean(problem, x, mask, mean):
    pilot, shift = mean
    return where(mask, (widened(problem, x, mask) - pilot) - shift)
