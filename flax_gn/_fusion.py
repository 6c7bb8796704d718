"""What keeps XLA on a GPU from writing arrays of x's size to memory.

XLA fuses x's conversion to float32, its centring and so on into the sums over x only if
it expects the sum to be the faster for it. Its cost model gives a sum over all
positions few blocks, and finds the work in them so slow that it does the work
beforehand and writes x in float32 out in full, once or several times. So on a GPU

- a sum goes in two steps, blocks of positions first, for many blocks to share the work,
- two sums over the same values are one sum of complex numbers, since what both need
  would otherwise count as needed by two,
- barriers say where one pass over memory ends, else the centred x is kept for the next.

Other platforms get plain sums. tests/compiled holds the compilers to the result.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

# Positions that one block of a GPU sums: with fewer, the partial sums themselves are
# worth counting beside x; with more, XLA splits the sum in its own way.
_FEWEST, _MOST = 256, 4096

# Channels of a group that are added one by one; a kernel per add costs more than a
# reduction's own kernel from there on.
_MOST_ADDED = 128


def on_gpu(gpu: Callable[..., Any], default: Callable[..., Any], *args: Any) -> Any:
    """``gpu(*args)`` where the program is compiled for a GPU, else ``default(*args)``.

    The platform is that of the compiled program, not of the process that traces it, so
    that `jax.export` and compile-only devices get theirs. Both are traced.
    """
    return jax.lax.platform_dependent(*args, cuda=gpu, rocm=gpu, default=default)


def next_pass(axes: Sequence[int], arrays: Any, coefficients: Any) -> tuple[Any, Any]:
    """On a GPU, ends a pass over memory: what follows reads ``arrays`` again.

    Args:
      axes: the reduced axes.
      arrays: pytree of x and arrays of its shape.
      coefficients: pytree of small arrays; formed beforehand if x has many positions,
        where a kernel more costs little, and in the pass itself otherwise.

    Returns:
      arrays and coefficients.
    """
    many = _block(axes, jax.tree.leaves(arrays)[0]) is not None
    barrier = jax.lax.optimization_barrier

    def gpu(arrays, coefficients):
        if many:
            return barrier((arrays, coefficients))
        return barrier(arrays), coefficients

    return on_gpu(gpu, lambda *same: same, arrays, coefficients)


def spatial_sum(axes: Sequence[int], value: jax.Array) -> jax.Array:
    """Sum over the reduced axes, per channel: (*kept, 1, ..., C).

    The barrier keeps XLA from merging this sum with a later one over samples or
    channels, after which the two would no longer share one read of ``value``.
    """
    total = jnp.sum(value, axes, keepdims=True)
    return jax.lax.optimization_barrier(total)


def spatial_sums(
    axes: Sequence[int], a: jax.Array, b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`spatial_sum` of two arrays that are computed from the same ones."""

    def gpu(a, b):
        return complex_sums(axes, a, b)

    def default(a, b):
        return spatial_sum(axes, a), spatial_sum(axes, b)

    return on_gpu(gpu, default, a, b)


def complex_sums(
    axes: Sequence[int], a: jax.Array, b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """`spatial_sums` on a GPU.

    A NaN or an infinity in one does not reach the other: complex numbers add by part.
    """
    both = jax.lax.complex(a, b)
    block = _block(axes, a)
    if block is not None:
        axis, size = block
        shape = *a.shape[:axis], a.shape[axis] // size, size, *a.shape[axis + 1 :]
        within = (axis + 1, *(other + 1 for other in axes if other > axis))
        # Without the barrier XLA merges the two steps into one again.
        both = spatial_sum(within, both.reshape(shape))
        both = jnp.squeeze(both, axis + 1)
        axes = [other for other in axes if other <= axis]
    total = spatial_sum(axes, both)
    return jnp.real(total), jnp.imag(total)


def _block(axes: Sequence[int], value: jax.Array) -> tuple[int, int] | None:
    """Where to split a sum: an axis, and its size within a block.

    A block takes all of the reduced axes after that axis, so that the split is no
    change of layout. None if a block would hold all positions.
    """
    shape, spec = value.shape, jax.typeof(value).sharding.spec
    positions = math.prod(shape[axis] for axis in axes)
    enough = max(_FEWEST, min(math.isqrt(positions), _MOST))
    splits = []
    for axis in axes:
        if spec[axis] is not None:
            continue  # A split might not fit the shards, and each has fewer positions.
        later = math.prod(shape[other] for other in axes if other > axis)
        splits += (
            (later * size, axis, size)
            for size in range(1, shape[axis] + 1)
            if shape[axis] % size == 0 and enough <= later * size < positions
        )
    return min(splits)[1:] if splits else None


def sum_last(value: jax.Array) -> jax.Array:
    """Sum over the last axis, a short one: (..., C/G) to (...)."""
    if value.shape[-1] > _MOST_ADDED:
        return jnp.sum(value, -1)
    return on_gpu(_added, lambda value: jnp.sum(value, -1), value)


def _added(value):
    """Halves are added until one is left; XLA gives a reduction kernels of its own."""
    while (size := value.shape[-1]) > 1:
        half = size // 2
        added = value[..., :half] + value[..., half : 2 * half]
        odd = value[..., 2 * half :]
        value = jnp.concatenate([added, odd], -1) if size % 2 else added
    return value[..., 0]
