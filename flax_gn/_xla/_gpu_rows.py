"""Sums over few positions, on a GPU: of rows, a row being the channels of a group.

Sums per channel would weigh: 16 bytes that are written and read again, a sixth of a
bfloat16 x of 49 positions. And to add up those of 60 or 80 channels takes a GPU longer
than to sum rows of them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from flax_gn._problem import is_known
from flax_gn._xla._arithmetic import Both, part, sum_per_group

# Positions up to which rows are summed: with 16 to 4096 of them a forward pass takes up
# to a quarter less on an H100 (docs/decisions.md). With 16384 of a single sample the
# sum over the rows took longer than was saved.
_MOST_POSITIONS = 4096

# Parts of the positions are added to each other first: so many, more where a row has
# few bytes, fewer where too few rows would be left for XLA to sum them in one pass.
_PARTS, _ROW_BYTES, _ENOUGH_ROWS = 16, 400, 1024

# Threads of a GPU that sum a row. XLA leaves a row to one thread if it is shorter and
# does not divide them. A sum for less than 8 channels weighs as much as one for each.
_WARP, _SHORTEST = 32, 8

# Channels of a group that are added one by one in the kernel that uses the sum. To sum
# more takes less time with a kernel more; a forward pass has no kernel to spare.
_MOST_ADDED = 128

# Sums of rows that are; more are summed in their own kernel.
_MOST_ROWS_ADDED = 16

# Bytes of positions in a channel of x up to which the backward pass too sums rows. It
# has to sum dz per channel besides; with more positions that took longer.
_FEW_BYTES = 256

# What makes a block of samples for the gradients of gamma and beta: up to so many
# samples that leave so many sums, or so many values each and fewer sums. With larger
# blocks XLA does not form the sums in the pass that writes dx, and with less than a
# warp of values it writes more; experiments/decisions/few_positions.py.
_MOST_SAMPLES, _MANY_SUMS, _MOST_VALUES, _FEWEST_SUMS = 16, 8192, 128, 2048


def sum_last(value: jax.Array, most: int = _MOST_ADDED) -> jax.Array:
    """Sum over the last axis, a short one: up to ``most`` are added one by one.

    XLA gives a reduction a kernel of its own.
    """
    if value.shape[-1] > most:
        return lax.reduce_sum(value, [value.ndim - 1])
    parts = lax.split(value, (1,) * value.shape[-1], value.ndim - 1)
    return lax.squeeze(_tree_sum(parts), [value.ndim - 1])


def number(axes: Sequence[int], groups: int, x: Any) -> int | None:
    """How many rows of each group to sum; None if channels had better be.

    Args:
      axes: the reduced axes.
      groups: number of groups.
      x: (*kept, *positions, C).
    """
    first = x.ndim - 1 - len(axes)
    channels, spec = x.shape[-1] // groups, jax.typeof(x).sharding.spec
    if (
        tuple(axes) != tuple(range(first, x.ndim - 1))
        or any(part is not None for part in spec[first:])
        or not is_known(*x.shape[first:])
        or 0 in x.shape
        or channels < _SHORTEST
        or (channels < _WARP and _WARP % channels)
    ):
        return None
    positions = math.prod(x.shape[first:-1])
    if positions > _MOST_POSITIONS:
        return None
    parts = max(_PARTS, _ROW_BYTES // (channels * x.dtype.itemsize))
    rows = -(-positions // parts)
    if not is_known(*x.shape[:first]):
        return rows
    enough = -(-_ENOUGH_ROWS // (math.prod(x.shape[:first]) * groups))
    return max(rows, min(enough, -(-2 * positions // parts)))


def sums(
    rows: int,
    axes: Sequence[int],
    groups: int,
    function: Callable[..., Both],
    *arrays: Any,
) -> Both:
    """`_gpu_sums.group_sums` by way of ``rows`` sums per group, a `number`.

    Each part is formed from slices of the arrays: XLA stores what several users take
    slices of, if it costs more than some additions.
    """
    x: Any = jax.tree.leaves(arrays)[0]
    kept = x.ndim - 1 - len(axes)
    spatial = x.shape[kept:-1]
    positions = math.prod(spatial)

    def flat(array):
        first, last = array.shape[:kept], array.shape[-1]
        if math.prod(array.shape[kept:-1]) != 1:
            array = lax.broadcast_in_dim(
                array, (*first, *spatial, last), range(array.ndim)
            )
        return array.reshape(*first, -1, last)

    def padded(start):
        end = min(start + rows, positions)
        both = lax.complex(*function(*part(flattened, kept, start, end)))
        missing = rows - both.shape[kept]
        return jnp.pad(both, [(0, missing * (i == kept)) for i in range(both.ndim)])

    flattened = jax.tree.map(flat, arrays)
    # Traced for one part.
    function = jax.jit(function, inline=True)
    parts = _tree_sum([padded(start) for start in range(0, positions, rows)])
    of_rows = lax.optimization_barrier(sum_per_group(groups, parts))
    of_rows = jnp.moveaxis(of_rows, kept, -1)
    total = sum_last(of_rows, _MOST_ROWS_ADDED)
    total = lax.expand_dims(total, range(kept, x.ndim - 1))
    return lax.real(total), lax.imag(total)


def _tree_sum(parts: Sequence[jax.Array]) -> jax.Array:
    """The sum of arrays, pairs first."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        odd = parts[len(parts) // 2 * 2 :]
        parts = [*(lax.add(a, b) for a, b in pairs), *odd]
    return parts[0]


def serve_backward(axes: Sequence[int], groups: int, x: jax.Array) -> bool:
    """Whether the backward pass had better sum rows, and `over_samples`."""
    if number(axes, groups, x) is None or not is_known(*x.shape):
        return False
    size = math.prod(x.shape[axis] for axis in axes) * x.dtype.itemsize
    values = _samples_in_block(x.shape) * math.prod(x.shape[1:-1])
    return size <= _FEW_BYTES and values >= _WARP


def over_samples(both: jax.Array) -> jax.Array:
    """Sums (N, ..., C) over all but the channels: (C,).

    Blocks of samples first, and of each the sum in the pass that writes an array of
    ``both``'s shape.
    """
    samples, *rest, channels = both.shape
    size = _samples_in_block(both.shape)
    blocks = both.reshape(samples // size, size, *rest, channels)
    sums = jnp.sum(blocks, tuple(range(1, blocks.ndim - 1)))
    sums = lax.optimization_barrier(sums)
    if sums.shape[0] == 1:
        # XLA takes the real and the imaginary part of a sum in one kernel.
        sums = jnp.pad(sums, [(0, 1), (0, 0)])
    return jnp.sum(sums, 0)


def _samples_in_block(shape: tuple[int, ...]) -> int:
    samples, *rest, channels = shape

    def fits(size):
        few = size * math.prod(rest) <= _MOST_VALUES
        left = samples // size * channels
        return samples % size == 0 and left >= (_FEWEST_SUMS if few else _MANY_SUMS)

    sizes = [1 << i for i in range(_MOST_SAMPLES.bit_length())]
    return max(size for size in sizes if size == 1 or fits(size))
