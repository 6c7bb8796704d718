"""Group norm in one kernel each way on a TPU.

Forward mode and second derivatives go through `flax_gn._xla`; its residuals are kept.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.experimental.pallas import tpu as pltpu

from flax_gn import _pilot, _sharding, _statistics, _xla
from flax_gn._linear import linear_call
from flax_gn._pallas import _backward, _forward, _platform, _tiles
from flax_gn._pallas._interpret import interpreted
from flax_gn._problem import Operands, Problem
from flax_gn._statistics import Moments
from flax_gn._xla import Saved

_NAME = "pallas_tpu"
_DTYPES = (jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16))
_SMALLEST_VMEM = 16 * _tiles.MIB


def group_norm(problem: Problem, operands: Operands) -> jax.Array:
    """See `flax_gn.group_norm`.

    Raises:
      NotImplementedError: there is no kernel for this call; the message says why.
    """
    reason = _unsupported(problem, operands)
    if reason is not None:
        raise NotImplementedError(
            f'group_norm: implementation="{_NAME}" {reason}. Leave implementation out, '
            'or pass "xla", which can.'
        )
    return _jitted(problem, operands.x, operands.gamma, operands.beta)


def group_stats(problem: Problem, operands: Operands) -> tuple[jax.Array, jax.Array]:
    """There is no kernel for the statistics alone.

    Raises:
      NotImplementedError: always.
    """
    del problem, operands
    raise NotImplementedError(
        f'group_stats: implementation="{_NAME}" has no kernel for the statistics '
        'alone. Leave implementation out, or pass "xla".'
    )


def _unsupported(problem, operands) -> str | None:
    x = operands.x
    if operands.mask is not None:
        return "takes no mask"
    if problem.axis_name is not None:
        return f"cannot share statistics over devices, axis_name={problem.axis_name!r}"
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
    if any(jax.export.is_symbolic_dim(size) for size in x.shape):
        return f"takes fixed sizes; got symbolic ones, x of shape {x.shape}"
    if x.size == 0:
        return f"takes no empty arrays; got x of shape {x.shape}"
    return None


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _group_norm(problem, x, gamma, beta):
    return _forward_kernel(problem, x, gamma, beta)[0]


@_group_norm.defjvp
def _group_norm_jvp(problem, primals, tangents):
    y, moments = _forward_kernel(problem, *primals)
    return y, _tangent(problem, primals, moments, tangents)


def _sharded(problem, x, gamma, beta):
    if problem.axis_name is not None:
        raise NotImplementedError(
            f'group_norm: implementation="{_NAME}" needs whole groups on a device; '
            f"got x of type {jax.typeof(x)} in a mesh that splits them. Split the "
            "batch or whole groups of channels, or leave implementation out."
        )
    return _group_norm(problem, x, gamma, beta)


_jitted = jax.jit(
    partial(_sharding.over_devices, _sharded, always=True), static_argnums=0
)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _forward_kernel(problem, x, gamma, beta):
    """The result and its moments."""
    n, c = _samples(problem, x), x.shape[-1]
    tiles = _choose(problem, x, (x.dtype, problem.out_dtype))
    pilot = _pilot.ninther(problem, x).astype(jnp.float32)
    coefficients = jnp.stack(
        [
            _rows(pilot, n, c),
            _parameter_rows(problem, x, gamma, 1),
            _parameter_rows(problem, x, beta, 0),
        ],
        1,
    )
    y, statistics = _platform.on_tpu(
        partial(_forward.forward, problem, tiles), x.reshape(tiles.shape), coefficients
    )
    # One value of each group's.
    per_group = statistics[..., :: c // problem.groups]
    shift, var = (
        per_group[:, i].reshape(pilot.shape) for i in (_forward.SHIFT, _forward.VAR)
    )
    count = jnp.full((1,) * x.ndim, _group_values(problem, x), jnp.float32)
    return y.reshape(x.shape), Moments(pilot, shift, var, count)


@_forward_kernel.defjvp
def _forward_kernel_jvp(problem, primals, tangents):
    y, moments = _forward_kernel(problem, *primals)
    dy = _tangent(problem, primals, moments, tangents)
    of_x = partial(_statistics.moments, problem, mask=None)
    _, d_moments = jax.jvp(of_x, primals[:1], tangents[:1])
    return (y, moments), (dy, d_moments)


def _tangent(problem, primals, moments, tangents):
    x, gamma, beta = primals
    saved = Saved(x, gamma, beta, None, moments)
    return linear_call(
        partial(_xla.tangent, problem),
        partial(_backward_kernel, problem),
        saved,
        tangents,
    )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _backward_kernel(problem, saved: Saved, dy):
    """The cotangents of x, gamma and beta."""
    x = saved.x
    n, c = _samples(problem, x), x.shape[-1]
    tiles = _choose(problem, x, (x.dtype, dy.dtype, x.dtype))
    coefficients = jnp.stack(
        [
            *(_rows(v, n, c) for v in _xla.group_coefficients(problem, saved)),
            _parameter_rows(problem, x, saved.gamma, 1),
            _parameter_rows(problem, x, saved.beta, 0),
        ],
        1,
    )
    dx, totals = _platform.on_tpu(
        partial(_backward.backward, problem, tiles),
        x.reshape(tiles.shape),
        dy.reshape(tiles.shape),
        coefficients,
    )
    shape = _per_sample_shape(problem, x)
    sum_dz, sum_dz_x_hat = (
        totals[:, i].reshape(shape) for i in (_backward.DZ, _backward.DZ_X_HAT)
    )
    return (
        dx.reshape(x.shape),
        _xla.sum_to(saved.gamma, sum_dz_x_hat),
        _xla.sum_to(saved.beta, sum_dz),
    )


def _backward_kernel_jvp(problem, primals, tangents):
    """By XLA, with respect to what moves.

    The transpose of a barrier, which XLA's passes end with, takes no zeros in place of
    what does not.
    """
    flat, tree = jax.tree.flatten(primals)
    flat_tangents = jax.tree.leaves(tangents)
    moving = [i for i, t in enumerate(flat_tangents) if not isinstance(t, SymbolicZero)]

    def of_moving(*values):
        filled = list(flat)
        for i, value in zip(moving, values, strict=True):
            filled[i] = value
        return _xla.cotangent(problem, *jax.tree.unflatten(tree, filled))

    _, out = jax.jvp(
        of_moving, [flat[i] for i in moving], [flat_tangents[i] for i in moving]
    )
    return _backward_kernel(problem, *primals), out


_backward_kernel.defjvp(_backward_kernel_jvp, symbolic_zeros=True)


def _choose(problem, x, dtypes) -> _tiles.Tiles:
    """The cut for the chip that is compiled for."""
    first = x.ndim - 1 - len(problem.reduced)
    shape = (_samples(problem, x), *x.shape[first:])
    itemsizes = tuple(dtype.itemsize for dtype in dtypes)
    try:
        return _tiles.choose(shape, problem.groups, itemsizes, _vmem_bytes())
    except _tiles.DoesNotFitError:
        raise NotImplementedError(
            f'group_norm: implementation="{_NAME}" finds no block of x of shape '
            f"{x.shape} with whole groups that fits in the memory of a TPU core, "
            f'{_vmem_bytes()} bytes. Leave implementation out, or pass "xla".'
        ) from None


def _vmem_bytes() -> int:
    """Memory of a core: of the mesh's device, or of the process's; else the least.

    A program that is compiled for a chip elsewhere says for which with
    `jax.sharding.use_abstract_mesh`, as all Pallas kernels have it.
    """
    if interpreted.value is not None:
        return interpreted.value.vmem_bytes or _SMALLEST_VMEM
    try:
        return pltpu.get_tpu_info().vmem_capacity_bytes
    except ValueError:
        return _SMALLEST_VMEM


def _samples(problem, x) -> int:
    """The kept axes as one."""
    return math.prod(x.shape[: x.ndim - 1 - len(problem.reduced)])


def _group_values(problem, x) -> int:
    spatial = math.prod(x.shape[axis] for axis in problem.reduced)
    return spatial * (x.shape[-1] // problem.groups)


def _rows(per_group, n, c) -> jax.Array:
    """(*kept, 1, ..., G) to (N, C)."""
    return _statistics.to_channels(per_group, c).reshape(n, c)


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
