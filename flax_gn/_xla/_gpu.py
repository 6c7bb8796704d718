"""On a GPU: two passes over memory forward and two backward, each one kernel or two.

    forward    x      ->  pilot, nine values of each group
               x      ->  sums of x - pilot, its square, of blocks or of rows
                          (few numbers) -> moments
               x      ->  y
    backward   x, dy  ->  sums of dz, dz * x_hat, of blocks; means
               x, dy  ->  dx

So 3|x| bytes move forward and 5|x| backward. A pass should read x itself, in its own
dtype, and form from it what it needs. XLA's cost model finds the work in a sum so
slow that it is done beforehand and kept for the next pass: x in float32, or centred, in
full. Barriers keep it from that. tests/compiled holds the compiler to it.

Where positions are few the backward pass sums whole groups instead of channels, and the
gradients of gamma and beta are summed where dx is written.
"""

import math
from functools import partial

import jax
from jax import lax

from flax_gn._target import target
from flax_gn._xla import _gpu_rows
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
    sum_to,
    to_channels,
    to_groups,
    where,
    x_hat_of,
    y_of,
)
from flax_gn._xla._devices import means_over_devices
from flax_gn._xla._gpu_rows import sum_last
from flax_gn._xla._gpu_sums import (
    block_of,
    channel_sums,
    group_sum,
    group_sums,
)
from flax_gn._xla._moments import moments_of, pilot_and_count
from flax_gn._xla._pilot import ninther, sliced

# Channels of a group that are added one by one, backward, in the kernel that uses the
# sum. To sum more takes less time with a kernel more; a forward pass has none to spare.
_MOST_ADDED = 24


def moments(problem, x, mask):
    """The statistics of x, over all devices along the problem's axis_name."""
    near, count = pilot_and_count(problem, x, mask, pilot, group_sum)
    x, near = _next_pass(problem, x, near)
    centre = to_channels(near, x.shape[-1])
    both = group_sums(problem, partial(centred_and_square, problem), x, centre, mask)
    return moments_of(problem, near, count, *both)


def forward(problem, x, gamma, beta, mask):
    """The result and its moments."""
    saved = Saved(x, gamma, beta, mask, moments(problem, x, mask))
    x, per_group = _next_pass(problem, x, group_coefficients(problem, saved))
    coefficients = per_channel(problem, saved, per_group)
    return y_of(problem, x, mask, coefficients), saved.moments


def cotangent(problem, saved: Saved, dy):
    """The cotangents of x, gamma and beta."""
    if _has_few_positions(problem, saved):
        return _cotangent_of_few(problem, saved, dy)
    per_group = group_coefficients(problem, saved)
    (x, dy), per_group = _next_pass(problem, (saved.x, dy), per_group)
    sums = _sums_per_channel(problem, saved, x, dy, per_group)
    sum_dz, sum_kept_dz, sum_dz_x_hat = sums
    of_x = slope(per_channel(problem, saved, per_group))
    totals = (
        sum_last(to_groups(problem.groups, lax.mul(of_x, total)), _MOST_ADDED)
        for total in (sum_kept_dz, sum_dz_x_hat)
    )
    means = means_over_devices(problem, totals, saved.moments.number)

    (x, dy), (per_group, means) = _next_pass(problem, (x, dy), (per_group, means))
    return (
        _dx(problem, saved, x, dy, per_group, means),
        sum_to(saved.gamma, sum_dz_x_hat),
        sum_to(saved.beta, sum_dz),
    )


def _sums_per_channel(problem, saved, x, dy, per_group):
    """Of dz, of dz where x is kept, and of dz * x_hat."""
    mask = saved.mask
    coefficients = per_channel(problem, saved, per_group)
    dz, product = dz_and_product(problem, x, dy, mask, coefficients)
    sum_dz, sum_dz_x_hat = channel_sums(problem.reduced, dz, product)
    if mask is None:
        return sum_dz, sum_dz, sum_dz_x_hat
    sum_kept_dz = separate_sum(problem.reduced, where(mask, dz))
    return sum_dz, sum_kept_dz, sum_dz_x_hat


def _dx(problem, saved, x, dy, per_group, means):
    coefficients = per_channel(problem, saved, per_group)
    g = lax.mul(slope(coefficients), dz_of(problem, x, dy, saved.mask, coefficients))
    x_hat = x_hat_of(problem, x, saved.mask, coefficients)
    return where(saved.mask, dx_of(g, x_hat, means)).astype(saved.x.dtype)


def _has_few_positions(problem, saved: Saved) -> bool:
    """Whether sums per channel weigh, and are not needed but for gamma and beta.

    Devices that hold parts of the samples would have to exchange them.
    """
    x, kept = saved.x, saved.x.ndim - 1 - len(problem.reduced)
    return (
        not target().split
        and saved.mask is None
        and problem.axis_name is None
        and not any(jax.typeof(x).sharding.spec)
        and all(math.prod(p.shape[:kept]) == 1 for p in saved[1:3] if p is not None)
        and _gpu_rows.serve_backward(problem.reduced, problem.groups, x)
    )


def _cotangent_of_few(problem, saved: Saved, dy):
    """`cotangent` where positions are few.

    The first pass sums whole groups, and the gradients of gamma and beta are summed in
    the pass that writes dx: no sum per sample and channel goes through memory
    (experiments/decisions/few_positions.py).
    """

    def of_element(x, dy, coefficients):
        dz = dz_of(problem, x, dy, None, coefficients)
        g = dz if coefficients.gamma is None else lax.mul(dz, coefficients.gamma)
        return g, lax.mul(g, x_hat_of(problem, x, None, coefficients))

    per_group = group_coefficients(problem, saved)
    (x, dy), per_group = _next_pass(problem, (saved.x, dy), per_group)
    coefficients = per_channel(problem, saved, per_group)
    totals = group_sums(problem, of_element, x, dy, coefficients)

    (x, dy), (per_group, totals) = _next_pass(problem, (x, dy), (per_group, totals))
    coefficients = per_channel(problem, saved, per_group)
    g, _ = of_element(x, dy, coefficients)
    x_hat = x_hat_of(problem, x, None, coefficients)
    means = [lax.div(total, saved.moments.number) for total in totals]
    dx = lax.mul(coefficients.rstd, dx_of(g, x_hat, means))
    sum_dz, sum_dz_x_hat = _sums_over_samples(problem, saved, x, dy, per_group)
    return dx.astype(saved.x.dtype), sum_dz_x_hat, sum_dz


def _sums_over_samples(problem, saved, x, dy, per_group):
    """The gradients of beta and gamma, to be formed in the pass that writes dx."""
    parameters = saved.gamma, saved.beta
    # From copies of its own, or XLA would store dz for both.
    parameters, per_group = lax.optimization_barrier((parameters, per_group))
    saved = saved._replace(gamma=parameters[0], beta=parameters[1])
    coefficients = per_channel(problem, saved, per_group)
    dz, product = dz_and_product(problem, x, dy, None, coefficients)
    total = _gpu_rows.over_samples(lax.complex(dz, product))
    sums = lax.real(total), lax.imag(total)
    return (
        None if p is None else part.reshape(p.shape).astype(p.dtype)
        for p, part in zip(parameters[::-1], sums, strict=True)
    )


def pilot(problem, x):
    """A value of each group, near its mean."""
    return ninther(problem, x, sliced)


def _next_pass(problem, arrays, coefficients):
    """Ends a pass over memory: what follows reads ``arrays`` again.

    Coefficients are formed beforehand, in a kernel of their own; in the pass itself if
    x has few positions, where a kernel more costs too much.
    """
    if block_of(problem.reduced, jax.tree.leaves(arrays)[0]) is not None:
        return lax.optimization_barrier((arrays, coefficients))
    return lax.optimization_barrier(arrays), coefficients
