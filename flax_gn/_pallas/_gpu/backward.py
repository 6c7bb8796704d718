"""The backward kernels for a GPU.

One read. The slabs of x and dy stay in shared memory between the sums and dx: of a
block, or of a cluster, whose blocks tell each other what they summed::

    HBM      x, dy ━━━┓                                          ┏━━━▶ dx
    shared            ┗▶ slabs ──▶ sums of dz, dz * x_hat ──▶ slabs
                           └─────────── again ────────────────▲

Two reads. Chunks of both go through shared memory twice, by two kernels; several blocks
share the positions, and what each summed is added up in between, in their order::

    HBM      x, dy ━━ 0, 1, ... ━━┓         ┏━▶ sums ━━▶ means ━━━━┓
    shared                        ┗▶ sums ━━┛                      ▼
    HBM      x, dy ━━ 0, 1, ... ━━━━━━━━━━━━━━━━━━━━━━━━━━━━▶ chunks ━━▶ dx

Nothing else is kept from the forward pass: x_hat, and with an activation its argument z
and dz, are formed again from x wherever they are needed.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from flax_gn._pallas._activation import pull
from flax_gn._pallas._gpu import block, cluster, grid
from flax_gn._pallas._gpu.tiles import Tiles
from flax_gn._pallas._gpu.words import WORDS
from flax_gn._problem import Problem

PILOT, RSTD, OFFSET, GAMMA, BETA = range(5)
DZ, DZ_X_HAT = range(2)


def backward(
    problem: Problem,
    tiles: Tiles,
    x: jax.Array,
    dy: jax.Array,
    coefficients: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The cotangent of x, and the sums that those of beta and gamma are made of.

    dx = rstd * (g - <g> - x_hat * <x_hat * g>) with g = gamma * dz, <.> the mean over a
    group and x_hat = (x - pilot) * rstd + offset.

    Args:
      problem: groups and activation are used.
      tiles: the cut.
      x: (N, L, C).
      dy: (N, L, C).
      coefficients: (N, 5, C), float32: pilot, rstd, offset, gamma, beta.

    Returns:
      dx, of x's shape and dtype, and (N, 2, C), float32: the sums of dz and of
      dz * x_hat over each sample's positions.
    """
    if not tiles.kept:
        totals = gradient_sums(problem, tiles, x, dy, coefficients)
        size = tiles.shape[-1] // problem.groups
        slope = coefficients[:, RSTD] * coefficients[:, GAMMA]
        means = jnp.stack(
            [
                block.group_totals(slope * totals[:, i], size) / (size * tiles.shape[1])
                for i in (DZ, DZ_X_HAT)
            ],
            1,
        )
        return gradient(problem, tiles, x, dy, coefficients, means), totals

    def kernel(*refs, **scratch):
        _keep(problem, tiles, *refs, **scratch)

    n, _, c = tiles.shape
    slab = tiles.per_block * tiles.chunk, tiles.channels
    results = [(tiles.shape, x.dtype), ((n, 2, c), jnp.float32)]
    dx, totals, *_ = grid.call(
        kernel,
        "group_norm_backward",
        tiles,
        (x, dy, coefficients),
        results + cluster.results(tiles),
        {
            "slab": plgpu.SMEM(slab, x.dtype),
            "dy_slab": plgpu.SMEM(slab, dy.dtype),
            "chunk_is_here": plgpu.Barrier(
                num_arrivals=2, num_barriers=tiles.per_block
            ),
            **grid.coefficients_scratch(tiles, 5),
            **cluster.scratch(tiles),
            **block.spread_scratch(tiles),
        },
    )
    return dx, totals


def _keep(
    problem,
    tiles,
    x,
    dy,
    coefficients,
    dx,
    totals,
    *partial,
    slab,
    dy_slab,
    chunk_is_here,
    rows,
    rows_are_here,
    ring,
    **told,
):
    sample, channels, share = place = grid.place(tiles)
    here, first = grid.chunks_here(tiles, share), share * tiles.per_block
    grid.fetch_slab(tiles, share, x.at[sample, :, channels], slab, chunk_is_here)
    grid.fetch_slab(tiles, share, dy.at[sample, :, channels], dy_slab, chunk_is_here)
    cotangents = _cotangents(problem, tiles, sample, channels, coefficients, rows)
    of_step = cotangents(rows_are_here)

    def add(chunk, before):
        plgpu.barrier_wait(chunk_is_here.at[chunk])
        at = pl.ds(chunk * tiles.chunk, tiles.chunk)

        def terms(step):
            dz, x_hat = of_step(slab.at[at].at[step], dy_slab.at[at].at[step])
            return dz, dz * x_hat

        return block.sums(tiles, first + chunk, terms, before)

    zeros = block.zeros(tiles), block.zeros(tiles)
    added = jax.lax.fori_loop(0, here, add, zeros)
    sums = (
        block.over_rows(tiles, added[0], ring),
        block.over_rows(tiles, added[1], ring),
    )
    sums = cluster.total(tiles, place, sums, ring, *partial, **told)

    def store():
        for i, value in enumerate(sums):
            block.store_row(tiles, value, ring, totals.at[sample, i, channels])

    cluster.once(tiles, share, store)
    size = tiles.shape[-1] // problem.groups
    count = size * tiles.shape[1]
    slope = block.load(tiles, rows.at[RSTD]) * block.load(tiles, rows.at[GAMMA])
    means = []
    for total in sums:
        weighted = slope * block.to_steps(tiles, total, ring)
        flat = block.spread(tiles, weighted, ring)
        mean = block.over_groups(tiles, flat, size, ring) / count
        means.append(block.to_steps(tiles, mean, ring))
    write = _writer(tiles, of_step, slope, means)

    @pl.loop(0, here)
    def _(chunk):
        at = pl.ds(chunk * tiles.chunk, tiles.chunk)
        write(first + chunk, slab.at[at], dy_slab.at[at], slab.at[at])
        plgpu.commit_smem()
        grid.store_chunk(tiles, first + chunk, slab.at[at], dx.at[sample, :, channels])

    plgpu.wait_smem_to_gmem(0)


def gradient_sums(
    problem: Problem,
    tiles: Tiles,
    x: jax.Array,
    dy: jax.Array,
    coefficients: jax.Array,
) -> jax.Array:
    """The second result of `backward`, alone."""

    def kernel(x, dy, coefficients, partial, *, rows, rows_are_here, ring):
        sample, channels, share = grid.place(tiles)
        cotangents = _cotangents(problem, tiles, sample, channels, coefficients, rows)
        of_step = cotangents(rows_are_here)

        def add(chunk, x, dy, before):
            def terms(step):
                dz, x_hat = of_step(x.at[step], dy.at[step])
                return dz, dz * x_hat

            return block.sums(tiles, chunk, terms, before)

        totals = grid.stream_sums(tiles, sample, channels, share, add, x, dy)
        for i, total in enumerate(totals):
            value = block.over_rows(tiles, total, ring)
            block.store_row(tiles, value, ring, partial.at[sample, share, i, channels])

    sums = grid.call(
        kernel,
        "group_norm_gradient_sums",
        tiles,
        (x, dy, coefficients),
        [grid.partial_sums(tiles)],
        {**grid.coefficients_scratch(tiles, 5), **block.spread_scratch(tiles)},
    )[0]
    return jnp.sum(sums, 1)


def gradient(
    problem: Problem,
    tiles: Tiles,
    x: jax.Array,
    dy: jax.Array,
    coefficients: jax.Array,
    means: jax.Array,
) -> jax.Array:
    """The first result of `backward`, from the means it takes of its sums.

    Args:
      problem: groups and activation are used.
      tiles: the cut.
      x: (N, L, C).
      dy: (N, L, C).
      coefficients: (N, 5, C), float32.
      means: (N, 2, C), float32: rstd * <g> and rstd * <x_hat * g>.
    """

    def kernel(x, dy, coefficients, dx, *, rows, rows_are_here, buffers):
        sample, channels, share = grid.place(tiles)
        cotangents = _cotangents(problem, tiles, sample, channels, coefficients, rows)
        of_step = cotangents(rows_are_here)
        slope = block.load(tiles, rows.at[RSTD]) * block.load(tiles, rows.at[GAMMA])
        means = [block.load(tiles, rows.at[5 + i]) for i in (DZ, DZ_X_HAT)]
        write = _writer(tiles, of_step, slope, means)
        grid.stream(tiles, sample, channels, share, write, (x, dy), dx, buffers)

    return grid.call(
        kernel,
        "group_norm_gradient",
        tiles,
        (x, dy, jnp.concatenate([coefficients, means], 1)),
        [(tiles.shape, x.dtype)],
        {
            **grid.coefficients_scratch(tiles, 7),
            **grid.stream_scratch(tiles, x.dtype),
        },
    )[0]


def _cotangents(problem, tiles, sample, channels, coefficients, rows):
    """Barrier -> references to a step of x and dy -> dz, x_hat."""

    def wait(rows_are_here):
        number = rows.shape[0]
        sources = [coefficients.at[sample, i, channels] for i in range(number)]
        grid.fetch_coefficients(tiles, sources, rows, rows_are_here)
        plgpu.barrier_wait(rows_are_here)
        pilot, rstd, offset, gamma, beta = (
            block.load(tiles, rows.at[i]) for i in (PILOT, RSTD, OFFSET, GAMMA, BETA)
        )

        def of_step(x, dy):
            x_hat = (block.load(tiles, x) - pilot) * rstd + offset
            dz = block.load(tiles, dy)
            return pull(problem.activation, WORDS, x_hat * gamma + beta, dz), x_hat

        return of_step

    return wait


def _writer(tiles, of_step, slope, means):
    """(chunk's index, x, dy, dx) -> None: writes a chunk of dx."""
    mean, mean_x_hat = means

    def write(chunk, x, dy, dx):
        def step(at):
            dz, x_hat = of_step(x.at[at], dy.at[at])
            dx[at] = (slope * dz - mean - x_hat * mean_x_hat).astype(dx.dtype)

        block.for_each_step(tiles, chunk, step)

    return write
