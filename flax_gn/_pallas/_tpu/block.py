"""What the TPU kernels do with a block in VMEM: loop over chunks, sum, fold groups."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from flax_gn._pallas._tpu.tiles import SUBLANES, Tiles

Slice = Any


def whole_chunks(tiles: Tiles, block: Any) -> Any:
    """How many whole chunks the block with this index along L has."""
    left = (tiles.shape[1] - block * tiles.positions) // tiles.chunk
    if tiles.blocks == 1:
        return left
    return jnp.minimum(tiles.positions // tiles.chunk, left)


def for_each_chunk(tiles: Tiles, block: Any, visit: Callable[[Slice], None]) -> None:
    """Calls visit with the slice of every chunk, and of the tail."""

    def body(i, _):
        visit(_chunk(tiles, i))
        return ()

    jax.lax.fori_loop(0, whole_chunks(tiles, block), body, ())
    _in_last_block(tiles, block, visit)


def add_sums(
    tiles: Tiles,
    block: Any,
    terms: Callable[[Slice], tuple[jax.Array, jax.Array]],
    sums: Any,
    sample: Any,
) -> None:
    """Adds the sums over a block's positions of two terms to a row of ``sums``.

    Args:
      tiles: the cut.
      block: the block's index along L.
      terms: slice of a chunk -> two float32 arrays of the chunk's shape.
      sums: reference to (2, samples, lanes).
      sample: which row.
    """
    row = pl.ds(sample, 1)

    def store(parts):
        for i, part in enumerate(parts):
            total = jnp.sum(part, 0, keepdims=True)
            sums[i, row, : tiles.channels] += total

    def body(i, parts):
        values = terms(_chunk(tiles, i))
        return tuple(p + _fold_rows(v) for p, v in zip(parts, values, strict=True))

    rows = _rows(tiles)
    if rows:
        zero = jnp.zeros((rows, tiles.channels), jnp.float32)
        store(jax.lax.fori_loop(0, whole_chunks(tiles, block), body, (zero, zero)))
    _in_last_block(tiles, block, lambda tail: store(map(_fold_rows, terms(tail))))


def across(tiles: Tiles, row: jax.Array) -> jax.Array:
    """A row of values per channel, (1, channels), in the rank of a chunk."""
    return row.reshape((1,) * (len(tiles.shape) - 2) + row.shape[-1:])


def to_groups(value: jax.Array, size: int) -> jax.Array:
    """Gives every channel the sum over its group: (samples, lanes), float32.

    Channels lie across the lanes of a register. In log2(size) steps each lane adds
    what lies 1, 2, 4, ... lanes further in its group, until the first has it all, and
    in as many hands it back. Nothing crosses a group, so that a NaN stays in its own;
    a product with a matrix of zeros and ones would spread it.
    """
    lanes = value.shape[-1]
    lane = jax.lax.broadcasted_iota(jnp.int32, value.shape, 1).astype(jnp.float32)
    place = lane - size * jnp.floor((lane + 0.5) * (1 / size))
    step = 1
    while step < size:
        further = pltpu.roll(value, lanes - step, 1)
        value = value + jnp.where(place + step < size, further, 0)
        step *= 2
    step = 1
    while step < size:
        value = jnp.where(place < step, value, pltpu.roll(value, step, 1))
        step *= 2
    return value


def _chunk(tiles, i):
    return pl.ds(pl.multiple_of(i * tiles.chunk, tiles.chunk), tiles.chunk)


def _in_last_block(tiles, block, visit):
    if not tiles.tail:
        return
    last = tiles.blocks - 1
    start = tiles.shape[1] - tiles.tail - last * tiles.positions
    if last == 0:
        visit(pl.ds(start, tiles.tail))
    else:
        pl.when(block == last)(lambda: visit(pl.ds(start, tiles.tail)))


def _rows(tiles):
    """Rows that a chunk's sum is kept in; 0 if there is no whole chunk."""
    if tiles.shape[1] < tiles.chunk:
        return 0
    if len(tiles.shape) == 4:
        return tiles.shape[2]
    return SUBLANES if tiles.chunk % SUBLANES == 0 else 1


def _fold_rows(value):
    """A chunk's sum but for the rows of a tile, or of the view: adds no lanes' rows.

    Rows of one register are added at the end, once; that takes shuffles.
    """
    if value.ndim == 3:
        return jnp.sum(value, 0)
    rows, channels = value.shape
    if rows % SUBLANES:
        return jnp.sum(value, 0, keepdims=True)
    return jnp.sum(value.reshape(rows // SUBLANES, SUBLANES, channels), 0)
