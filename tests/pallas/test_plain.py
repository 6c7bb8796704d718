"""Functions in plain words give what they gave, and have no other words in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn._pallas._gpu.plain import plain


def _derivative(activation):
    def pull(x, dy):
        return jax.vjp(activation, x)[1](dy)

    return pull


@pytest.mark.parametrize(
    "activation", [jax.nn.relu, jax.nn.silu, jax.nn.gelu, jax.nn.mish, jax.nn.softplus]
)
def test_the_same_numbers(activation):
    x = jnp.concatenate([jnp.linspace(-30, 30, 997), jnp.array([0.0, 1e-9, -1e-9])])
    for function, args in ((activation, (x,)), (_derivative(activation), (x, x))):
        (actual,) = plain(function)(*args)
        expected = jax.tree.leaves(function(*args))[0]
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-37)
        names = str(jax.make_jaxpr(plain(function))(*args))
        assert "add_any" not in names
        assert "log1p" not in names
