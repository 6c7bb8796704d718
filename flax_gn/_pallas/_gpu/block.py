"""What the GPU kernels do with a block: loads, sums, sums over groups.

Values are spread over the threads in one way for the whole kernel: the thread of each
place of ``rows`` positions by ``channels`` has that place of every step. Between
threads values move through shared memory alone.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from flax_gn._pallas._gpu.tiles import THREADS, Tiles

Pair = tuple[jax.Array, jax.Array]
Terms = Callable[[Any], Pair]


def layout(tiles: Tiles) -> Any:
    """How the threads hold (rows, channels), in loads as wide as can be."""
    shape = tiles.rows, tiles.channels
    return plgpu.Layout.WG_STRIDED(shape, vec_size=_width(tiles))


def load(tiles: Tiles, ref: Any) -> jax.Array:
    """(rows, channels) from shared memory, in float32."""
    value = plgpu.load(ref, layout=layout(tiles), optimized=False)
    return value.astype(jnp.float32)


def zeros(tiles: Tiles) -> jax.Array:
    shape = tiles.rows, tiles.channels
    return plgpu.layout_cast(jnp.zeros(shape, jnp.float32), layout(tiles))


def first_rows(tiles: Tiles, value: jax.Array, number: Any) -> jax.Array:
    """Puts zeros into (rows, channels) after so many rows."""
    row = plgpu.broadcasted_iota(jnp.int32, value.shape, 0, layout=layout(tiles))
    return jnp.where(row < number, value, 0.0)


def for_each_step(tiles: Tiles, chunk: Any, visit: Callable[[Any], None]) -> None:
    """Calls visit with the slice of the positions of each step within a chunk."""

    def body(step, _):
        visit(pl.ds(step * tiles.rows, tiles.rows))
        return ()

    jax.lax.fori_loop(0, _steps(tiles, chunk), body, ())


def sums(tiles: Tiles, chunk: Any, terms: Terms, before: Pair) -> Pair:
    """Adds the sums over the steps of a chunk of two terms.

    Each chunk is summed by itself: sums of few values, and a sum of such, lose less
    than one of many.

    Args:
      tiles: the cut.
      chunk: the chunk's index.
      terms: slice of positions within the chunk -> two arrays of (rows, channels).
      before: what is added to.
    """
    left = _left(tiles, chunk)

    def body(step, parts):
        values = terms(pl.ds(step * tiles.rows, tiles.rows))
        if tiles.shape[1] % tiles.rows:
            there = left - step * tiles.rows
            values = tuple(first_rows(tiles, value, there) for value in values)
        return tuple(p + v for p, v in zip(parts, values, strict=True))

    start = zeros(tiles), zeros(tiles)
    parts = jax.lax.fori_loop(0, _steps(tiles, chunk), body, start)
    first, second = (b + p for b, p in zip(before, parts, strict=True))
    return first, second


def spread_scratch(tiles: Tiles) -> dict[str, Any]:
    """What `over_rows` and `over_groups` move values through."""
    return {"ring": plgpu.SMEM((2 * tiles.lanes,), jnp.float32)}


def over_rows(tiles: Tiles, value: jax.Array, ring: Any) -> jax.Array:
    """Sums (rows, channels) over its rows: (lanes,), every row with the sum."""
    value = spread(tiles, value, ring)
    shift = tiles.channels
    while shift < tiles.lanes:
        value = value + _get(tiles, ring, shift)
        shift *= 2
        value = _put(tiles, value, ring)
    return value


def spread(tiles: Tiles, value: jax.Array, ring: Any) -> jax.Array:
    """(rows, channels) to (lanes,)."""
    return _put(tiles, value.reshape(tiles.lanes), ring)


def over_groups(tiles: Tiles, value: jax.Array, size: int, ring: Any) -> jax.Array:
    """Gives every place of (lanes,) the sum over its group, ``size`` channels.

    In log2(size) steps each place adds what lies 1, 2, 4, ... places further in its
    group, until the first has it all, and in as many hands it back. Nothing crosses a
    group, so that a NaN stays in its own.
    """
    apart = plgpu.Layout.WG_STRIDED((tiles.lanes,), vec_size=1)
    lane = plgpu.broadcasted_iota(jnp.int32, (tiles.lanes,), 0, layout=apart)
    at = jax.lax.rem(lane, jnp.full_like(lane, size))
    step = 1
    while step < size:
        value = _put(tiles, value, ring)
        value = value + jnp.where(at + step < size, _get(tiles, ring, step), 0.0)
        step *= 2
    step = 1
    while step < size:
        value = _put(tiles, value, ring)
        value = jnp.where(at < step, value, _get(tiles, ring, tiles.lanes - step))
        step *= 2
    return value


def to_steps(tiles: Tiles, value: jax.Array, ring: Any) -> jax.Array:
    """(lanes,) to (rows, channels)."""
    _put(tiles, value, ring)
    flat = _get(tiles, ring, 0, _width(tiles))
    return flat.reshape(tiles.rows, tiles.channels)


def store_row(tiles: Tiles, value: jax.Array, ring: Any, target: Any) -> None:
    """Copies the first row of (lanes,) to the GPU's memory, (channels,)."""
    _put(tiles, value, ring)
    plgpu.copy_smem_to_gmem(ring.at[pl.ds(0, tiles.channels)], target)
    plgpu.wait_smem_to_gmem(0)


def group_totals(sums: jax.Array, size: int) -> jax.Array:
    """Gives every channel of (N, C) the sum over its group."""
    n, c = sums.shape
    totals = jnp.sum(sums.reshape(n, c // size, size), -1, keepdims=True)
    return jnp.broadcast_to(totals, (n, c // size, size)).reshape(n, c)


def _put(tiles, value, ring):
    """Lays (lanes,) into the ring twice over, so that it can be read from any place."""
    plgpu.commit_smem()  # until every thread has read what was there
    for start in (0, tiles.lanes):
        ring[pl.ds(start, tiles.lanes)] = value
    plgpu.commit_smem()
    return _get(tiles, ring, 0)


def _get(tiles, ring, shift, width=1):
    held = plgpu.Layout.WG_STRIDED((tiles.lanes,), vec_size=width)
    return plgpu.load(ring.at[pl.ds(shift, tiles.lanes)], layout=held, optimized=False)


def _width(tiles):
    """Neighbouring values of a thread: the widest loads that all can be made of."""
    each = tiles.lanes // THREADS
    return next(width for width in (8, 4, 2, 1) if each % width == 0)


def _left(tiles, chunk):
    """Positions from the start of a chunk to the end."""
    return tiles.shape[1] - chunk * tiles.chunk


def _steps(tiles, chunk):
    left = jnp.clip(_left(tiles, chunk), 0, tiles.chunk)
    return jax.lax.div(left + tiles.rows - 1, tiles.rows)
