"""What the GPU kernels do with a block: copies, loads, sums, sums over groups.

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

from flax_gn._pallas._gpu.tiles import STAGES, THREADS, Tiles
from flax_gn._pallas._interpret import interpreted

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


def call(
    kernel: Callable[..., None],
    name: str,
    tiles: Tiles,
    arrays: tuple[jax.Array, ...],
    results: list[tuple[tuple[int, ...], Any]],
    scratch: dict[str, Any],
) -> list[jax.Array]:
    """Runs a kernel in a thread block for each sample, column and split.

    Args:
      kernel: of references to the arrays and results in the GPU's memory, and by name
        those of the scratch.
      name: the kernel's, in the compiled program.
      tiles: the cut.
      arrays: what it reads.
      results: shape and dtype of each array that it writes.
      scratch: memory and barriers of a block.
    """
    # In a shard_map: every device has a result of its own.
    varying = jax.typeof(arrays[0]).manual_axis_type
    interpreter = interpreted.value
    blocks = tiles.shape[0] * tiles.columns * max(1, tiles.splits)
    return plgpu.kernel(
        kernel,
        out_type=[
            jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=varying)
            for shape, dtype in results
        ],
        scratch_types=scratch,
        grid=(blocks,),
        grid_names=("block",),
        interpret=False if interpreter is None else interpreter.params,
        kernel_name=name,
    )(*arrays)


def place(tiles: Tiles) -> tuple[Any, Any, Any]:
    """The sample, the slice of channels and the split of this block."""
    block = jax.lax.axis_index("block")
    splits = max(1, tiles.splits)
    rest, split = jax.lax.div(block, splits), jax.lax.rem(block, splits)
    column = jax.lax.rem(rest, tiles.columns)
    channels = pl.ds(column * tiles.channels, tiles.channels)
    return jax.lax.div(rest, tiles.columns), channels, split


def coefficients_scratch(tiles: Tiles, number: int) -> dict[str, Any]:
    """What `fetch_coefficients` fills, and its barrier."""
    shape = number, tiles.rows, tiles.channels
    copies = number * tiles.rows
    return {
        "rows": plgpu.SMEM(shape, jnp.float32),
        "rows_are_here": plgpu.Barrier(num_arrivals=copies),
    }


def fetch_coefficients(tiles: Tiles, sources: Any, rows: Any, barrier: Any) -> None:
    """Repeats rows of coefficients, (channels,) each, for the positions of a step.

    Args:
      tiles: the cut.
      sources: references to the rows, in the GPU's memory.
      rows: reference to (number, rows, channels).
      barrier: of `coefficients_scratch`; what is fetched is there when it was passed.
    """

    @pl.loop(0, tiles.rows)
    def _(row):
        for i, source in enumerate(sources):
            plgpu.copy_gmem_to_smem(source, rows.at[i, row], barrier)


def fetch_slab(tiles: Tiles, source: Any, slab: Any, barriers: Any) -> None:
    """Starts the copies of all positions; each chunk has a barrier.

    Args:
      tiles: the cut.
      source: reference to (L, channels), in the GPU's memory.
      slab: reference to as many, or more up to a whole chunk.
      barriers: of the chunks.
    """

    @pl.loop(0, tiles.chunks)
    def _(chunk):
        at = pl.ds(chunk * tiles.chunk, tiles.chunk)
        plgpu.copy_gmem_to_smem(source.at[at], slab.at[at], barriers.at[chunk])


def stream_sums(
    tiles: Tiles,
    sample: Any,
    channels: Any,
    split: Any,
    add: Callable[..., Pair],
    *sources: Any,
) -> Pair:
    """Sums two terms over the positions of this block, as they come in.

    Args:
      tiles: the cut.
      sample, channels, split: of `place`.
      add: (chunk's index, the chunk of each source, sums) -> sums.
      *sources: references to (N, L, C), in the GPU's memory.
    """

    def body(indices, *refs_and_sums):
        *refs, before = refs_and_sums
        chunk = split * tiles.per_split + indices[0]
        return add(chunk, *(ref.at[0] for ref in refs), before)

    spec = _chunk_spec(tiles, sample, channels, split)
    return plgpu.emit_pipeline(
        body,
        grid=(tiles.per_split,),
        in_specs=[spec for _ in sources],
        max_concurrent_steps=STAGES,
        init_carry=(zeros(tiles), zeros(tiles)),
    )(*sources)


def stream(
    tiles: Tiles,
    sample: Any,
    channels: Any,
    split: Any,
    write: Callable[..., None],
    sources: tuple[Any, ...],
    result: Any,
    buffers: Any,
) -> None:
    """Writes the positions of this block, as what they are made of comes in.

    Args:
      tiles: the cut.
      sample, channels, split: of `place`.
      write: (chunk's index, the chunk of each source, that of the result) -> None.
      sources: references to (N, L, C), in the GPU's memory.
      result: likewise.
      buffers: of `stream_scratch`.
    """

    def body(indices, *refs):
        chunk = split * tiles.per_split + indices[0]
        buffer = buffers.at[jax.lax.rem(indices[0], STAGES)]
        plgpu.wait_smem_to_gmem(STAGES - 1, wait_read_only=True)
        write(chunk, *(ref.at[0] for ref in refs), buffer)
        plgpu.commit_smem()
        at = pl.ds(chunk * tiles.chunk, tiles.chunk)
        plgpu.copy_smem_to_gmem(buffer, result.at[sample, at, channels])

    spec = _chunk_spec(tiles, sample, channels, split)
    plgpu.emit_pipeline(
        body,
        grid=(tiles.per_split,),
        in_specs=[spec for _ in sources],
        max_concurrent_steps=STAGES,
    )(*sources)
    plgpu.wait_smem_to_gmem(0)


def stream_scratch(tiles: Tiles, dtype: Any) -> dict[str, Any]:
    """What is on its way to the GPU's memory."""
    shape = STAGES, tiles.chunk, tiles.channels
    return {"buffers": plgpu.SMEM(shape, dtype)}


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
            row = plgpu.broadcasted_iota(
                jnp.int32, values[0].shape, 0, layout=layout(tiles)
            )
            there = row < left - step * tiles.rows
            values = tuple(jnp.where(there, value, 0.0) for value in values)
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


def partial_sums(tiles: Tiles) -> tuple[tuple[int, ...], Any]:
    """Two sums per sample, split and channel."""
    n, _, c = tiles.shape
    return (n, tiles.splits, 2, c), jnp.float32


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


def _chunk_spec(tiles, sample, channels, split):
    column = jax.lax.div(channels.start, tiles.channels)
    return plgpu.BlockSpec(
        (1, tiles.chunk, tiles.channels),
        lambda step: (sample, split * tiles.per_split + step, column),
    )


def _left(tiles, chunk):
    """Positions from the start of a chunk to the end."""
    return tiles.shape[1] - chunk * tiles.chunk


def _steps(tiles, chunk):
    left = jnp.clip(_left(tiles, chunk), 0, tiles.chunk)
    return jax.lax.div(left + tiles.rows - 1, tiles.rows)
