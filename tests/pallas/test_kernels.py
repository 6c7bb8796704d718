"""The TPU kernels on simulated memory, each way through them, against float64."""

import jax.numpy as jnp
import pytest

from flax_gn import _problem
from flax_gn._pallas import _op, tpu
from flax_gn._xla import Saved
from tests import check
from tests.cases import inputs
from tests.pallas.cases import WAYS, named, on_simulated_memory


def _call(way):
    data = inputs(way.case)
    problem, operands = _problem.canonicalise(
        *data.primals, way.case.groups, activation=way.case.activation
    )
    return data, problem, operands


def _assert_taken(way, problem, x, arrays):
    tiles = _op.cut(tpu.KERNELS, problem, x, (x.dtype,) * arrays, True)
    assert tiles.samples == way.samples
    assert tiles.shape[-1] // tiles.channels == way.cut
    assert min(tiles.blocks, 2) == way.reads


def _assert_held(way, problem, x):
    """Where x is read once and dz is more than dy."""
    tiles = _op.cut(tpu.KERNELS, problem, x, (x.dtype,) * 3, True)
    if tiles.blocks == 1 and way.case.activation is not None:
        assert (tiles.holding_bytes > 0) is way.holds


@pytest.mark.parametrize(**named(WAYS))
def test_both_passes(way):
    data, problem, given = _call(way)
    with on_simulated_memory(way.vmem_bytes):
        _assert_taken(way, problem, given.x, 2)
        _assert_held(way, problem, given.x)
        y, moments = _op.forward(tpu.KERNELS, problem, given.x, given.gamma, given.beta)
        check.values(way.case, data, y)
        saved = Saved(given.x, given.gamma, given.beta, None, moments)
        dx, *d_parameters = _op.backward(
            tpu.KERNELS, problem, saved, jnp.asarray(data.dy)
        )
    channels = (way.case.shape[-1],)
    d_gamma, d_beta = (d.reshape(channels) for d in d_parameters)
    check.gradients(way.case, data, (dx, d_gamma, d_beta))


@pytest.mark.parametrize(**named([way for way in WAYS if way.reads == 2]))
def test_backward_reads_twice_too(way):
    _, problem, given = _call(way)
    with on_simulated_memory(way.vmem_bytes):
        _assert_taken(way, problem, given.x, 3)
