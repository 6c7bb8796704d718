"""Sums over the channels of each group, of which there are few."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from flax_gn._target import target

# Channels of a group that a GPU adds one by one in the kernel that uses the sum. To sum
# more takes less time with a kernel more; a forward pass has no kernel to spare.
_MOST_ADDED, _MOST_ADDED_BACKWARD = 128, 24

Formed = tuple[jax.Array, jax.Array]


def fold(
    groups: int | None, a: jax.Array, b: jax.Array, *, backward: bool = False
) -> Formed:
    """Sums over the channels of each group, (..., C) to (..., G), if there are any."""
    if groups is None:
        return a, b
    most = _MOST_ADDED_BACKWARD if backward else _MOST_ADDED
    return _sums_last(most, split(groups, a), split(groups, b))


def split(groups: int, value: jax.Array) -> jax.Array:
    """(..., C) to (..., G, C/G)."""
    size = value.shape[-1] // groups
    return value.reshape(*value.shape[:-1], groups, size)


def sum_last(value: jax.Array, most: int = _MOST_ADDED) -> jax.Array:
    """Sum over the last axis, a short one; a GPU adds up to ``most`` one by one."""
    if target().platform == "gpu" and value.shape[-1] <= most:
        return _added(value)
    return jnp.sum(value, -1)


def _sums_last(most: int, a: jax.Array, b: jax.Array) -> Formed:
    """`sum_last` of two arrays; on a CPU as one, since they are small."""
    # An all-reduce of complex numbers is not to be had everywhere.
    if target().platform == "cpu" and not target().split:
        both = jnp.sum(jax.lax.complex(a, b), -1)
        return jnp.real(both), jnp.imag(both)
    return sum_last(a, most), sum_last(b, most)


def _added(value):
    """The sum as additions: XLA gives a reduction a kernel of its own."""
    parts = jax.lax.split(value, (1,) * value.shape[-1], value.ndim - 1)
    return jnp.squeeze(tree_sum(parts), -1)


def tree_sum(parts: Sequence[jax.Array]) -> jax.Array:
    """The sum of arrays, pairs first."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        odd = parts[len(parts) // 2 * 2 :]
        parts = [*(jax.lax.add(a, b) for a, b in pairs), *odd]
    return parts[0]
