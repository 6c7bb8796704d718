"""What the blocks of a cluster tell each other, when one cannot keep a slab alone.

Each lays down its sums in the GPU's memory, or rather in its cache, and fetches those
of all others once all have done so. Copies fetch them: these read nothing that a
multiprocessor may have kept from before. Pallas' barriers of a cluster order the memory
of one block, so that fences stand beside them for that of the GPU (PTX ISA, "Memory
Consistency Model", on scopes and proxies).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import llvm

from flax_gn._pallas._gpu import block, grid
from flax_gn._pallas._gpu.tiles import Tiles
from flax_gn._pallas._interpret import interpreted


def results(tiles: Tiles) -> list[tuple[tuple[int, ...], Any]]:
    """Where the sums of each block go; nowhere if it is alone."""
    return [grid.partial_sums(tiles)] if tiles.told else []


def scratch(tiles: Tiles) -> dict[str, Any]:
    """What `total` fetches them into, and its barriers."""
    if not tiles.told:
        return {}
    shape = 2, tiles.told * tiles.rows, tiles.channels
    return {
        "all_have_told": plgpu.ClusterBarrier(collective_axes=("share",)),
        "told": plgpu.SMEM(shape, jnp.float32),
        "told_are_here": plgpu.Barrier(num_arrivals=2 * tiles.shares),
    }


def total(
    tiles: Tiles,
    place: tuple[Any, Any, Any],
    sums: block.Pair,
    ring: Any,
    partial: Any = None,
    all_have_told: Any = None,
    told: Any = None,
    told_are_here: Any = None,
) -> block.Pair:
    """Adds up two sums over the blocks of a cluster.

    Every block adds up the same numbers in the same order.

    Args:
      tiles: the cut.
      place: of this block; see `grid.place`.
      sums: of this block, (lanes,) each, all rows the same.
      ring: of `block.spread_scratch`.
      partial: reference to the array of `results`.
      all_have_told: of `scratch`, as the next two.
      told: likewise.
      told_are_here: likewise.
    """
    if not tiles.told:
        return sums
    sample, channels, share = place
    for i, value in enumerate(sums):
        block.store_row(tiles, value, ring, partial.at[sample, share, i, channels])
    _fence("fence.acq_rel.cluster;")
    plgpu.barrier_arrive(all_have_told)
    plgpu.barrier_wait(all_have_told)
    _fence("fence.acq_rel.cluster; fence.proxy.async.global;")
    for i in range(2):
        for other in range(tiles.shares):
            plgpu.copy_gmem_to_smem(
                partial.at[sample, other, i, channels],
                told.at[i, other],
                told_are_here,
                oob_mode=plgpu.OOBFillMode.PROMISE_IN_BOUNDS,
            )
    plgpu.barrier_wait(told_are_here)

    def added(i):
        rows = block.zeros(tiles)
        for first in range(0, tiles.shares, tiles.rows):
            value = block.load(tiles, told.at[i, pl.ds(first, tiles.rows)])
            rows += block.first_rows(tiles, value, tiles.shares - first)
        return block.over_rows(tiles, rows, ring)

    return added(0), added(1)


def once(tiles: Tiles, share: Any, store: Callable[[], None]) -> None:
    """Lets one block store what all of them know."""
    if tiles.told:
        pl.when(share == 0)(store)
    else:
        store()


def _fence(ptx: str) -> None:
    """Pallas has no word for it; the simulator's barriers order all memory."""
    if interpreted.value is not None:
        return

    def write(_):
        llvm.inline_asm(ir.Type.parse("!llvm.void"), [], ptx, "", has_side_effects=True)

    plgpu.inline_mgpu()(write)()
