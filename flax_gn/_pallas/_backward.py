"""The backward kernels for a TPU.

One read. The slabs of x and dy stay in VMEM between the sums and dx::

    HBM    x, dy ━━━┓                                          ┏━━━▶ dx
    VMEM            ┗▶ slabs ──▶ sums of dz, dz * x_hat ──▶ slabs
                         └─────────── again ────────────────▲

Two reads. Blocks of both go through VMEM twice, the second time in reverse::

    HBM    x, dy ━━ 0, 1, ..., T-1 ━━┓   ┏━━━━ T-1 (kept), ..., 1, 0 ━━▶ dx
    VMEM                             ┗▶ sums

Nothing else is kept from the forward pass: x_hat, and with an activation its argument z
and dz, are formed again from x wherever they are needed.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from flax_gn._pallas import _block, _grid
from flax_gn._pallas._tiles import Tiles
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
    return _grid.call(
        functools.partial(_kernel, problem, tiles),
        "group_norm_backward",
        tiles,
        (x, dy),
        coefficients,
        x.dtype,
    )


def _kernel(problem, tiles, x, dy, coefficients, dx, totals, sums):
    block, read = _grid.place(tiles)

    def row(sample, i):
        return coefficients[sample, pl.ds(i, 1)]

    def cotangents(sample):
        """Slice of a chunk -> dz, x_hat."""
        pilot, rstd, offset, gamma, beta = (
            _block.across(tiles, row(sample, i))
            for i in (PILOT, RSTD, OFFSET, GAMMA, BETA)
        )

        def of_chunk(chunk):
            x_hat = (x[sample, chunk].astype(jnp.float32) - pilot) * rstd + offset
            dz = dy[sample, chunk].astype(jnp.float32)
            if problem.activation is not None:
                _, pull = jax.vjp(problem.activation, x_hat * gamma + beta)
                (dz,) = pull(dz)
            return dz, x_hat

        return of_chunk

    @read.first
    def _():
        sums[...] = jnp.zeros(sums.shape, sums.dtype)

    @read.sums
    def _():
        @_grid.for_each_sample(tiles)
        def _(sample):
            of_chunk = cotangents(sample)

            def terms(chunk):
                dz, x_hat = of_chunk(chunk)
                return dz, dz * x_hat

            _block.add_sums(tiles, block, terms, sums, sample)

    @read.turn
    def _():
        size = tiles.shape[-1] // problem.groups
        count = size * _grid.positions(tiles)

        @_grid.for_each_sample(tiles)
        def _(sample):
            slope = row(sample, RSTD) * row(sample, GAMMA)
            for i in (DZ, DZ_X_HAT):
                at = i, pl.ds(sample, 1), slice(tiles.channels)
                totals[sample, pl.ds(i, 1)] = sums[at]
                sums[at] *= slope

        for i in (DZ, DZ_X_HAT):
            sums[i] = _block.to_groups(sums[i], size) / count

    @read.writes
    def _():
        @_grid.for_each_sample(tiles)
        def _(sample):
            of_chunk = cotangents(sample)
            slope = row(sample, RSTD) * row(sample, GAMMA)
            means = (
                sums[i, pl.ds(sample, 1), : tiles.channels] for i in (DZ, DZ_X_HAT)
            )
            slope, mean, mean_x_hat = (_block.across(tiles, v) for v in (slope, *means))

            def write(chunk):
                dz, x_hat = of_chunk(chunk)
                result = slope * dz - mean - x_hat * mean_x_hat
                dx[sample, chunk] = result.astype(dx.dtype)

            _block.for_each_chunk(tiles, block, write)
