"""The fused activation is the composition that its name says, with its derivative."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import group_norm
from tests import oracle
from tests.cases import IMPLEMENTATIONS

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 5, 8)).astype(np.float32)
GAMMA, BETA = RNG.standard_normal((2, 8)).astype(np.float32)
DY = RNG.standard_normal(X.shape).astype(np.float32)


@jax.custom_vjp
def straight_through(z):
    """A sign that has the gradient of 2 z."""
    return jnp.sign(z)


straight_through.defvjp(lambda z: (jnp.sign(z), None), lambda _, dy: (2 * dy,))


@jax.custom_jvp
def half_slope(z):
    """The identity, with half its derivative."""
    return z


half_slope.defjvp(lambda primals, tangents: (primals[0], 0.5 * tangents[0]))

ACTIVATIONS = {
    "relu": ("relu", jax.nn.relu),
    "silu": ("silu", jax.nn.silu),
    "gelu": ("gelu", functools.partial(jax.nn.gelu, approximate=True)),
    "mish": ("mish", jax.nn.mish),
    "exact gelu": (functools.partial(jax.nn.gelu, approximate=False),) * 2,
    "leaky relu": (functools.partial(jax.nn.leaky_relu, negative_slope=0.2),) * 2,
    "custom_vjp": (straight_through,) * 2,
    "custom_jvp": (half_slope,) * 2,
}


def _pulled(f, checkpoint=False):
    f = jax.checkpoint(f) if checkpoint else f
    y, pullback = jax.vjp(f, X, GAMMA, BETA)
    return y, *pullback(DY)


@pytest.mark.parametrize("checkpoint", [False, True], ids=["kept", "checkpoint"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_is_the_composition_and_so_is_its_gradient(name, checkpoint, implementation):
    given, function = ACTIVATIONS[name]
    norm = functools.partial(group_norm, groups=2, implementation=implementation)
    fused = functools.partial(norm, activation=given)
    got = jax.jit(lambda: _pulled(fused, checkpoint))()
    want = jax.jit(lambda: _pulled(lambda *a: function(norm(*a))))()
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=2e-6)
    plain = _pulled(norm)
    assert np.abs(got[1] - plain[1]).max() > 0.01  # the derivative took part


def test_gelu_is_the_tanh_form(implementation):
    # As jax.nn.gelu has it; the exact one is 5e-4 away.
    y = group_norm(X, GAMMA, BETA, 2, activation="gelu", implementation=implementation)
    z = oracle.group_norm(X, GAMMA, BETA, 2).z
    exact = jax.nn.gelu(z.astype(np.float32), approximate=False)
    np.testing.assert_allclose(y, oracle._activate("gelu", z)[0], atol=2e-6)
    assert np.abs(y - exact).max() > 1e-4


def test_relu_at_zero_has_no_gradient(implementation):
    # A constant group without beta is exactly 0: jax.nn.relu's derivative there is 0.
    x = np.full((1, 4, 2), 3.0, np.float32)
    f = functools.partial(
        group_norm, groups=1, activation="relu", implementation=implementation
    )
    y, pullback = jax.vjp(f, x, np.ones(2, np.float32), np.zeros(2, np.float32))
    np.testing.assert_array_equal(y, np.zeros_like(x))
    for gradient in pullback(np.ones_like(x)):
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


def test_nothing_is_rounded_before_the_activation(implementation):
    # A norm rounded to bfloat16 first would move exp(4 z) by several per cent.
    def steep(z):
        assert z.dtype == jnp.float32
        return jnp.exp(4 * z)

    x = X.astype(jnp.bfloat16)
    y = group_norm(x, groups=2, activation=steep, implementation=implementation)
    assert y.dtype == jnp.bfloat16
    expected = np.exp(4 * oracle.group_norm(x, None, None, 2).y)
    np.testing.assert_allclose(y.astype(np.float32), expected, rtol=2.0**-8)


def test_a_bound_method_and_a_partial_are_callables(implementation):
    class Scaled:
        def __init__(self, scale):
            self.scale = scale

        def apply(self, z):
            return self.scale * jnp.tanh(z)

    y = group_norm(
        X, groups=2, activation=Scaled(3.0).apply, implementation=implementation
    )
    expected = 3 * np.tanh(oracle.group_norm(X, None, None, 2).y)
    np.testing.assert_allclose(y, expected, atol=5e-6)


def test_a_function_that_counts_on_axes(implementation):
    def rows(z):
        return jax.vmap(jax.nn.silu)(z)

    norm = functools.partial(group_norm, groups=2, implementation=implementation)
    found = norm(X, GAMMA, BETA, activation=rows)
    np.testing.assert_allclose(
        found, norm(X, GAMMA, BETA, activation="silu"), rtol=1e-6
    )


def test_a_function_may_round(implementation):
    # Its result and its gradient are those of the function it rounds, to 8 bits.
    def rounded(z):
        return jnp.tanh(z).astype(jnp.bfloat16)

    norm = functools.partial(group_norm, groups=2, implementation=implementation)
    got = jax.jit(lambda: _pulled(functools.partial(norm, activation=rounded)))()
    want = jax.jit(lambda: _pulled(functools.partial(norm, activation=jnp.tanh)))()
    assert {each.dtype for each in got} == {np.dtype(np.float32)}
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, atol=2.0**-7 * np.abs(b).max())
    plain = _pulled(norm)
    assert np.abs(got[1] - plain[1]).max() > 0.01
