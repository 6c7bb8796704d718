"""The backward kernels for a TPU.

One read. The slabs of x and dy stay in VMEM between the sums and dx::

    HBM    x, dy ━━━┓                                          ┏━━━▶ dx
    VMEM            ┗▶ slabs ──▶ sums of dz, dz * x_hat ──▶ slabs
                         └─────────── again ────────────────▲

Two reads. Blocks of both go through VMEM twice, the second time in reverse::

    HBM    x, dy ━━ 0, 1, ..., T-1 ━━┓   ┏━━━━ T-1 (kept), ..., 1, 0 ━━▶ dx
    VMEM                             ┗▶ sums

Groups that devices split are summed by one kernel; another writes dx once the devices
have shared their sums.

Nothing else is kept from the forward pass: x_hat, and with an activation its argument z
and dz, are formed again from x wherever they are needed.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from flax_gn._pallas._activation import pull
from flax_gn._pallas._tpu import block as blocks
from flax_gn._pallas._tpu import grid, words
from flax_gn._pallas._tpu.grid import Pass
from flax_gn._pallas._tpu.tiles import Tiles
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
      x: in the view of the cut.
      dy: in the view of the cut.
      coefficients: (N, 5, C), float32: pilot, rstd, offset, gamma, beta.

    Returns:
      dx, of x's shape and dtype, and (N, 2, C), float32: the sums of dz and of
      dz * x_hat over each sample's positions.
    """

    def kernel(x, dy, coefficients, dx, totals, sums):
        block, read = grid.place(tiles)
        of_chunk = _cotangents(problem, tiles, x, dy, coefficients)
        _sum(tiles, block, read, of_chunk, totals, sums)
        _average(problem, tiles, read, coefficients, sums)

        def means(sample):
            return (sums[i, pl.ds(sample, 1), : tiles.channels] for i in (DZ, DZ_X_HAT))

        _write(tiles, block, read, of_chunk, coefficients, means, dx)

    dx, totals = grid.call(
        kernel, "group_norm_backward", tiles, (x, dy), (coefficients,), x.dtype
    )
    return dx, totals


def gradient_sums(
    problem: Problem,
    tiles: Tiles,
    x: jax.Array,
    dy: jax.Array,
    coefficients: jax.Array,
) -> jax.Array:
    """The second result of `backward`, alone."""

    def kernel(x, dy, coefficients, totals, sums):
        block, read = grid.place(tiles, Pass.SUMS)
        of_chunk = _cotangents(problem, tiles, x, dy, coefficients)
        _sum(tiles, block, read, of_chunk, totals, sums)

    name = "group_norm_gradient_sums"
    (totals,) = grid.call(
        kernel, name, tiles, (x, dy), (coefficients,), None, what=Pass.SUMS
    )
    return totals


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
      x: in the view of the cut.
      dy: in the view of the cut.
      coefficients: (N, 5, C), float32.
      means: (N, 2, C), float32: rstd * <g> and rstd * <x_hat * g>.
    """

    def kernel(x, dy, coefficients, means, dx):
        block, read = grid.place(tiles, Pass.WRITES)
        of_chunk = _cotangents(problem, tiles, x, dy, coefficients)

        def of_sample(sample):
            return (means[sample, pl.ds(i, 1)] for i in (DZ, DZ_X_HAT))

        _write(tiles, block, read, of_chunk, coefficients, of_sample, dx)

    rows = coefficients, means
    name = "group_norm_gradient"
    (dx,) = grid.call(kernel, name, tiles, (x, dy), rows, x.dtype, what=Pass.WRITES)
    return dx


def _cotangents(problem, tiles, x, dy, coefficients):
    """Sample -> slice of a chunk -> dz, x_hat."""

    def of_sample(sample):
        pilot, rstd, offset, gamma, beta = (
            blocks.across(tiles, coefficients[sample, pl.ds(i, 1)])
            for i in (PILOT, RSTD, OFFSET, GAMMA, BETA)
        )

        def of_chunk(chunk):
            x_hat = (x[sample, chunk].astype(jnp.float32) - pilot) * rstd + offset
            dz = dy[sample, chunk].astype(jnp.float32)
            z = x_hat * gamma + beta
            return pull(problem.activation, words.of(x.dtype), z, dz), x_hat

        return of_chunk

    return of_sample


def _slope(coefficients, sample):
    """How z grows with x, per channel."""
    rstd, gamma = (coefficients[sample, pl.ds(i, 1)] for i in (RSTD, GAMMA))
    return rstd * gamma


def _sum(tiles, block, read, cotangents, totals, sums):
    @read.first
    def _():
        sums[...] = jnp.zeros(sums.shape, sums.dtype)

    @read.sums
    def _():
        @grid.for_each_sample(tiles)
        def _(sample):
            of_chunk = cotangents(sample)

            def terms(chunk):
                dz, x_hat = of_chunk(chunk)
                return dz, dz * x_hat

            blocks.add_sums(tiles, block, terms, sums, sample)

    @read.turn
    def _():
        @grid.for_each_sample(tiles)
        def _(sample):
            for i in (DZ, DZ_X_HAT):
                row = sums[i, pl.ds(sample, 1), : tiles.channels]
                totals[sample, pl.ds(i, 1)] = row


def _average(problem, tiles, read, coefficients, sums):
    """Replaces the sums by the means over groups, as `gradient` takes them."""

    @read.turn
    def _():
        size = tiles.shape[-1] // problem.groups
        count = size * grid.positions(tiles)

        @grid.for_each_sample(tiles)
        def _(sample):
            for i in (DZ, DZ_X_HAT):
                at = i, pl.ds(sample, 1), slice(tiles.channels)
                sums[at] *= _slope(coefficients, sample)

        for i in (DZ, DZ_X_HAT):
            sums[i] = blocks.to_groups(sums[i], size) / count


def _write(tiles, block, read, cotangents, coefficients, means, dx):
    @read.writes
    def _():
        @grid.for_each_sample(tiles)
        def _(sample):
            of_chunk = cotangents(sample)
            slope, mean, mean_x_hat = (
                blocks.across(tiles, row)
                for row in (_slope(coefficients, sample), *means(sample))
            )

            def write(chunk):
                dz, x_hat = of_chunk(chunk)
                result = slope * dz - mean - x_hat * mean_x_hat
                dx[sample, chunk] = result.astype(dx.dtype)

            blocks.for_each_chunk(tiles, block, write)
