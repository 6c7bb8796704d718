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

Nothing else is kept from the forward pass: with an activation its argument z and dz are
formed again from x. The loop that sums holds dz for the one that writes, where VMEM has
room for a slab in float32.

The loops have x - pilot where dx has x_hat: what is the same for a channel is put right
once, in the sums and in the factors, and not in every place.
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

PILOT = 0
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

    def kernel(x, dy, coefficients, dx, totals, sums, held=None):
        block, read = grid.place(tiles)
        of_chunk = _cotangents(problem, tiles, x, dy, coefficients)
        _sum(tiles, block, read, of_chunk, coefficients, totals, sums, held)
        _average(problem, tiles, read, coefficients, sums)
        if held is not None:
            of_chunk = _held(tiles, x, held, coefficients)

        def means(sample):
            return (sums[i, pl.ds(sample, 1), : tiles.channels] for i in (DZ, DZ_X_HAT))

        _write(tiles, block, read, of_chunk, coefficients, means, dx)

    dx, totals = grid.call(
        kernel,
        "group_norm_backward",
        tiles,
        (x, dy),
        (coefficients,),
        x.dtype,
        hold=_holds(problem, tiles),
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
        _sum(tiles, block, read, of_chunk, coefficients, totals, sums)

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
    """Sample -> slice of a chunk -> dz, x - pilot."""

    def of_sample(sample):
        pilot, rstd, offset, gamma, beta = _rows(coefficients, sample)
        slope, constant = rstd * gamma, offset * gamma + beta
        pilot, slope, constant = (
            blocks.across(tiles, row) for row in (pilot, slope, constant)
        )

        def of_chunk(chunk):
            centred = x[sample, chunk].astype(jnp.float32) - pilot
            dz = dy[sample, chunk].astype(jnp.float32)
            z = centred * slope + constant
            return pull(problem.activation, words.of(x.dtype), z, dz), centred

        return of_chunk

    return of_sample


def _holds(problem, tiles):
    """Whether dz is held between the two loops over a slab.

    To form it again is most of the second one where there is an activation.
    """
    once = tiles.blocks == 1
    return problem.activation is not None and once and tiles.holding_bytes > 0


def _held(tiles, x, held, coefficients):
    """As `_cotangents`, of the dz that `_sum` has held."""

    def of_sample(sample):
        pilot = blocks.across(tiles, coefficients[sample, pl.ds(PILOT, 1)])

        def of_chunk(chunk):
            return held[sample, chunk], x[sample, chunk].astype(jnp.float32) - pilot

        return of_chunk

    return of_sample


def _rows(coefficients, sample):
    """Pilot, rstd, offset, gamma and beta, (1, channels) each."""
    return (coefficients[sample, pl.ds(i, 1)] for i in range(5))


def _sum(tiles, block, read, cotangents, coefficients, totals, sums, held=None):
    @read.first
    def _():
        sums[...] = jnp.zeros(sums.shape, sums.dtype)

    @read.sums
    def _():
        @grid.for_each_sample(tiles)
        def _(sample):
            of_chunk = cotangents(sample)

            def terms(chunk):
                dz, centred = of_chunk(chunk)
                if held is not None:
                    held[sample, chunk] = dz
                return dz, dz * centred

            blocks.add_sums(tiles, block, terms, sums, sample)

    @read.turn
    def _():
        @grid.for_each_sample(tiles)
        def _(sample):
            dz, dz_centred = (
                sums[i, pl.ds(sample, 1), : tiles.channels] for i in (DZ, DZ_X_HAT)
            )
            _, rstd, offset, *_ = _rows(coefficients, sample)
            dz_x_hat = dz_centred * rstd + dz * offset
            sums[DZ_X_HAT, pl.ds(sample, 1), : tiles.channels] = dz_x_hat
            totals[sample, pl.ds(DZ, 1)] = dz
            totals[sample, pl.ds(DZ_X_HAT, 1)] = dz_x_hat


def _average(problem, tiles, read, coefficients, sums):
    """Replaces the sums by the means over groups, as `gradient` takes them."""

    @read.turn
    def _():
        size = tiles.shape[-1] // problem.groups
        count = size * grid.positions(tiles)

        @grid.for_each_sample(tiles)
        def _(sample):
            _, rstd, _, gamma, _ = _rows(coefficients, sample)
            for i in (DZ, DZ_X_HAT):
                sums[i, pl.ds(sample, 1), : tiles.channels] *= rstd * gamma

        for i in (DZ, DZ_X_HAT):
            sums[i] = blocks.to_groups(sums[i], size) / count


def _write(tiles, block, read, cotangents, coefficients, means, dx):
    @read.writes
    def _():
        @grid.for_each_sample(tiles)
        def _(sample):
            of_chunk = cotangents(sample)
            _, rstd, offset, gamma, _ = _rows(coefficients, sample)
            mean, mean_x_hat = means(sample)
            rows = rstd * gamma, mean + offset * mean_x_hat, rstd * mean_x_hat
            slope, constant, of_centred = (blocks.across(tiles, row) for row in rows)

            def write(chunk):
                dz, centred = of_chunk(chunk)
                result = slope * dz - constant - centred * of_centred
                dx[sample, chunk] = result.astype(dx.dtype)

            blocks.for_each_chunk(tiles, block, write)
