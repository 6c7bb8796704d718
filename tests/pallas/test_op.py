"""The op over the kernels: values, derivatives, transformations.

Those for a TPU run on several devices too. The simulation of a GPU has one device, and
its callbacks do not go through `jax.checkpoint`.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import group_norm, group_stats
from tests import check, oracle, tolerances
from tests.cases import BY_NAME, LAYERS, Case, function, inputs, precision
from tests.cases import named as cases_named
from tests.pallas.cases import as_jax_operations, on_simulated_gpu

TPU, GPU = "pallas_tpu", "pallas_gpu"
SIMULATED = {TPU: as_jax_operations, GPU: on_simulated_gpu}

DTYPES = {"float32", "bfloat16"}


def _refused(name, case):
    """Whether docs/kernels.md says that a kernel does not take a case."""
    bytes_of_a_row = case.shape[-1] * min(
        np.dtype(dtype).itemsize for dtype in (case.dtype, case.result_dtype)
    )
    return (
        case.mask is not None
        or not {case.dtype, case.result_dtype.name} <= DTYPES
        or case.reduced != list(range(len(case.kept_shape), len(case.shape) - 1))
        or (name == GPU and bytes_of_a_row % 16 != 0)
    )


@pytest.fixture(params=SIMULATED)
def name(request):
    """An implementation, in whose simulation the test runs."""
    with SIMULATED[request.param]():
        yield request.param


# A simulated GPU takes a quarter of a minute for 32 samples of one position, and half a
# minute for a thousand positions; test_gpu_kernels has it take few of either.
LONG = {"long", "axes_channel_alone", "wide"}
# What tells these from others is none of a kernel's business, or test_gpu_kernels has
# it: one group, and as many as channels.
LIKE_OTHERS = {
    "2d_1_groups",
    "2d_instance",
    "3d_1_groups",
    "3d_12_groups",
    "4d_1_groups",
    "4d_8_groups",
    "4d_square",
    "axes_unordered",
    "axes_whole_batch",
    "keras_eps",
    "large_eps",
}


def _taken(name):
    """All cases but small copies of layers: tests/compiled takes the layers' own sizes.

    A simulated GPU takes one of those that are much the same.
    """
    left_out = {case.name for case in LAYERS}
    if name == GPU:
        left_out |= LONG | LIKE_OTHERS
    cases = [case for case in BY_NAME.values() if case.name not in left_out]
    return cases_named([case for case in cases if not _refused(name, case)])


def _assert_both_passes(name, case):
    data = inputs(case)
    with SIMULATED[name]():
        y, pullback = jax.vjp(function(case, name), *data.primals)
        gradients = pullback(jnp.asarray(data.dy))
    check.values(case, data, y)
    check.gradients(case, data, gradients)


@pytest.mark.parametrize(**_taken(TPU))
def test_cases_on_tpu(case):
    _assert_both_passes(TPU, case)


@pytest.mark.parametrize(**_taken(GPU))
def test_cases_on_gpu(case):
    _assert_both_passes(GPU, case)


def test_no_other_case_is_taken(name):
    refused = [case for case in BY_NAME.values() if _refused(name, case)]
    assert refused
    for case in refused:
        data = inputs(case)
        with precision(case.dtype), pytest.raises(NotImplementedError, match=name):
            jax.eval_shape(function(case, name), *data.primals, data.mask)


def test_tangent(name):
    case = BY_NAME["silu"]
    data = inputs(case)
    _, tangent = jax.jvp(function(case, name), data.primals, data.tangents)
    check.tangent(case, data, tangent)


def _data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 3, 8)).astype(np.float32)
    return x, np.linspace(0.5, 1.5, 8, dtype=np.float32), np.ones(8, np.float32)


def _loss(implementation, x, gamma, beta):
    y = group_norm(x, gamma, beta, 2, activation="silu", implementation=implementation)
    return jnp.sum(jnp.sin(y))


def _hessian_vector(loss, x, gamma, beta):
    gradient = jax.grad(loss)
    return jax.jvp(lambda x: gradient(x, gamma, beta), (x,), (x * x,))[1]


def _gradient_of_gradient(loss, x, gamma, beta):
    return jax.grad(lambda x: jnp.sum(jax.grad(loss)(x, gamma, beta) ** 2))(x)


def _of_every_example(loss, x, gamma, beta):
    per_example = jax.vmap(jax.grad(loss, (0, 1)), (1, None, 0))
    betas = jnp.stack([beta] * x.shape[2])
    return per_example(x.swapaxes(1, 2), gamma, betas)


def _rematerialised(loss, x, gamma, beta):
    return jax.jit(jax.grad(jax.checkpoint(loss), (0, 1, 2)))(x, gamma, beta)


def _in_a_scan(loss, x, gamma, beta):
    def step(x, _):
        return x - jax.grad(loss)(x, gamma, beta), None

    return jax.lax.scan(step, x, None, length=2)[0]


TRANSFORMED = [_hessian_vector, _gradient_of_gradient, _of_every_example, _in_a_scan]


@pytest.mark.parametrize(
    ("name", "transformed"),
    [*itertools.product(SIMULATED, TRANSFORMED), (TPU, _rematerialised)],
)
def test_transformation_agrees_with_xla(name, transformed):
    data = _data()
    expected = transformed(functools.partial(_loss, "xla"), *data)
    with SIMULATED[name]():
        actual = transformed(functools.partial(_loss, name), *data)
    for got, want in zip(
        jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
    ):
        assert jnp.any(want)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_each_device_runs_the_kernel_on_its_part():
    devices = np.array(jax.devices()[:2])
    if devices.size < 2:
        pytest.skip("needs two devices: XLA_FLAGS=--xla_force_host_platform_...=2")
    split = jax.P("batch")
    with as_jax_operations():
        # Interpreted kernels do not say along which axes their values vary.
        run = jax.shard_map(
            lambda x, *rest: jax.grad(functools.partial(_loss, TPU))(x, *rest),
            mesh=jax.sharding.Mesh(devices, ("batch",)),
            in_specs=(split, jax.P(), jax.P()),
            out_specs=split,
            check_vma=False,
        )
        actual = jax.jit(run)(*_data())
    expected = jax.grad(functools.partial(_loss, "xla"))(*_data())
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


def test_pmap_runs_the_kernel_on_each_part():
    if jax.device_count() < 2:
        pytest.skip("needs two devices: XLA_FLAGS=--xla_force_host_platform_...=2")
    x, gamma, beta = _data()
    gradient = jax.grad(functools.partial(_loss, TPU))
    with as_jax_operations():
        actual = jax.pmap(gradient, in_axes=(0, None, None))(x[:, None], gamma, beta)
    expected = jax.grad(functools.partial(_loss, "xla"))(x, gamma, beta)
    np.testing.assert_allclose(actual[:, 0], expected, rtol=1e-4, atol=1e-5)


def _shared(implementation, x, gamma, beta):
    """Gradients on devices that each hold a part of the positions."""

    def loss(x, gamma, beta):
        y = group_norm(
            x,
            gamma,
            beta,
            2,
            activation="silu",
            axis_name="positions",
            implementation=implementation,
        )
        return jnp.sum(jnp.sin(y))

    return jax.grad(loss, (0, 1, 2))(x, gamma, beta)


@pytest.mark.parametrize("how", ["pmap", "shard_map", "vmap"])
def test_devices_share_statistics(how):
    if jax.device_count() < 5:
        pytest.skip("needs five devices: XLA_FLAGS=--xla_force_host_platform_...=5")
    x, gamma, beta = _data()
    x[:, 0] += 1e4  # the devices' pilots are far apart
    expected = jax.grad(functools.partial(_loss, "xla"), (0, 1, 2))(x, gamma, beta)
    run = functools.partial(_shared, TPU)
    axes = {"in_axes": (1, None, None), "axis_name": "positions"}
    with as_jax_operations():
        if how == "shard_map":
            split = jax.P(None, "positions")
            mesh = jax.sharding.Mesh(np.array(jax.devices()[:5]), ("positions",))
            each = jax.shard_map(
                lambda *arrays: jax.tree.map(lambda a: a[None], run(*arrays)),
                mesh=mesh,
                in_specs=(split, jax.P(), jax.P()),
                out_specs=jax.P("positions"),
                check_vma=False,
            )
            dx, dgamma, dbeta = jax.jit(each)(x, gamma, beta)
            dx = jnp.squeeze(dx, 2)
        elif how == "pmap":
            dx, dgamma, dbeta = jax.pmap(run, **axes)(x, gamma, beta)
        else:
            dx, dgamma, dbeta = jax.vmap(run, **axes)(x, gamma, beta)
    actual = jnp.moveaxis(dx, 0, 1), jnp.sum(dgamma, 0), jnp.sum(dbeta, 0)
    for got, want in zip(actual, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_statistics(name):
    x, *_ = _data()
    x += 1e4

    def run(x, implementation=name):
        mean, var = group_stats(x, 2, implementation=implementation)
        return jnp.sum(jnp.sin(mean) + jnp.cos(var))

    mean, var = group_stats(x, 2, implementation=name)
    gradient = jax.grad(run)(x)
    groups = np.float64(x).reshape(2, 15, 2, 4)
    np.testing.assert_allclose(mean, groups.mean((1, 3)), rtol=1e-6)
    np.testing.assert_allclose(var, groups.var((1, 3)), rtol=1e-4)
    expected = jax.grad(functools.partial(run, implementation="xla"))(x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mean", [1e3, 1e6])
def test_large_mean(name, mean):
    case = Case("large_mean", (2, 9, 8), 2, mean=mean)
    data = inputs(case)
    y = function(case, name)(*data.primals)
    check.values(case, data, y)


def test_outliers(name):
    case = Case("outliers", (1, 40, 8), 2)
    data = inputs(case)
    data.x[0, ::13, 1::4] += 1e4
    y = function(case, name)(*data.primals)
    forward = oracle.group_norm(*data.primals, case.groups)
    bound = tolerances.values(
        forward,
        data.x,
        data.gamma,
        data.beta,
        case.dtype,
        case.m,
        literal=False,
        outliers=True,
    )
    tolerances.assert_close(y, forward.y, bound)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_group(name, bad):
    x, gamma, beta = _data()
    run = jax.jit(functools.partial(_loss_and_gradient, name))
    clean = run(x, gamma, beta)
    x[1, 2, 1, 5] = bad
    actual = run(x, gamma, beta)
    for before, after in zip(clean, actual, strict=True):
        touched = np.zeros(x.shape, bool)
        touched[1, ..., 4:] = True
        np.testing.assert_array_equal(after[~touched], before[~touched])
        assert not np.isfinite(after[1, 2, 1, 5])


def _loss_and_gradient(implementation, x, gamma, beta):
    def run(x):
        return group_norm(x, gamma, beta, 2, implementation=implementation)

    y, pullback = jax.vjp(run, x)
    return y, pullback(jnp.cos(jnp.arange(x.size, dtype=x.dtype).reshape(x.shape)))[0]


def test_keeps_x_and_little_else(name):
    x = jnp.ones((1, 16, 16, 32), jnp.bfloat16)
    gamma = jnp.ones(32)
    _, pullback = jax.vjp(functools.partial(_loss, name), x, gamma, gamma)
    arrays = {id(a): a for a in jax.tree.leaves(pullback) if hasattr(a, "nbytes")}
    of_the_sine = 2 * x.nbytes
    kept = sum(a.nbytes for a in arrays.values())
    assert x.nbytes <= kept <= 1.1 * x.nbytes + of_the_sine
