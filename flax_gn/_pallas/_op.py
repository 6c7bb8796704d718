"""The op around the kernels of a platform: refusals, derivatives, devices.

One kernel runs forward and one backward. Where devices split groups, each way has one
for its sums and one that writes, with an all-reduce between them.

Forward mode and second derivatives go through `flax_gn._xla`; its residuals are kept.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from flax_gn import _sharding, _target, _xla
from flax_gn._call import jvp_of_moving, linear_call
from flax_gn._pallas import _platform
from flax_gn._problem import Operands, Problem
from flax_gn._words import said
from flax_gn._xla import Moments, Saved

_DTYPES = (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16))


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The kernels of a platform.

    All take a problem, a cut, x in the cut's view, and float32 arrays of shape
    (N, K, C) with a row of values per channel for each of the K quantities named here.

    Attributes:
      name: of the implementation.
      platform: as jax names it.
      machines: that run it, in words.
      choose: (shape, groups, itemsizes, keep) -> the cut for arrays of shape
        (N, *spatial, C) and so many bytes a value; ``keep`` is whether the kernel goes
        over its arrays twice and may keep them in between. It has the view's ``shape``.
        Raises NotImplementedError where there is none.
      forward: rows pilot, gamma, beta -> y; rows shift, var.
      statistics: the same -> rows shift, var.
      normalise: the same, and rows shift, var -> y.
      backward: dy; rows pilot, rstd, offset, gamma, beta -> dx; rows sum(dz),
        sum(dz * x_hat).
      gradient_sums: the same -> the rows.
      gradient: the same, and rows rstd * <g>, rstd * <x_hat * g> -> dx, where
        g = gamma * dz, and <.> is the mean over a group.
    """

    name: str
    platform: str
    machines: str
    choose: Callable[[tuple[int, ...], int, tuple[int, ...], bool], Any]
    forward: Callable[..., tuple[jax.Array, jax.Array]]
    statistics: Callable[..., jax.Array]
    normalise: Callable[..., jax.Array]
    backward: Callable[..., tuple[jax.Array, jax.Array]]
    gradient_sums: Callable[..., jax.Array]
    gradient: Callable[..., jax.Array]


def group_norm(kernels: Kernels, problem: Problem, operands: Operands) -> jax.Array:
    """See `flax_gn.group_norm`.

    Raises:
      NotImplementedError: there is no kernel for this call; the message says why.
    """
    _refuse(kernels, problem, operands)
    return _jitted(kernels, problem, operands.x, operands.gamma, operands.beta)


def group_norm_where_faster(
    kernels: tuple[Kernels, ...], problem: Problem, operands: Operands
) -> jax.Array:
    """By the kernels of the platform that the program is lowered for, else by XLA."""
    if _unsupported(problem, operands) is not None:
        return _xla.group_norm(problem, operands)
    return _jitted(kernels, problem, operands.x, operands.gamma, operands.beta)


def group_stats(
    kernels: Kernels, problem: Problem, operands: Operands
) -> tuple[jax.Array, jax.Array]:
    """See `flax_gn.group_stats`.

    Raises:
      NotImplementedError: as `group_norm`.
    """
    _refuse(kernels, problem, operands)
    mean, var = _jitted_stats(kernels, problem, operands.x)
    return jnp.squeeze(mean, problem.reduced), jnp.squeeze(var, problem.reduced)


def _refuse(kernels, problem, operands):
    reason = _unsupported(problem, operands)
    if reason is not None:
        raise NotImplementedError(
            said(
                f'`implementation`="{kernels.name}" {reason}. Leave `implementation` '
                'out, or pass "xla", which can.'
            )
        )


def _unsupported(problem, operands) -> str | None:
    x = operands.x
    if operands.mask is not None:
        return "takes no mask"
    spatial = tuple(range(x.ndim - 1 - len(problem.reduced), x.ndim - 1))
    if problem.reduced != spatial:
        axes = (*problem.reduced, x.ndim - 1)
        return (
            "takes statistics over x's last axes alone, such as (-3, -2, -1); got "
            f"reduction_axes {axes} for x of rank {x.ndim}"
        )
    for name, dtype in (("x", x.dtype), ("the result", problem.out_dtype)):
        if dtype not in _DTYPES:
            return f"takes float32 and bfloat16; got {name} of dtype {dtype.name}"
    if any(export.is_symbolic_dim(size) for size in x.shape):
        return f"takes fixed sizes; got symbolic ones, x of shape {x.shape}"
    if x.size == 0:
        return f"takes no empty arrays; got x of shape {x.shape}"
    return None


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _group_norm(kernels, problem, x, gamma, beta):
    return forward(kernels, problem, x, gamma, beta)[0]


@_group_norm.defjvp
def _group_norm_jvp(kernels, problem, primals, tangents):
    y, moments = forward(kernels, problem, *primals)
    return y, _tangent(kernels, problem, primals, moments, tangents)


def _group_stats(kernels, problem, x):
    moments = _moments(kernels, problem, x)
    return moments.pilot + moments.shift, moments.var


@partial(jax.jit, static_argnums=(0, 1))
def _jitted(kernels, problem, x, gamma, beta):
    run = partial(_group_norm, kernels)
    return _sharding.over_devices(run, problem, x, gamma, beta, always=True)


@partial(jax.jit, static_argnums=(0, 1))
def _jitted_stats(kernels, problem, x):
    run = partial(_group_stats, kernels)
    return _sharding.over_devices(run, problem, x, per_group=True, always=True)


def _run(kernels, by_kernel, by_xla, problem, *args):
    """By the kernels that were asked for, or by those that turn out to be the ones."""
    if isinstance(kernels, Kernels):
        return _aimed(kernels, by_kernel)(problem, *args)
    return _platform.choose(
        {each.platform: partial(_aimed(each, by_kernel), problem) for each in kernels},
        partial(by_xla, problem),
        *args,
    )


def _aimed(kernels, function):
    """A function of kernels, traced for their platform."""
    target = _target.Target(_target.NAMES[kernels.platform])
    return _target.aimed(target, partial(function, kernels))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def forward(
    kernels: Kernels | tuple[Kernels, ...],
    problem: Problem,
    x: jax.Array,
    gamma: jax.Array | None,
    beta: jax.Array | None,
) -> tuple[jax.Array, Moments]:
    """The result and its moments."""
    return _run(kernels, _forward, _xla.forward, problem, x, gamma, beta)


def _forward(kernels, problem, x, gamma, beta):
    n, c = _samples(problem, x), x.shape[-1]
    moments = None
    if problem.axis_name is None:
        pilot = _xla.pilot(problem, x).astype(jnp.float32)
    else:
        moments = _moments(kernels, problem, x)
        pilot = moments.pilot
    dtypes = x.dtype, problem.out_dtype
    tiles, run = _kernel(kernels, problem, x, dtypes, keep=moments is None)
    coefficients = jnp.stack(
        [
            _rows(pilot, n, c),
            _parameter_rows(problem, x, gamma, 1),
            _parameter_rows(problem, x, beta, 0),
        ],
        1,
    )
    view = x.reshape(tiles.shape)
    if moments is None:
        y, statistics = run(kernels.forward, view, coefficients)
        moments = _moments_of(problem, x, pilot, statistics)
    else:
        rows = jnp.stack([_rows(moments.shift, n, c), _rows(moments.var, n, c)], 1)
        y = run(kernels.normalise, view, coefficients, rows)
    return y.reshape(x.shape), moments


@forward.defjvp
def _forward_jvp(kernels, problem, primals, tangents):
    y, moments = forward(kernels, problem, *primals)
    dy = _tangent(kernels, problem, primals, moments, tangents)
    d_moments = _xla.moments_tangent(problem, primals[0], None, moments, tangents[0])
    return (y, moments), (dy, d_moments)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _moments(kernels, problem, x):
    """The statistics, by a kernel of their own."""
    return _aimed(kernels, _moments_by_kernel)(problem, x)


def _moments_by_kernel(kernels, problem, x):
    n, c = _samples(problem, x), x.shape[-1]
    tiles, run = _kernel(kernels, problem, x, (x.dtype,), keep=False)
    pilot = _xla.pilot(problem, x).astype(jnp.float32)
    coefficients = jnp.stack([_rows(pilot, n, c)] * 3, 1)
    statistics = run(kernels.statistics, x.reshape(tiles.shape), coefficients)
    moments = _moments_of(problem, x, pilot, statistics)
    if problem.axis_name is None:
        return moments
    return _xla.merge_over_devices(problem, moments)


@_moments.defjvp
def _moments_jvp(kernels, problem, primals, tangents):
    (x,), (dx,) = primals, tangents
    value = _moments(kernels, problem, x)
    return value, _xla.moments_tangent(problem, x, None, value, dx)


def _moments_of(problem, x, pilot, statistics):
    """Shift and variance from rows of them, of which each group has one value."""
    per_group = statistics[..., :: x.shape[-1] // problem.groups]
    shift, var = (per_group[:, i].reshape(pilot.shape) for i in range(2))
    count = jnp.full((1,) * x.ndim, _group_values(problem, x), jnp.float32)
    return Moments(pilot, shift, var, count)


def _tangent(kernels, problem, primals, moments, tangents):
    x, gamma, beta = primals
    saved = Saved(x, gamma, beta, None, moments)
    return linear_call(
        partial(_xla.tangent, problem),
        partial(backward, kernels, problem),
        saved,
        tangents,
    )


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def backward(
    kernels: Kernels | tuple[Kernels, ...],
    problem: Problem,
    saved: Saved,
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array | None, jax.Array | None]:
    """The cotangents of x, gamma and beta."""
    return _run(kernels, _backward, _xla.cotangent, problem, saved, dy)


def _backward(kernels, problem, saved, dy):
    x = saved.x
    n, c = _samples(problem, x), x.shape[-1]
    dtypes, keep = (x.dtype, dy.dtype, x.dtype), problem.axis_name is None
    tiles, run = _kernel(kernels, problem, x, dtypes, keep=keep)
    pilot, rstd, offset = (
        _rows(v, n, c) for v in _xla.group_coefficients(problem, saved)
    )
    gamma = _parameter_rows(problem, x, saved.gamma, 1)
    beta = _parameter_rows(problem, x, saved.beta, 0)
    coefficients = jnp.stack([pilot, rstd, offset, gamma, beta], 1)
    arrays = x.reshape(tiles.shape), dy.reshape(tiles.shape), coefficients
    if problem.axis_name is None:
        dx, totals = run(kernels.backward, *arrays)
    else:
        totals = run(kernels.gradient_sums, *arrays)
        means = _means(problem, saved, (rstd * gamma)[:, None] * totals)
        dx = run(kernels.gradient, *arrays, means)
    shape = _per_sample_shape(problem, x)
    sum_dz, sum_dz_x_hat = (totals[:, i].reshape(shape) for i in range(2))
    return (
        dx.reshape(x.shape),
        _xla.sum_to(saved.gamma, sum_dz_x_hat),
        _xla.sum_to(saved.beta, sum_dz),
    )


def _means(problem, saved, totals):
    """Over groups that devices share, of rows of sums, and as rows again."""
    n, _, c = totals.shape
    shape = _per_sample_shape(problem, saved.x)
    local = (
        _xla.sum_per_group(problem.groups, totals[:, i].reshape(shape))
        for i in range(2)
    )
    means = _xla.means_over_devices(problem, local, saved.moments.number)
    return jnp.stack([_rows(mean, n, c) for mean in means], 1)


def _backward_jvp(kernels, problem, primals, tangents):
    """By XLA."""
    out = jvp_of_moving(partial(_xla.cotangent, problem), primals, tangents)
    return backward(kernels, problem, *primals), out


backward.defjvp(_backward_jvp, symbolic_zeros=True)


def _kernel(kernels, problem, x, dtypes, *, keep):
    """The cut, and a function that runs a kernel in it."""
    tiles = cut(kernels, problem, x, dtypes, keep)

    def run(kernel, *arrays):
        return _platform.only_on(kernels, partial(kernel, problem, tiles), *arrays)

    return tiles, run


def cut(
    kernels: Kernels, problem: Problem, x: jax.Array, dtypes: tuple, keep: bool
) -> Any:
    """The cut of a kernel that reads and writes arrays of x's shape and these dtypes.

    Raises:
      NotImplementedError: there is none.
    """
    first = x.ndim - 1 - len(problem.reduced)
    shape = (_samples(problem, x), *x.shape[first:])
    itemsizes = tuple(dtype.itemsize for dtype in dtypes)
    return kernels.choose(shape, problem.groups, itemsizes, keep)


def _samples(problem, x) -> int:
    """The kept axes as one."""
    return math.prod(x.shape[: x.ndim - 1 - len(problem.reduced)])


def _group_values(problem, x) -> int:
    spatial = math.prod(x.shape[axis] for axis in problem.reduced)
    return spatial * (x.shape[-1] // problem.groups)


def _rows(per_group, n, c) -> jax.Array:
    """(*kept, 1, ..., G) to (N, C)."""
    return _xla.to_channels(per_group, c).reshape(n, c)


def _per_sample_shape(problem, x) -> tuple[int, ...]:
    return tuple(
        1 if axis in problem.reduced else size for axis, size in enumerate(x.shape)
    )


def _parameter_rows(problem, x, parameter, default) -> jax.Array:
    """Gamma or beta as (N, C), float32."""
    shape = _samples(problem, x), x.shape[-1]
    if parameter is None:
        return jnp.full(shape, default, jnp.float32)
    full = jnp.broadcast_to(parameter, _per_sample_shape(problem, x))
    return full.astype(jnp.float32).reshape(shape)
