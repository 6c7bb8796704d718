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

NAME, GPU = "pallas_tpu", "pallas_gpu"


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
    with jax.enable_x64(True), pytest.raises(NotImplementedError, match="the result"):
        _norm(jnp.ones((2, 4, 8), jnp.float32), dtype=jnp.float64)


def test_open_sizes():
    shape = jax.export.symbolic_shape("n, 4, 8")
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    with pytest.raises(NotImplementedError, match="fixed sizes"):
        jax.export.export(jax.jit(_norm), platforms=["tpu"])(x)


def test_too_many_channels_in_a_group():
    x = jax.ShapeDtypeStruct((1, 64, 1 << 20), jnp.float32)
    with pytest.raises(NotImplementedError, match="finds no block"):
        jax.eval_shape(_norm, x)


@pytest.mark.parametrize(
    ("name", "platform"),
    [(NAME, "cpu"), (NAME, "cuda"), (GPU, "cpu"), (GPU, "tpu"), (GPU, "rocm")],
)
def test_another_platform(name, platform):
    def norm(x):
        return group_norm(x, groups=2, implementation=name)

    x = jax.ShapeDtypeStruct((2, 4, 8), jnp.float32)
    with pytest.raises(NotImplementedError, match=f"got a program for {platform}"):
        jax.export.export(jax.jit(norm), platforms=[platform])(x)


@pytest.mark.parametrize("name", [NAME, GPU])
def test_no_cpu_runs_it_unasked(name):
    with pytest.raises(NotImplementedError, match="a program for cpu"):
        group_norm(jnp.ones((2, 4, 8)), groups=2, implementation=name)


@pytest.mark.parametrize(
    ("name", "platform", "call"),
    [(NAME, "tpu", "@tpu_custom_call"), (GPU, "cuda", "@mosaic_gpu")],
)
def test_a_platform_gets_its_kernel_and_no_other_gets_it(name, platform, call):
    x = jax.ShapeDtypeStruct((2, 4, 8), jnp.float32)
    for implementation, kernels in ((name, 1), ("xla", 0), (None, 0)):
        f = jax.jit(
            lambda x, name=implementation: group_norm(x, groups=2, implementation=name)
        )
        text = f.trace(x).lower(lowering_platforms=(platform,)).as_text()
        assert text.count(call) == kernels


@pytest.mark.parametrize(("channels", "dtype"), [(6, "float32"), (12, "bfloat16")])
def test_channels_that_a_gpu_cannot_copy(channels, dtype):
    x = jax.ShapeDtypeStruct((2, 4, channels), dtype)
    with pytest.raises(NotImplementedError, match="in multiples of 16 bytes"):
        jax.eval_shape(lambda x: group_norm(x, groups=3, implementation=GPU), x)


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
