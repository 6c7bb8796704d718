"""Mish from one exponential is right to the last digits, and so are its derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn._activations import mish
from tests import cases, oracle

Z = np.concatenate([np.linspace(-80, 80, 4001), np.linspace(-3, 3, 601), [1e30, -1e30]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_slope(dtype):
    with cases.precision(dtype):
        z = Z.astype(dtype)
        y, slope = jax.vjp(mish, z)
        y, slope = np.asarray(y), np.asarray(*slope(np.ones_like(z)))
        assert y.dtype == slope.dtype == dtype
        expected, expected_slope = oracle._activate("mish", z.astype(np.float64))
    eps = np.finfo(dtype).eps
    tiny = np.finfo(dtype).tiny * np.abs(z)  # exp(z) is flushed to 0 from there on
    assert (np.abs(y - expected) <= 16 * eps * np.abs(expected) + tiny).all()
    # The oracle takes 1 - tanh^2, times z, where tanh is 1 up to float64's last digits.
    own = 40 * np.finfo(np.float64).eps
    assert (np.abs(slope - expected_slope) <= 8 * eps + own).all()


def test_second_derivative():
    z = np.linspace(-30, 30, 1201, dtype=np.float32)
    found = jax.vmap(jax.grad(jax.grad(mish)))(z)
    with cases.precision("float64"):
        expected = jax.vmap(jax.grad(jax.grad(jax.nn.mish)))(z.astype(np.float64))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_as_with_jax(bad):
    np.testing.assert_array_equal(mish(jnp.float32(bad)), jax.nn.mish(jnp.float32(bad)))
