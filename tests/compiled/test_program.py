"""What a compiled program does is counted right, in the words of each compiler."""

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark import program, targets
from tests.compiled.conftest import devices

# A whole number of tiles on every device, too large for a TPU's chip.
SHAPE = (4096, 65536)
BYTES = 4 * 4096 * 65536


def read(target, f, *shapes):
    device = devices(target)[0]
    given = targets.on(device, [jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes])
    return program.read(jax.jit(f).lower(*given).compile())


@pytest.mark.parametrize("target", targets.TARGETS)
def test_an_elementwise_pass(target):
    made = read(target, lambda x: 2 * x + 1, SHAPE)
    assert len(made.kernels) == 1
    assert made.moved == 2 * BYTES
    assert (made.arguments, made.outputs) == (BYTES, BYTES)
    assert (made.largest_intermediate, made.relayout) == (0, 0)
    assert made.collectives == ()


@pytest.mark.parametrize("target", ["h100", "v5e"])
def test_an_intermediate_array(target):
    made = read(
        target, lambda x: jax.lax.optimization_barrier(jnp.sin(x)) * x + 1, SHAPE
    )
    assert len(made.kernels) == 2
    assert made.moved == 5 * BYTES
    assert made.largest_intermediate == BYTES
    assert made.relayout == 0


@pytest.mark.parametrize("target", ["h100", "v5e"])
def test_another_order(target):
    made = read(target, lambda x: jnp.sin(x).T.reshape(-1), SHAPE)
    assert made.relayout == BYTES // 4


@pytest.mark.parametrize("target", ["h100", "v5e"])
def test_a_slice_is_read_alone(target):
    made = read(target, lambda x: 2 * x[1024:2048], SHAPE)
    assert made.moved == 2 * BYTES // 4
