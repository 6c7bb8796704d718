"""On a CPU: two passes over memory forward and two backward, in loops over elements.

    forward    x      ->  pilot, nine values of each group
               x      ->  sums of x - pilot, its square, parts of x at once
                          (few numbers) -> moments, coefficients of each channel
               x      ->  y
    backward   x, dy  ->  sums of dz, dz * x_hat, parts at once
                          (few numbers) -> means
               x, dy  ->  dx

XLA computes an expression with several users once and stores it, while small arrays are
formed anew for each element: nine values and their median for every channel of a group.
Barriers keep passes apart, and small arrays formed before the pass that uses them. What
they gain is in docs/performance.md, measured by experiments/decisions/cpu_sums.py.
"""

import dataclasses
import math
from functools import partial

from jax import lax

from flax_gn import _activations
from flax_gn._problem import is_known
from flax_gn._xla import _cpu_sums
from flax_gn._xla._arithmetic import (
    Coefficients,
    Saved,
    centred_and_square,
    dx_of,
    dz_and_product,
    dz_of,
    group_coefficients,
    per_channel,
    slope,
    sum_to,
    to_channels,
    where,
    x_hat_of,
    y_of,
)
from flax_gn._xla._cpu_sums import channel_sums, fold, group_sum
from flax_gn._xla._devices import means_over_devices
from flax_gn._xla._moments import moments_of, pilot_and_count
from flax_gn._xla._pilot import ninther, sliced

# Positions up to which coefficients are formed in the pass that uses them.
_FEW_TO_STORE = 64


def moments(problem, x, mask):
    """The statistics of x, over all devices along the problem's axis_name."""
    near, count = pilot_and_count(problem, x, mask, pilot, group_sum)
    x, near = _next_pass(x, near)
    centre = stored(problem, x, to_channels(near, x.shape[-1]))
    both = group_sums(problem, partial(centred_and_square, problem), x, centre, mask)
    return moments_of(problem, near, count, *both)


def forward(problem, x, gamma, beta, mask):
    """The result and its moments."""
    saved = Saved(x, gamma, beta, mask, moments(problem, x, mask))
    per_group = group_coefficients(problem, saved)
    x, per_group = _next_pass(x, per_group)
    coefficients = _for_z(problem, saved, per_channel(problem, saved, per_group))
    return y_of(problem, x, mask, coefficients), saved.moments


def cotangent(problem, saved: Saved, dy):
    """The cotangents of x, gamma and beta."""
    mask, keep = saved.mask, partial(stored, problem, saved.x)
    per_group = group_coefficients(problem, saved)
    (x, dy), per_group = _next_pass((saved.x, dy), per_group)
    coefficients = per_channel(problem, saved, per_group)
    for_z = _for_z(problem, saved, coefficients)
    dz, sums = _dz_and_sums(problem, x, dy, mask, keep(coefficients), for_z)
    sum_dz, sum_kept_dz, sum_dz_x_hat = sums
    of_x = slope(coefficients)
    totals = fold(
        problem.groups, lax.mul(of_x, sum_kept_dz), lax.mul(of_x, sum_dz_x_hat)
    )
    means = means_over_devices(problem, totals, saved.moments.number)

    (x, dy), (per_group, means) = _next_pass((x, dy), (per_group, means))
    coefficients = per_channel(problem, saved, per_group)
    for_z = _for_z(problem, saved, coefficients)
    if dz is None:
        dz = dz_of(problem, x, dy, mask, for_z)
    means = keep([to_channels(v, x.shape[-1]) for v in means])
    x_hat = x_hat_of(problem, x, mask, keep(coefficients))
    dx = where(mask, dx_of(lax.mul(slope(for_z), dz), x_hat, means))
    return (
        dx.astype(saved.x.dtype),
        sum_to(saved.gamma, sum_dz_x_hat),
        sum_to(saved.beta, sum_dz),
    )


def _dz_and_sums(problem, x, dy, mask, coefficients, for_z):
    """What is stored of dz, or None, and the sums per channel.

    Of dz, of dz where x is kept, and of dz * x_hat. To form dz twice costs less than to
    store it, but not if the activation has an exponential, say: such loops are bound by
    arithmetic.
    """
    kept_dz = None
    if _activations.is_heavy(problem.activation, x.ndim):
        dy = kept_dz = lax.optimization_barrier(dz_of(problem, x, dy, mask, for_z))
        problem = dataclasses.replace(problem, activation=None)
    of_element = partial(dz_and_product, problem)
    arrays = x, dy, mask, coefficients, for_z
    sum_dz, sum_dz_x_hat = channel_sums(problem, of_element, *arrays)
    sum_kept_dz = sum_dz
    if mask is not None:
        kept = where(mask, of_element(*arrays)[0])
        sum_kept_dz = _cpu_sums.spatial_sum(problem.reduced, kept)
    return kept_dz, (sum_dz, sum_kept_dz, sum_dz_x_hat)


def group_sums(problem, function, *arrays):
    """Sums over groups of both values that are formed of each element of arrays."""
    return fold(problem.groups, *channel_sums(problem, function, *arrays))


def _for_z(problem, saved: Saved, coefficients: Coefficients) -> Coefficients:
    """What serves `z_of` and `slope` alone, and takes fewer operations.

    gamma and beta go into rstd and offset, for passes are bound by arithmetic. Where x
    is masked, z is beta.
    """
    if saved.mask is not None:
        return stored(problem, saved.x, coefficients, for_z=True)
    pilot, rstd, offset, gamma, beta = coefficients
    if gamma is not None:
        rstd, offset = lax.mul(rstd, gamma), lax.mul(offset, gamma)
    if beta is not None:
        offset = lax.add(offset, beta)
    folded = stored(problem, saved.x, (pilot, rstd, offset), for_z=True)
    return Coefficients(*folded, gamma=None, beta=None)


def stored(problem, x, coefficients, *, for_z=False):
    """Small arrays, formed before the pass that uses them for each element.

    With few positions there are many of them beside x, and to form them in the pass was
    measured a tenth faster for float32; bfloat16 leaves no time for it. A loop with an
    exponential is always better off without: it is vectorised then.
    """
    sizes = [x.shape[axis] for axis in problem.reduced]
    few = is_known(*sizes) and math.prod(sizes) <= _FEW_TO_STORE
    heavy = for_z and _activations.is_heavy(problem.activation, x.ndim)
    if few and not heavy and x.dtype.itemsize >= 4:
        return coefficients
    return lax.optimization_barrier(coefficients)


def _next_pass(arrays, coefficients):
    """Ends a pass over memory: what follows reads ``arrays`` again."""
    return lax.optimization_barrier((arrays, coefficients))


def pilot(problem, x):
    """A value of each group, near its mean."""
    return ninther(problem, x, sliced)
