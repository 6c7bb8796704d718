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

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from flax_gn._problem import is_known

# Positions that one block of a GPU sums. With fewer, writing and reading the partial
# sums, 16 bytes per block and channel, adds over 5% to the bytes of a bfloat16 x; with
# more, XLA splits the sum in its own way.
_FEWEST, _GOOD, _MOST = 160, 256, 4096

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
    many = _block_of(axes, jax.tree.leaves(arrays)[0]) is not None
    barrier = jax.lax.optimization_barrier

    def gpu(arrays, coefficients):
        if many:
            return barrier((arrays, coefficients))
        return barrier(arrays), coefficients

    return on_gpu(gpu, lambda *same: same, arrays, coefficients)


def read_again(*arrays: jax.Array) -> Sequence[jax.Array]:
    """On a TPU, keeps what a pass made of its arrays from being stored for the next.

    The compiler for 7x kept the activation's derivative in float32: 8|x| backward for
    (2,64,64,960) instead of 5|x|.
    """
    return jax.lax.platform_dependent(
        *arrays,
        tpu=lambda *same: jax.lax.optimization_barrier(same),
        default=lambda *same: same,
    )


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
    block = _block_of(axes, a)
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


def _block_of(axes: Sequence[int], value: jax.Array) -> tuple[int, int] | None:
    """`_block` of an array; no axis that an explicit mesh shards is split."""
    spec = jax.typeof(value).sharding.spec
    whole = tuple(axis for axis in axes if spec[axis] is None)
    if not is_known(*(value.shape[axis] for axis in axes)):
        return None
    return _block(tuple(axes), whole, value.shape)


@functools.cache
def _block(
    axes: tuple[int, ...], whole: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, int] | None:
    """Where to split a sum over axes: one of those in whole, and its size in a block.

    A block takes all of the reduced axes after that axis, so that the split is no
    change of layout. None if no divisor of an axis makes a block of a fair size that
    leaves more than one; XLA then decides for itself.
    """
    positions = math.prod(shape[axis] for axis in axes)
    enough = max(_GOOD, min(math.isqrt(positions), _MOST))
    blocks = []
    for axis in whole:
        later = math.prod(shape[other] for other in axes if other > axis)
        blocks += (
            (later * size, axis, size)
            for size in range(1, shape[axis] + 1)
            if shape[axis] % size == 0 and _FEWEST <= later * size < positions
        )
    fitting = [block for block in blocks if block[0] >= enough]
    best = min(fitting) if fitting else max(blocks, default=None)
    return best and best[1:]


def sum_last(value: jax.Array) -> jax.Array:
    """Sum over the last axis, a short one: (..., C/G) to (...)."""
    if value.shape[-1] > _MOST_ADDED:
        return jnp.sum(value, -1)
    return on_gpu(_added, lambda value: jnp.sum(value, -1), value)


def _added(value):
    """The sum as additions, in a tree: XLA gives a reduction a kernel of its own."""
    parts = jax.lax.split(value, (1,) * value.shape[-1], value.ndim - 1)
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        odd = parts[len(parts) // 2 * 2 :]
        parts = [*(a + b for a, b in pairs), *odd]
    return jnp.squeeze(parts[0], -1)
