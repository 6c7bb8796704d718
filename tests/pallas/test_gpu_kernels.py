"""The GPU kernels on a simulated GPU, each way through them, against float64."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu

from flax_gn import _problem, group_norm
from flax_gn._pallas import _op, gpu
from flax_gn._pallas._gpu import tiles as cuts
from flax_gn._xla import Saved
from tests import check
from tests.cases import inputs
from tests.pallas.cases import WAYS_ON_GPU, named, on_simulated_gpu


def _kernels(way):
    def choose(shape, groups, itemsizes, keep):
        if way.cluster and keep:
            view = shape[0], math.prod(shape[1:-1]), shape[-1]
            return cuts._keeping(view, shape[-1] // way.columns, way.shares)
        return gpu.choose(shape, groups, itemsizes, keep and way.keep)

    return dataclasses.replace(gpu.KERNELS, choose=functools.cache(choose))


@pytest.mark.parametrize(**named(WAYS_ON_GPU))
def test_both_passes(way):
    data = inputs(way.case)
    problem, given = _problem.canonicalise(
        *data.primals, way.case.groups, activation=way.case.activation
    )
    kernels = _kernels(way)
    tiles = _op.cut(kernels, problem, given.x, (given.x.dtype,) * 2, True)
    assert tiles.columns == way.columns
    assert (tiles.kept, tiles.shares) == (way.keep, way.shares)
    with on_simulated_gpu():
        y, moments = _op.forward(kernels, problem, given.x, given.gamma, given.beta)
        check.values(way.case, data, y)
        saved = Saved(given.x, given.gamma, given.beta, None, moments)
        dx, *d_parameters = _op.backward(kernels, problem, saved, jnp.asarray(data.dy))
    channels = (way.case.shape[-1],)
    d_gamma, d_beta = (d.reshape(channels) for d in d_parameters)
    check.gradients(way.case, data, (dx, d_gamma, d_beta))


@pytest.mark.parametrize(
    ("positions", "channels", "stored"),
    [
        (49, 32, {49}),
        (300, 32, {192, 108}),
        (4097, 256, {176, 49}),
        (16385, 256, {16, 1}),
    ],
    ids=["one_part_of_a_chunk", "kept", "cluster", "streamed"],
)
def test_nothing_is_copied_past_the_sample(monkeypatch, positions, channels, stored):
    """On a GPU such a copy may go into the next sample; simulated it does not."""
    copy, sizes = plgpu.copy_smem_to_gmem, set()

    def watched(source, target, **options):
        if len(target.shape) == 2:
            sizes.add(target.shape[0])
        copy(source, target, **options)

    monkeypatch.setattr(plgpu, "copy_smem_to_gmem", watched)
    x = jax.ShapeDtypeStruct((2, positions, channels), jnp.bfloat16)
    jax.eval_shape(lambda x: group_norm(x, groups=2, implementation="pallas_gpu"), x)
    assert sizes == stored
