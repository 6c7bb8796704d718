"""Asked for by name the kernels run, or say why they cannot; nothing else runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AbstractDevice, AbstractMesh

from flax_gn import group_norm, group_stats
from flax_gn._pallas import tpu
from tests.pallas.cases import as_jax_operations, on_simulated_memory

NAME = "pallas_tpu"


def _norm(x, **options):
    return group_norm(x, None, None, 2, implementation=NAME, **options)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda x: _norm(x, mask=jnp.ones((2, 4), bool)), "takes no mask"),
        (lambda x: _norm(x[None], reduction_axes=(1, 3)), "last axes alone"),
        (lambda x: _norm(x.astype(jnp.float16)), "x of dtype float16"),
        (lambda x: _norm(x, dtype=jnp.float16), "the result of dtype float16"),
        (lambda x: _norm(x[:0]), "no empty arrays"),
        (
            lambda x: group_stats(x[:0], 2, implementation=NAME),
            "group_stats.*no empty arrays",
        ),
    ],
    ids=["mask", "axes", "float16", "to_float16", "empty", "stats"],
)
def test_says_why(call, reason):
    with as_jax_operations(), pytest.raises(NotImplementedError, match=reason):
        call(jnp.ones((2, 4, 8)))


def test_float64():
    with jax.enable_x64(True), pytest.raises(NotImplementedError, match="float64"):
        _norm(jnp.ones((2, 4, 8), jnp.float64))


def test_open_sizes():
    shape = jax.export.symbolic_shape("n, 4, 8")
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(NotImplementedError, match="fixed sizes"):
        jax.export.export(jax.jit(_norm), platforms=["tpu"])(x)


def test_too_many_channels_in_a_group():
    x = jax.ShapeDtypeStruct((1, 64, 1 << 20), jnp.float32)
    with pytest.raises(NotImplementedError, match="finds no block"):
        jax.eval_shape(_norm, x)


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_another_platform(platform):
    x = jax.ShapeDtypeStruct((2, 4, 8), jnp.float32)
    with pytest.raises(NotImplementedError, match=f"got a program for {platform}"):
        jax.export.export(jax.jit(_norm), platforms=[platform])(x)


def test_no_cpu_runs_it_unasked():
    with pytest.raises(NotImplementedError, match="a program for cpu"):
        _norm(jnp.ones((2, 4, 8)))


def test_a_tpu_gets_the_kernel_and_no_other_gets_it():
    x = jax.ShapeDtypeStruct((2, 4, 8), jnp.float32)
    for implementation, kernels in ((NAME, 1), ("xla", 0), (None, 0)):
        f = jax.jit(
            lambda x, name=implementation: group_norm(x, groups=2, implementation=name)
        )
        text = jax.export.export(f, platforms=["tpu"])(x).mlir_module()
        assert text.count("@tpu_custom_call") == kernels


def test_the_simulation_ends_with_its_context():
    x = jnp.ones((2, 4, 8))
    with on_simulated_memory():
        np.testing.assert_array_equal(_norm(x), jnp.zeros_like(x))
    with pytest.raises(NotImplementedError, match="a program for cpu"):
        _norm(x)


@pytest.mark.parametrize(
    ("kind", "mib"),
    [
        ("TPU v4", 16),
        ("TPU v5 lite", 128),
        ("TPU v5", 64),
        ("TPU v6 lite", 128),
        ("TPU7x", 64),
    ],
)
def test_memory_is_that_of_the_chip_compiled_for(kind, mib):
    device = AbstractDevice(kind, 1, "tpu")
    mesh = AbstractMesh((), (), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        assert pltpu.get_tpu_info().vmem_capacity_bytes == mib << 20
        assert tpu.vmem_bytes() == mib << 20


def test_memory_is_the_least_where_the_chip_is_not_known():
    assert tpu.vmem_bytes() == 16 << 20
