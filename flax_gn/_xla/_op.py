"""The operation, its rules of differentiation, and what reverse mode keeps.

A forward or a backward pass is one operation of the traced program (`_call`), which is
traced for its platform when the program is lowered. The platform is asked for here,
once for a pass; `_cpu`, `_gpu`, `_tpu` and `_plain` say what follows.
"""

from functools import partial
from types import ModuleType

import jax
import jax.numpy as jnp
from jax import lax

from flax_gn import _sharding
from flax_gn._call import call, linear_call
from flax_gn._problem import Operands, Problem
from flax_gn._target import target
from flax_gn._xla import _cpu, _gpu, _moments, _plain, _tpu
from flax_gn._xla._arithmetic import (
    Saved,
    affine,
    dx_of,
    group_coefficients,
    per_channel,
    where,
    widened,
    x_hat_of,
)
from flax_gn._xla._devices import means_over_devices

_PASSES = {"cpu": _cpu, "gpu": _gpu, "tpu": _tpu, None: _plain}


def _passes() -> ModuleType:
    """What is done on the platform that is traced for."""
    return _PASSES[target().platform]


def group_norm(problem: Problem, operands: Operands) -> jax.Array:
    """See `flax_gn.group_norm`."""
    return _jitted(problem, operands.x, operands.gamma, operands.beta, operands.mask)


def group_stats(problem: Problem, operands: Operands) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance, shape (*kept, G)."""
    mean, var = _jitted_stats(problem, operands.x, operands.mask)
    return jnp.squeeze(mean, problem.reduced), jnp.squeeze(var, problem.reduced)


@partial(jax.jit, static_argnums=(0, 1))
def _called(function, problem, *args):
    """Traced once for a function and for its derivative, which calls it too."""
    return call(partial(function, problem), *args)


def pilot(problem: Problem, x: jax.Array) -> jax.Array:
    """A value of each group near its mean: (*kept, 1, ..., G), of x's dtype."""
    return _passes().pilot(problem, x)


def moments(problem, x, mask):
    """The statistics of x, over all devices along the problem's axis_name."""
    return _passes().moments(problem, x, mask)


def moments_tangent(problem, x, mask, value, dx):
    """The directional derivative of the moments, whose ``value`` at x is known."""
    return _moments.tangent(problem, x, mask, value, dx, _group_sums)


def _group_sums(problem, function, *arrays):
    return _passes().group_sums(problem, function, *arrays)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _moments_of(problem, x, mask):
    return _called(moments, problem, x, mask)


@_moments_of.defjvp
def _moments_jvp(problem, primals, tangents):
    x, mask = primals
    value = _moments_of(problem, x, mask)
    return value, moments_tangent(problem, x, mask, value, tangents[0])


def _group_stats(problem, x, mask):
    value = _moments_of(problem, x, mask)
    return value.pilot + value.shift, value.var


def forward(problem, x, gamma, beta, mask=None):
    """The result and its moments."""
    return _passes().forward(problem, x, gamma, beta, mask)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _forward(problem, x, gamma, beta, mask):
    return _called(forward, problem, x, gamma, beta, mask)


@_forward.defjvp
def _forward_jvp(problem, primals, tangents):
    """For derivatives of derivatives, which ask for those of the moments."""
    x, *_, mask = primals
    y, moments = _forward(problem, *primals)
    d_moments = moments_tangent(problem, x, mask, moments, tangents[0])
    return (y, moments), (_along(problem, primals, moments, tangents), d_moments)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _group_norm(problem, x, gamma, beta, mask):
    return _forward(problem, x, gamma, beta, mask)[0]


@_group_norm.defjvp
def _group_norm_jvp(problem, primals, tangents):
    y, moments = _forward(problem, *primals)
    return y, _along(problem, primals, moments, tangents)


def _along(problem, primals, moments, tangents):
    """The derivative of the result along tangents."""
    x, gamma, beta, mask = primals
    saved = Saved(x, gamma, beta, mask, moments)
    return linear_call(
        partial(tangent, problem), partial(cotangent, problem), saved, tangents[:3]
    )


_jitted = jax.jit(partial(_sharding.over_devices, _group_norm), static_argnums=0)
_jitted_stats = jax.jit(
    partial(_sharding.over_devices, _group_stats, per_group=True), static_argnums=0
)


def tangent(problem, saved: Saved, tangents):
    """The directional derivative of the result.

    With <.> the mean over a group,

    dz = gamma * rstd * (dx - <dx> - x_hat * <x_hat * dx>) + dgamma * x_hat + dbeta
    """
    dx, dgamma, dbeta = tangents
    x, mask = saved.x, saved.mask
    coefficients = per_channel(problem, saved, group_coefficients(problem, saved))
    if _passes() is _cpu:  # which would form them anew for each element
        coefficients = lax.optimization_barrier(coefficients)

    def products(x, dx, coefficients, mask):
        x_hat = x_hat_of(problem, x, mask, coefficients)
        dx = widened(problem, dx, mask)
        return dx, lax.mul(x_hat, dx)

    totals = _group_sums(problem, products, x, dx, coefficients, mask)
    means = means_over_devices(problem, totals, saved.moments.number)
    x_hat = x_hat_of(problem, x, mask, coefficients)
    dx = widened(problem, dx, mask)
    dz = where(mask, lax.mul(coefficients.rstd, dx_of(dx, x_hat, means)))
    if coefficients.gamma is not None:
        through_gamma = lax.mul(x_hat, dgamma.astype(dz.dtype))
        dz = lax.add(lax.mul(dz, coefficients.gamma), through_gamma)
    if coefficients.beta is not None:
        dz = lax.add(dz, dbeta.astype(dz.dtype))
    if problem.activation is not None:
        z = affine(x_hat, coefficients)
        _, dz = jax.jvp(problem.activation, (z,), (dz,))
    return dz.astype(problem.out_dtype)


def cotangent(problem, saved: Saved, dy):
    """The transpose of `tangent`, the backward pass.

    With g = gamma * dz,

    dx = rstd * (g - <g> - x_hat * <x_hat * g>)
    dbeta = sum(dz) and dgamma = sum(dz * x_hat)

    The sums of dz and dz * x_hat per channel serve all three. They are centred:
    sum(dz * x) would lose digits when the mean is large.
    """
    return _passes().cotangent(problem, saved, dy)
