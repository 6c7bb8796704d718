"""The plain form: right on every platform, in operations of jax.lax alone.

It is what a traced program shows of the norm, for whoever evaluates or walks it, and
what a platform that has no file of its own runs. Forward and backward are two passes
each,

    x      ->  sums of x - pilot, its square        x, dy  ->  sums of dz, dz * x_hat
    x      ->  y                                    x, dy  ->  dx

and where they end is left to the compiler.
"""

from functools import partial

from jax import lax

from flax_gn._xla._arithmetic import (
    Saved,
    centred_and_square,
    dx_of,
    dz_and_product,
    group_coefficients,
    per_channel,
    slope,
    spatial_sum,
    sum_per_group,
    sum_to,
    to_channels,
    where,
    widened,
    x_hat_of,
    y_of,
)
from flax_gn._xla._devices import means_over_devices
from flax_gn._xla._moments import count_of, moments_of, pilot_and_count


def pilot(problem, x):
    """The mean of each group, formed as value + mean(x - value) with a value of it.

    So it equals the value of a constant group exactly. It takes a third of the
    operations of nine values and their median, and of the time to trace them; that all
    of x is read once more costs those alone who evaluate a program by themselves.
    """
    ends = [1 if axis in problem.reduced else n for axis, n in enumerate(x.shape)]
    strides = [1] * (x.ndim - 1) + [x.shape[-1] // problem.groups]
    value = lax.slice(x, [0] * x.ndim, ends, strides).astype(problem.compute_dtype)
    above = lax.sub(widened(problem, x, None), to_channels(value, x.shape[-1]))
    mean = lax.div(group_sum(problem, above), count_of(problem, x, value))
    return lax.add(value, mean)


def group_sum(problem, value):
    """Sum over the reduced axes and the channels of each group: (*kept, 1, ..., G)."""
    return sum_per_group(problem.groups, spatial_sum(problem.reduced, value))


def group_sums(problem, function, *arrays):
    """`group_sum` of both values that are formed of each element."""
    return tuple(group_sum(problem, value) for value in function(*arrays))


def moments(problem, x, mask):
    """The statistics of x, over all devices along the problem's axis_name."""
    near, count = pilot_and_count(problem, x, mask, pilot, group_sum)
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
    sum_dz = sum_kept_dz = spatial_sum(problem.reduced, dz)
    sum_dz_x_hat = spatial_sum(problem.reduced, product)
    if mask is not None:
        sum_kept_dz = spatial_sum(problem.reduced, where(mask, dz))
    of_x = slope(coefficients)
    totals = (
        sum_per_group(problem.groups, lax.mul(of_x, total))
        for total in (sum_kept_dz, sum_dz_x_hat)
    )
    means = means_over_devices(problem, totals, saved.moments.number)
    x_hat = x_hat_of(problem, x, mask, coefficients)
    dx = where(mask, dx_of(lax.mul(of_x, dz), x_hat, means))
    return (
        dx.astype(x.dtype),
        sum_to(saved.gamma, sum_dz_x_hat),
        sum_to(saved.beta, sum_dz),
    )
