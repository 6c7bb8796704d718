"""Mean and variance per group: accurate at any mean, in one read of x where possible.

A pilot, a robust middle value of each group, is subtracted before anything is summed.
Sums of x - pilot and (x - pilot)^2 then lose no digits however large the mean is: the
loss grows with ((pilot - mean) / deviation)^2, not with (mean / deviation)^2 (Chan,
Golub, LeVeque, The American Statistician 37 (1983) 242-247). Neither sum waits for the
mean, as the second pass of a two-pass algorithm does.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from flax_gn._call import linear_call
from flax_gn._problem import Problem, is_known, is_positive
from flax_gn._xla._arithmetic import (
    Moments,
    constant,
    to_channels,
    to_groups,
    where,
    widened,
)
from flax_gn._xla._devices import means_over_devices, merge_over_devices

# What sums a value over the reduced axes and the channels of each group.
GroupSum = Callable[[Problem, jax.Array], jax.Array]

# What sums two values that are formed of each element of arrays in that way.
GroupSums = Callable[..., Sequence[jax.Array]]


def pilot_and_count(
    problem: Problem,
    x: jax.Array,
    mask: jax.Array | None,
    pilot: Callable[[Problem, jax.Array], jax.Array],
    group_sum: GroupSum,
) -> tuple[jax.Array, jax.Array]:
    """A value near the mean of each group, and how many values the group has.

    Args:
      problem: what to normalise.
      x: its input.
      mask: or None.
      pilot: takes a value of each group; groups are whole, and not empty.
      group_sum: for the mean of what a mask keeps, which is the pilot then.
    """
    if mask is not None:
        return _masked_pilot_and_count(problem, x, mask, group_sum)
    sizes = [x.shape[axis] for axis in problem.reduced]
    if all(map(is_positive, sizes)):
        near = pilot(problem, x).astype(problem.compute_dtype)
    elif is_known(*sizes):
        near = jnp.zeros((1,) * x.ndim, problem.compute_dtype)
    else:
        # There may be no value to be the pilot.
        everything = jnp.ones((1,) * x.ndim, bool)
        near, _ = _masked_pilot_and_count(problem, x, everything, group_sum)
    return near, count_of(problem, x, near)


def count_of(problem: Problem, x: jax.Array, like: jax.Array) -> jax.Array:
    """How many values a group of x has, as an array that broadcasts to another."""
    count: Any = x.shape[-1] // problem.groups
    for size in (x.shape[axis] for axis in problem.reduced):
        # The product of open sizes would be formed in 32 bits.
        known = is_known(size)
        count *= size if known else jnp.asarray(size, problem.compute_dtype)
    return constant(count, like)


def _masked_pilot_and_count(problem, x, mask, group_sum: GroupSum):
    """The mean of the kept values: any nine might be masked, so all are read.

    Formed as low + mean(x - low) with the least kept value, so that it equals the
    value of a constant group exactly; a plain mean does not.
    """
    x = widened(problem, x, mask)
    kept = jnp.broadcast_to(mask, x.shape)
    count = group_sum(problem, kept.astype(x.dtype))
    low = jnp.where(kept, x, jnp.inf)
    low = jnp.min(low, problem.reduced, keepdims=True, initial=jnp.inf)
    low = jnp.where(count > 0, jnp.min(to_groups(problem.groups, low), -1), 0)
    above = where(mask, x - to_channels(low, x.shape[-1]))
    return low + group_sum(problem, above) / jnp.maximum(count, 1), count


def moments_of(problem: Problem, pilot, count, total, square) -> Moments:
    """The moments, over all devices, from the sums of x - pilot and of its square."""
    divisor = lax.max(count, constant(1, count))
    shift = lax.div(total, divisor)
    var = lax.sub(lax.div(square, divisor), lax.square(shift))
    var = lax.max(var, constant(0, var))
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
    group_sums: GroupSums,
) -> Moments:
    """The directional derivative of the moments, whose ``value`` at x is known.

    With <.> the mean over a group, d mean = <dx> and d var = 2 <(x - mean) dx>.
    """

    def mean_of(value):
        # Apart, for their sum would round away what the pilot saves.
        return tuple(to_channels(v, x.shape[-1]) for v in (value.pilot, value.shift))

    def twice_centred(x, mask, mean):
        pilot, shift = mean
        return where(mask, 2 * ((widened(problem, x, mask) - pilot) - shift))

    def of_sums(saved, dx):
        x, mask, value = saved

        def of_element(x, dx, mean, mask):
            dx = widened(problem, dx, mask)
            return dx, twice_centred(x, mask, mean) * dx

        return group_sums(problem, of_element, x, dx, mean_of(value), mask)

    def transpose(saved, cotangents):
        x, mask, value = saved
        of_mean, of_var = (to_channels(c, x.shape[-1]) for c in cotangents)
        dx = of_mean + of_var * twice_centred(x, mask, mean_of(value))
        return where(mask, dx).astype(x.dtype)

    sums = linear_call(of_sums, transpose, (x, mask, value), dx)
    # Outside of the call, for jax transposes an all-reduce in more than one way.
    shift, var = means_over_devices(problem, sums, value.number)
    zeros = jax.tree.map(jnp.zeros_like, value)
    return zeros._replace(shift=shift, var=var)
