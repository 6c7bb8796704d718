"""Kernels where a record shows them to be faster, and XLA everywhere else."""

import functools
import logging
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding

from flax_gn import _faster, group_norm
from tests import check
from tests.cases import BY_NAME, function, inputs

ROOT = pathlib.Path(__file__).parents[2]
SHAPE = (4, 8, 16, 64)
CALLS = {"tpu": "@tpu_custom_call", "cuda": "@mosaic_gpu"}
NAMES = {"tpu": "pallas_tpu", "cuda": "pallas_gpu"}
needs_four = pytest.mark.skipif(
    jax.device_count() < 4,
    reason="needs four devices: XLA_FLAGS=--xla_force_host_platform_device_count=4",
)


@pytest.fixture
def faster(monkeypatch):
    """As if records showed both platforms' kernels to be faster for float32."""
    shown = [
        _faster.Faster(name, "float32", least=0, most=1 << 40, record="")
        for name in NAMES.values()
    ]
    monkeypatch.setattr(_faster, "FASTER", tuple(shown))
    jax.clear_caches()  # what was traced before knew nothing of it
    yield
    jax.clear_caches()


def _gradient(x, gamma, **options):
    def loss(x, gamma):
        y = group_norm(x, gamma, gamma, 8, activation="silu", **options)
        return jnp.sum(jnp.square(y.astype(jnp.float32)))

    return jax.grad(loss, (0, 1))(x, gamma)


def _arguments(dtype=jnp.float32, sharding=None):
    x = jax.ShapeDtypeStruct(SHAPE, dtype, sharding=sharding)
    return x, jax.ShapeDtypeStruct(SHAPE[-1:], jnp.float32)


def _kernels(*platforms, f=_gradient, arguments=None):
    traced = jax.jit(f).trace(*(arguments or _arguments()))
    text = traced.lower(lowering_platforms=platforms).as_text()
    return {platform: text.count(call) for platform, call in CALLS.items()}


def test_every_entry_has_a_record():
    for entry in _faster.FASTER:
        assert (ROOT / entry.record).is_file()


def test_without_a_record_xla_is_picked():
    for platform in CALLS:
        assert _kernels(platform) == {"tpu": 0, "cuda": 0}


@pytest.mark.usefixtures("faster")
def test_the_platform_that_is_lowered_for_decides():
    assert _kernels("tpu") == {"tpu": 2, "cuda": 0}
    assert _kernels("cuda") == {"tpu": 0, "cuda": 2}
    assert _kernels("cpu") == {"tpu": 0, "cuda": 0}


@pytest.mark.usefixtures("faster")
def test_an_exported_program_has_what_its_platforms_take():
    assert _kernels("cpu", "tpu") == {"tpu": 2, "cuda": 0}
    exported = jax.export.export(
        jax.jit(_gradient),
        platforms=["tpu"],
        disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("tpu_custom_call")],
    )(*_arguments())
    assert exported.mlir_module().count(CALLS["tpu"]) == 2


@pytest.mark.usefixtures("faster")
def test_of_another_dtype_or_with_a_mask_it_is_xla():
    bfloat16 = _arguments(jnp.bfloat16)
    assert _kernels("tpu", arguments=bfloat16)["tpu"] == 0
    masked = functools.partial(_gradient, mask=np.ones(SHAPE[:-1], bool))
    assert _kernels("tpu", f=masked)["tpu"] == 0


@pytest.mark.usefixtures("faster")
def test_by_name_is_by_name():
    by_name = functools.partial(_gradient, implementation="xla")
    assert _kernels("tpu", f=by_name)["tpu"] == 0


def test_sizes_decide(monkeypatch):
    size = 4 * np.prod(SHAPE)
    for least, most, taken in ((size, size, 2), (0, size - 1, 0), (size + 1, 1e9, 0)):
        entry = _faster.Faster("pallas_tpu", "float32", least, most, "")
        monkeypatch.setattr(_faster, "FASTER", (entry,))
        jax.clear_caches()
        assert _kernels("tpu")["tpu"] == taken


@pytest.mark.usefixtures("faster")
def test_channels_that_no_kernel_takes_are_left_to_xla(caplog):
    arguments = (
        jax.ShapeDtypeStruct((2, 5, 9), jnp.float32),
        jax.ShapeDtypeStruct((9,), jnp.float32),
    )

    def of_three(x, gamma):
        return group_norm(x, gamma, gamma, 3)

    with caplog.at_level(logging.DEBUG, "flax_gn"):
        found = _kernels("cuda", f=of_three, arguments=arguments)
    assert found == {"tpu": 0, "cuda": 0}
    assert "no kernel for cuda: group_norm: implementation" in caplog.text


@needs_four
@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("platform", CALLS)
def test_an_automatically_split_program_is_left_to_xla_and_says_so(platform, caplog):
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, jax.P("d"))
    with jax.set_mesh(mesh), caplog.at_level(logging.DEBUG, "flax_gn"):
        traced = jax.jit(_gradient).trace(*_arguments(sharding=split))
        text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert CALLS[platform] not in text
    assert f"a kernel for {platform} cannot be; the implementation for XLA" in " ".join(
        caplog.text.split()
    )
    for gathered in ("all_gather", "all_to_all"):
        assert gathered not in text


@needs_four
@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("platform", CALLS)
def test_on_a_mesh_with_explicit_axes_and_in_a_shard_map_it_is_a_kernel(platform):
    mesh = Mesh(np.array(jax.devices()[:4]), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        split = NamedSharding(mesh, jax.P("d"))
        found = _kernels(platform, arguments=_arguments(sharding=split))
        assert found[platform] == 2

    mesh = Mesh(np.array(jax.devices()[:4]), ("d",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh):
        mapped = jax.shard_map(
            lambda x, gamma: _gradient(x, gamma)[0],
            in_specs=(jax.P("d"), jax.P()),
            out_specs=jax.P("d"),
        )
        split = NamedSharding(mesh, jax.P("d"))
        found = _kernels(platform, f=mapped, arguments=_arguments(sharding=split))
        assert found[platform] == 2


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("name", ["4d_2_groups", "silu", "per_sample", "no_affine"])
def test_values_and_derivatives_are_those_of_the_platform(name):
    """On a CPU, where it is XLA: what is not chosen leaves no trace."""
    case = BY_NAME[name]
    data = inputs(case)
    run = function(case, None)
    y, pullback = jax.vjp(run, *data.primals)
    check.values(case, data, y)
    check.gradients(case, data, pullback(jnp.asarray(data.dy)))
    _, tangent = jax.jvp(run, data.primals, data.tangents)
    check.tangent(case, data, tangent)


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, lambda f: f])
def test_transformations(wrap):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, 5, 8)).astype(np.float32)
    gamma = np.linspace(0.5, 1.5, 8, dtype=np.float32)

    def loss(implementation, x, gamma):
        y = group_norm(
            x, gamma, gamma, 2, activation="silu", implementation=implementation
        )
        return jnp.sum(jnp.sin(y))

    def results(implementation):
        gradient = jax.grad(wrap(functools.partial(loss, implementation)), (0, 1))
        per_example = jax.vmap(gradient, (0, None))(x[:, None], gamma)
        second = jax.jvp(lambda x: gradient(x, gamma), (x,), (x * x,))[1]
        return per_example, second

    for got, want in zip(
        jax.tree.leaves(results(None)), jax.tree.leaves(results("xla")), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("faster")
def test_the_kernel_that_is_chosen_is_that_of_the_name():
    """In the words of the program, but for the numbers that it gives to functions."""

    def words(**options):
        traced = jax.jit(functools.partial(_gradient, **options)).trace(*_arguments())
        text = traced.lower(lowering_platforms=("tpu",)).as_text()
        calls = re.findall(r"stablehlo\.custom_call @tpu_custom_call\([^)]*\)", text)
        return [re.sub(r"%\w+", "%", call) for call in calls]

    assert words() == words(implementation="pallas_tpu")
    assert len(words()) == 2
