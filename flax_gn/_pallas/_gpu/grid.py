"""The thread blocks of the GPU kernels, and the copies that they start."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from flax_gn._pallas._gpu import block
from flax_gn._pallas._gpu.tiles import STAGES, Tiles
from flax_gn._pallas._interpret import interpreted


def call(
    kernel: Callable[..., None],
    name: str,
    tiles: Tiles,
    arrays: tuple[jax.Array, ...],
    results: list[tuple[tuple[int, ...], Any]],
    scratch: dict[str, Any],
) -> list[jax.Array]:
    """Runs a kernel in a thread block for each sample, column and share.

    Args:
      kernel: of references to the arrays and results in the GPU's memory, and by name
        those of the scratch.
      name: the kernel's, in the compiled program.
      tiles: the cut.
      arrays: what it reads.
      results: shape and dtype of each array that it writes.
      scratch: memory and barriers of a block.
    """
    interpreter = interpreted.value
    clustered = tiles.kept and tiles.shares > 1
    made = plgpu.kernel(
        kernel,
        out_type=[jax.ShapeDtypeStruct(*described) for described in results],
        scratch_types=scratch,
        grid=(tiles.blocks // tiles.shares if clustered else tiles.blocks,),
        grid_names=("block",),
        cluster=(tiles.shares,) if clustered else (),
        cluster_names=("share",) if clustered else (),
        interpret=False if interpreter is None else interpreter.params,
        kernel_name=name,
    )(*arrays)
    # In a shard_map every device has results of its own, which Pallas does not say.
    varying = jax.typeof(arrays[0]).manual_axis_type.varying
    return [
        jax.lax.pcast(result, tuple(varying), to="varying") if varying else result
        for result in made
    ]


def place(tiles: Tiles) -> tuple[Any, Any, Any]:
    """The sample, the slice of channels and the share of this block."""
    rest, share = jax.lax.axis_index("block"), 0
    if tiles.shares > 1 and tiles.kept:
        share = jax.lax.axis_index("share")
    elif tiles.shares > 1:
        share = jax.lax.rem(rest, tiles.shares)
        rest = jax.lax.div(rest, tiles.shares)
    column = jax.lax.rem(rest, tiles.columns)
    channels = pl.ds(column * tiles.channels, tiles.channels)
    return jax.lax.div(rest, tiles.columns), channels, share


def chunks_here(tiles: Tiles, share: Any) -> Any:
    """How many chunks this block has; its first is ``share * tiles.per_block``."""
    if tiles.shares == 1:
        return tiles.chunks
    return jnp.clip(tiles.chunks - share * tiles.per_block, 0, tiles.per_block)


def partial_sums(tiles: Tiles) -> tuple[tuple[int, ...], Any]:
    """Two sums per sample, share and channel."""
    n, _, c = tiles.shape
    return (n, tiles.shares, 2, c), jnp.float32


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
            # Nothing outside of the row is asked for. Otherwise this would be a copy of
            # another kind, whose target has to start at a multiple of 128 bytes.
            plgpu.copy_gmem_to_smem(
                source,
                rows.at[i, row],
                barrier,
                oob_mode=plgpu.OOBFillMode.PROMISE_IN_BOUNDS,
            )


def fetch_slab(tiles: Tiles, share: Any, source: Any, slab: Any, barriers: Any) -> None:
    """Starts the copies of this block's positions; each chunk has a barrier.

    Args:
      tiles: the cut.
      share: of this block.
      source: reference to (L, channels), in the GPU's memory.
      slab: reference to those of a block, or more up to whole chunks.
      barriers: of the chunks.
    """

    @pl.loop(0, chunks_here(tiles, share))
    def _(chunk):
        start = (share * tiles.per_block + chunk) * tiles.chunk
        plgpu.copy_gmem_to_smem(
            source.at[pl.ds(start, tiles.chunk)],
            slab.at[pl.ds(chunk * tiles.chunk, tiles.chunk)],
            barriers.at[chunk],
        )


def store_chunk(tiles: Tiles, chunk: Any, source: Any, target: Any) -> None:
    """Starts the copy of those positions of a chunk that there are.

    A copy of more would be cut off at the end of the sample only where its rows are not
    next to each other in memory; where they are it would go on into the next sample.

    Args:
      tiles: the cut.
      chunk: the chunk's index, which may be past the last one.
      source: reference to (chunk, channels), in shared memory.
      target: reference to (L, channels), in the GPU's memory.
    """
    tail = tiles.shape[1] % tiles.chunk
    whole = tiles.shape[1] // tiles.chunk
    start = chunk * tiles.chunk

    def store(positions):
        part = source.at[pl.ds(0, positions)]
        plgpu.copy_smem_to_gmem(part, target.at[pl.ds(start, positions)])

    if whole:
        pl.when(chunk < whole)(lambda: store(tiles.chunk))
    if tail:
        pl.when(chunk == whole)(lambda: store(tail))


def stream_sums(
    tiles: Tiles,
    sample: Any,
    channels: Any,
    share: Any,
    add: Callable[..., block.Pair],
    *sources: Any,
) -> block.Pair:
    """Sums two terms over the positions of this block, as they come in.

    Args:
      tiles: the cut.
      sample: of this block, as the next two; see `place`.
      channels: which it has.
      share: which it is.
      add: (chunk's index, the chunk of each source, sums) -> sums.
      *sources: references to (N, L, C), in the GPU's memory.
    """

    def body(indices, *refs_and_sums):
        *refs, before = refs_and_sums
        chunk = share * tiles.per_block + indices[0]
        after = add(chunk, *(ref.at[0] for ref in refs), before)
        # The next copy goes where every thread has to have read.
        plgpu.commit_smem()
        return after

    spec = _chunk_spec(tiles, sample, channels, share)
    return plgpu.emit_pipeline(
        body,
        grid=(tiles.per_block,),
        in_specs=[spec for _ in sources],
        max_concurrent_steps=STAGES,
        init_carry=(block.zeros(tiles), block.zeros(tiles)),
    )(*sources)


def stream(
    tiles: Tiles,
    sample: Any,
    channels: Any,
    share: Any,
    write: Callable[..., None],
    sources: tuple[Any, ...],
    result: Any,
    buffers: Any,
) -> None:
    """Writes the positions of this block, as what they are made of comes in.

    Args:
      tiles: the cut.
      sample: of this block, as the next two; see `place`.
      channels: which it has.
      share: which it is.
      write: (chunk's index, the chunk of each source, that of the result) -> None.
      sources: references to (N, L, C), in the GPU's memory.
      result: likewise.
      buffers: of `stream_scratch`.
    """

    def body(indices, *refs):
        chunk = share * tiles.per_block + indices[0]
        buffer = buffers.at[jax.lax.rem(indices[0], STAGES)]
        plgpu.wait_smem_to_gmem(STAGES - 1, wait_read_only=True)
        write(chunk, *(ref.at[0] for ref in refs), buffer)
        plgpu.commit_smem()
        store_chunk(tiles, chunk, buffer, result.at[sample, :, channels])

    spec = _chunk_spec(tiles, sample, channels, share)
    plgpu.emit_pipeline(
        body,
        grid=(tiles.per_block,),
        in_specs=[spec for _ in sources],
        max_concurrent_steps=STAGES,
    )(*sources)
    plgpu.wait_smem_to_gmem(0)


def stream_scratch(tiles: Tiles, dtype: Any) -> dict[str, Any]:
    """What is on its way to the GPU's memory."""
    shape = STAGES, tiles.chunk, tiles.channels
    return {"buffers": plgpu.SMEM(shape, dtype)}


def _chunk_spec(tiles, sample, channels, share):
    column = jax.lax.div(channels.start, tiles.channels)
    return plgpu.BlockSpec(
        (1, tiles.chunk, tiles.channels),
        lambda step: (sample, share * tiles.per_block + step, column),
    )
