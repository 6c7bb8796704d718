"""On a CPU: two passes over memory forward and two backward, in loops over elements.

    forward    x      ->  pilot, nine values of each group
               x      ->  sums of x - pilot, its square, parts of x at once
                          (few numbers) -> moments, scale and offset of each channel
               x      ->  y
    backward   x, dy  ->  sums of dz, dz * (x - pilot), parts at once
                          (few numbers) -> means, what dx is formed with
               x, dy  ->  dx

XLA computes an expression with several users once and stores it, while small arrays are
formed anew for each element: nine values and their median for every channel of a group.
Barriers keep passes apart, and small arrays formed before the pass that uses them
(docs/performance.md; experiments/decisions/cpu_sums.py). Each array that is stored, and
each step of a sum, is a loop that LLVM compiles in some 20 ms, whatever is in it: a
program should have few. Passes are bound by arithmetic, so per element there is little:

    z  = (x - pilot) * (rstd * gamma) + (beta - shift * rstd * gamma)
    dx = dz * (rstd * gamma) - (x - pilot) * of_centred - rest
"""

import math
from functools import partial

import jax.numpy as jnp
from jax import lax

from flax_gn import _activations
from flax_gn._problem import is_known
from flax_gn._xla._arithmetic import (
    Moments,
    Saved,
    activated,
    centred,
    centred_and_square,
    group_coefficients,
    per_channel,
    pulled_back,
    separate_sum,
    slope,
    sum_to,
    to_channels,
    where,
)
from flax_gn._xla._cpu_sums import channel_sums, fold, group_sum
from flax_gn._xla._devices import means_over_devices
from flax_gn._xla._moments import moments_of, pilot_and_count
from flax_gn._xla._pilot import ninther, sliced

# Positions up to which the pilot is stored for groups before it is repeated: to form it
# for every channel, in one loop less, costs more time than little of x leaves for it.
_FEW_POSITIONS = 64


def moments(problem, x, mask):
    """The statistics of x, over all devices along the problem's axis_name."""
    return _moments_and_centre(problem, x, mask)[0]


def forward(problem, x, gamma, beta, mask):
    """The result and its moments."""
    value, centre = _moments_and_centre(problem, x, mask)
    near, *coefficients = _for_z(problem, Saved(x, gamma, beta, mask, value))
    # Devices that share statistics have agreed on another pilot since.
    centre = centre if problem.axis_name is None else _stored(near)
    coefficients = centre, *_stored(coefficients)
    z = _z_of(problem, _stored(x), mask, beta, coefficients)
    return activated(problem, z), value


def _moments_and_centre(problem, x, mask):
    """The moments, and the pilot of each channel."""
    near, count = pilot_and_count(problem, x, mask, pilot, group_sum)
    sizes = [x.shape[axis] for axis in problem.reduced]
    if not is_known(*sizes) or math.prod(sizes) <= _FEW_POSITIONS:
        near = _stored(near)
    centre = _stored(to_channels(near, x.shape[-1]))
    both = group_sums(problem, partial(centred_and_square, problem), x, centre, mask)
    return moments_of(problem, near, count, *both), centre


def cotangent(problem, saved: Saved, dy):
    """The cotangents of x, gamma and beta."""
    mask, activation = saved.mask, problem.activation
    coefficients = per_channel(problem, saved, group_coefficients(problem, saved))
    if activation is None:
        for_z = [_stored(coefficients.pilot)]
    else:
        for_z = _stored(_for_z(problem, saved))

    def dz_of(x, dy, mask, for_z):
        z = partial(_z_of, problem, x, mask, saved.beta, for_z)
        return pulled_back(problem, z, dy)

    x, dy = _stored((saved.x, dy))
    # To form dz twice costs less than to store it, but not if the activation has an
    # exponential, say.
    dz = None
    if _activations.is_heavy(activation, x.ndim):
        dz = _stored(dz_of(x, dy, mask, for_z))

    def products(x, dy, dz, mask, for_z):
        dz = dz_of(x, dy, mask, for_z) if dz is None else dz
        return dz, lax.mul(dz, centred(problem, x, mask, for_z[0]))

    arrays = (x, None if dz is not None else dy, dz, mask, for_z)
    sum_dz, sum_dz_centred = channel_sums(problem, products, *arrays)
    sum_kept_dz = sum_dz
    if mask is not None:
        kept = where(mask, products(*arrays)[0])
        sum_kept_dz = separate_sum(problem.reduced, kept)
    sum_dz_x_hat = lax.add(
        lax.mul(coefficients.rstd, sum_dz_centred),
        lax.mul(coefficients.offset, sum_kept_dz),
    )
    of_x = slope(coefficients)
    totals = fold(
        problem.groups, lax.mul(of_x, sum_kept_dz), lax.mul(of_x, sum_dz_x_hat)
    )
    means = means_over_devices(problem, totals, saved.moments.number)

    mean, mean_x_hat = (to_channels(v, x.shape[-1]) for v in means)
    of_centred = lax.mul(coefficients.rstd, mean_x_hat)
    rest = lax.add(mean, lax.mul(coefficients.offset, mean_x_hat))
    of_x, of_centred, rest = _stored((of_x, of_centred, rest))
    x, dy = _stored((x, dy))
    if dz is None:
        dz = dz_of(x, dy, mask, for_z)
    of_centred = lax.mul(centred(problem, x, mask, for_z[0]), of_centred)
    dx = where(mask, lax.sub(lax.sub(lax.mul(dz, of_x), of_centred), rest))
    return (
        dx.astype(saved.x.dtype),
        sum_to(saved.gamma, sum_dz_x_hat),
        sum_to(saved.beta, sum_dz),
    )


def group_sums(problem, function, *arrays):
    """Sums over groups of both values that are formed of each element of arrays."""
    return fold(problem.groups, *channel_sums(problem, function, *arrays))


def _for_z(problem, saved: Saved):
    """The pilot, and what x - pilot is scaled and offset by, of each channel."""
    # Repeated first: a root that several loops use would be stored on its own.
    pilot, shift, var, number = saved.moments
    repeated = (to_channels(v, saved.x.shape[-1]) for v in (pilot, shift, var))
    saved = saved._replace(moments=Moments(*repeated, number=number))
    coefficients = per_channel(problem, saved, group_coefficients(problem, saved))
    offset, gamma, beta = coefficients[2:]
    if gamma is not None:
        offset = lax.mul(offset, gamma)
    if beta is not None:
        offset = lax.add(offset, beta)
    return coefficients.pilot, slope(coefficients), offset


def _z_of(problem, x, mask, beta, for_z):
    """The activation's argument; beta where masked."""
    near, scale, offset = for_z
    z = lax.add(lax.mul(centred(problem, x, mask, near), scale), offset)
    if mask is None:
        return z
    return jnp.where(mask, z, 0 if beta is None else beta.astype(z.dtype))


def _stored(arrays):
    """Formed before what follows, and read by it; of x itself, read again by it."""
    return lax.optimization_barrier(arrays)


def pilot(problem, x):
    """A value of each group, near its mean."""

    def nine_values(problem, x):
        # A CPU compares bfloat16 as float32, there and back each time.
        return [value.astype(problem.compute_dtype) for value in sliced(problem, x)]

    return ninther(problem, x, nine_values)
