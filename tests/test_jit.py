"""jit, checkpoint, scan and export give the numbers of the plain call."""

import functools

import jax
import jax.export  # not imported by jax itself
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import group_norm
from tests import check
from tests.cases import (
    BY_NAME,
    FEATURES,
    IMPLEMENTATIONS,
    function,
    inputs,
    named,
    precision,
)

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


@pytest.mark.parametrize(**named(FEATURES))
def test_without_jit(case, implementation):
    data = inputs(case)
    y = function(case, implementation)(*data.primals, data.mask)
    check.values(case, data, y, implementation)


def test_disabled_jit(implementation):
    case = BY_NAME["mask_silu"]
    data = inputs(case)
    with jax.disable_jit():
        y = function(case, implementation)(*data.primals, data.mask)
    check.values(case, data, y, implementation)


def test_static_arguments(implementation):
    case = BY_NAME["silu"]
    data = inputs(case)
    names = ("groups", "eps", "activation", "implementation")
    f = jax.jit(group_norm, static_argnames=names)
    y = f(*data.primals, groups=2, activation="silu", implementation=implementation)
    check.values(case, data, y, implementation)


def test_a_call_of_the_same_kind_is_not_traced_again(implementation):
    traces = []

    def activation(z):
        traces.append(z.shape)
        return jax.nn.silu(z)

    @jax.jit
    def f(x):
        return group_norm(
            x, None, None, 2, activation=activation, implementation=implementation
        )

    x = inputs(BY_NAME["silu"]).x
    f(x)
    first = len(traces)
    assert first
    f(2 * x)
    assert len(traces) == first


def test_eager_calls_share_one_compilation(implementation):
    if implementation == "reference":
        pytest.skip("the reference is plain code, run as it stands")
    traces = []

    def activation(z):
        traces.append(z.shape)
        return jax.nn.silu(z)

    x = inputs(BY_NAME["silu"]).x
    for _ in range(3):
        group_norm(
            x, None, None, 2, activation=activation, implementation=implementation
        )
    # In the plain form, and for the platform.
    assert traces.count(x.shape) == 2
    # What it is made of is looked up on one number beforehand.
    assert set(traces) <= {x.shape, (1,) * x.ndim}
    assert len(traces) <= 3


@pytest.mark.parametrize("policy", [None, "dots_saveable", "nothing_saveable"])
def test_checkpoint(policy, implementation):
    case = BY_NAME["mask_silu"]
    data = inputs(case)
    policy = policy and getattr(jax.checkpoint_policies, policy)
    f = jax.checkpoint(function(case, implementation), policy=policy)
    y, pullback = jax.vjp(lambda *a: f(*a, data.mask), *data.primals)
    check.values(case, data, y, implementation)
    check.gradients(case, data, pullback(data.dy), implementation)


def _scanned(implementation, unroll=1):
    """Four normalised layers, one after another, with parameters of their own."""

    def layer(x, parameters):
        gamma, beta = parameters
        y = group_norm(
            x, gamma, beta, 2, activation="silu", implementation=implementation
        )
        return x + y, jnp.mean(y)

    return lambda x, gamma, beta: jax.lax.scan(layer, x, (gamma, beta), unroll=unroll)


def _looped(implementation):
    layer = functools.partial(
        group_norm, groups=2, activation="silu", implementation=implementation
    )

    def run(x, gamma, beta):
        means = []
        for g, b in zip(gamma, beta, strict=True):
            y = layer(x, g, b)
            x = x + y
            means.append(jnp.mean(y))
        return x, jnp.stack(means)

    return run


def test_scan(implementation):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 8)).astype(np.float32)
    gamma, beta = rng.standard_normal((2, 4, 8)).astype(np.float32)
    ct = (
        rng.standard_normal(x.shape).astype(np.float32),
        rng.standard_normal(4).astype(np.float32),
    )

    def both(f):
        def run(*primals):
            out, pullback = jax.vjp(f, *primals)
            return out, pullback(ct), jax.jvp(f, primals, primals)[1]

        return jax.jit(run)(x, gamma, beta)

    scanned, looped = both(_scanned(implementation)), both(_looped(implementation))
    for a, b in zip(jax.tree.leaves(scanned), jax.tree.leaves(looped), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_while_and_cond(implementation):
    case = BY_NAME["4d_2_groups"]
    data = inputs(case)
    f = function(case, implementation)

    @jax.jit
    def run(x, normalise):
        return jax.lax.cond(
            normalise,
            lambda x: jax.lax.fori_loop(
                0, 3, lambda _, y: f(y, data.gamma, data.beta), x
            ),
            lambda x: x,
            x,
        )

    expected = data.x
    for _ in range(3):
        expected = f(expected, data.gamma, data.beta)
    np.testing.assert_allclose(run(data.x, True), expected, atol=1e-5)
    np.testing.assert_array_equal(run(data.x, False), data.x)


@pytest.mark.parametrize("name", ["4d_2_groups", "mask_silu", "bfloat16"])
def test_export_for_every_platform(name, implementation):
    case = BY_NAME[name]
    data = inputs(case)
    f = function(case, implementation)

    def run(x, gamma, beta, dy):
        y, pullback = jax.vjp(lambda *a: f(*a, data.mask), x, gamma, beta)
        return y, pullback(dy)

    exported = jax.export.export(jax.jit(run), platforms=("cpu", "cuda", "tpu"))(
        *data.primals, data.dy
    )
    assert exported.platforms == ("cpu", "cuda", "tpu")
    restored = jax.export.deserialize(exported.serialize())
    y, grads = restored.call(*data.primals, data.dy)
    check.values(case, data, y, implementation)
    check.gradients(case, data, grads, implementation)


def test_exported_with_its_derivative(implementation):
    case = BY_NAME["silu"]
    data = inputs(case)
    exported = jax.export.export(jax.jit(function(case, implementation)))(*data.primals)
    restored = jax.export.deserialize(exported.serialize(vjp_order=1))
    _, pullback = jax.vjp(restored.call, *data.primals)
    check.gradients(case, data, pullback(data.dy), implementation)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("4d_2_groups", "b, 5, 3"),
        ("4d_2_groups", "b, h, w"),
        pytest.param("mask_silu", "b, s", marks=pytest.mark.needs(jax="0.7.1")),
        ("axes_gap", "b, 3, w"),
    ],
)
def test_export_with_open_sizes(name, sizes, implementation):
    case = BY_NAME[name]
    data = inputs(case)
    f = function(case, implementation)

    def run(x, mask, dy):
        y, pullback = jax.vjp(lambda *a: f(*a, mask), x, data.gamma, data.beta)
        return y, pullback(dy)

    names = jax.export.symbolic_shape(sizes)

    def opened(array):
        if array is None:
            return None
        shape = (*names, array.shape[-1])[: array.ndim]
        shape = [
            1 if size == 1 else name
            for name, size in zip(shape, array.shape, strict=True)
        ]
        return jax.ShapeDtypeStruct(shape, array.dtype)

    arguments = data.x, data.mask, data.dy
    exported = jax.export.export(jax.jit(run))(*map(opened, arguments))
    y, grads = exported.call(*arguments)
    check.values(case, data, y, implementation)
    check.gradients(case, data, grads, implementation)


@pytest.mark.parametrize(
    ("sizes", "shapes"),
    [
        # A product of a length with another number has more than 31 bits.
        ("1, l, 8", [(1, 70_000, 8), (1, 160_000, 8), (1, 1, 8)]),
        ("n, h, w, 8", [(1, 70_000, 2, 8), (2, 3, 160_000, 8)]),
    ],
)
def test_export_for_any_length(sizes, shapes, implementation):
    def run(x, dy):
        f = functools.partial(group_norm, groups=4, implementation=implementation)
        y, pullback = jax.vjp(f, x, jnp.ones(8), jnp.zeros(8))
        return y, *pullback(dy)

    opened = jax.ShapeDtypeStruct(jax.export.symbolic_shape(sizes), jnp.float32)
    exported = jax.export.export(jax.jit(run))(opened, opened)
    for shape in shapes:
        x, dy = np.random.default_rng(0).standard_normal((2, *shape)).astype("f4")
        found, expected = exported.call(x, dy), jax.jit(run)(x, dy)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * np.abs(b).max())


def test_export_of_sizes_whose_sign_is_open(implementation):
    """A convolution with strides and no padding may leave no position at all."""

    def run(x, kernel):
        x = jax.lax.conv_general_dilated(
            x, kernel, (2,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        )
        f = functools.partial(group_norm, groups=4, implementation=implementation)
        y, pullback = jax.vjp(f, x, jnp.ones(8), jnp.zeros(8))
        return y, *pullback(jnp.cos(y))

    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 2, 8)).astype("f4")
    opened = jax.ShapeDtypeStruct(jax.export.symbolic_shape("n, l, 2"), jnp.float32)
    exported = jax.export.export(jax.jit(run))(opened, kernel)
    for shape in (2, 9, 2), (1, 70_001, 2), (1, 160_000, 2):
        # Large, for the pilot to matter.
        x = rng.standard_normal(shape).astype("f4") + 100
        found, expected = exported.call(x, kernel), jax.jit(run)(x, kernel)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())
    if implementation != "reference":
        constant = exported.call(np.full((1, 9, 2), 123.456, "f4"), kernel * 0 + 1)
        np.testing.assert_array_equal(constant[0], 0)


def test_donated_input(implementation):
    case = BY_NAME["4d_2_groups"]
    data = inputs(case)
    x = jnp.array(data.x)
    f = jax.jit(function(case, implementation), donate_argnums=0)
    y = f(x, data.gamma, data.beta)
    assert x.is_deleted()
    check.values(case, data, y, implementation)


def test_eval_shape_needs_no_data(implementation):
    case = BY_NAME["bfloat16_to_float32"]
    data = inputs(case)
    abstract = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in data.primals]
    with precision(case.dtype):
        out = jax.eval_shape(function(case, implementation), *abstract)
    assert (out.shape, out.dtype) == (case.shape, np.float32)
