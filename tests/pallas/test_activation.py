"""Activations in other words give what they gave, and have no other words in them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from flax_gn import _activations
from flax_gn._pallas._activation import apply, pull
from flax_gn._pallas._gpu.words import WORDS
from flax_gn._pallas._tpu import words

ACTIVATIONS = [
    jax.nn.relu,
    jax.nn.silu,
    jax.nn.gelu,
    jax.nn.mish,
    jax.nn.softplus,
    _activations.mish,
]
Z = jnp.concatenate([jnp.linspace(-30, 30, 997), jnp.array([0.0, 1e-9, -1e-9])])


def _on(kind, dtype):
    """The words of a TPU."""
    device = AbstractDevice(kind, 1, "tpu")
    mesh = AbstractMesh((), (), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        return words.of(dtype)


BFLOAT16 = _on("TPU v5 lite", jnp.bfloat16)


def _gradient(activation, z):
    return jax.vjp(activation, z)[1](jnp.ones_like(z))[0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("given", "atol"), [(WORDS, 1e-37), (BFLOAT16, 3e-6)], ids=["gpu", "tpu"]
)
def test_the_same_numbers(activation, given, atol):
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=atol)
    close(apply(activation, given, Z), activation(Z))
    close(pull(activation, given, Z, jnp.ones_like(Z)), _gradient(activation, Z))
    traced = (
        jax.make_jaxpr(functools.partial(apply, activation, given))(Z),
        jax.make_jaxpr(functools.partial(pull, activation, given))(Z, Z),
    )
    used = " ".join(map(str, traced))
    for word in given:
        assert f" {word}" not in used


def test_none():
    assert apply(None, WORDS, Z) is Z
    assert pull(None, WORDS, Z, dy := Z + 1) is dy


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so(bad):
    z = jnp.full(3, bad)
    np.testing.assert_array_equal(
        apply(jax.nn.silu, BFLOAT16, z), np.full(3, np.inf if bad > 0 else np.nan)
    )


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("TPU v4", jnp.float32), ("TPU v6 lite", jnp.bfloat16), ("TPU7x", jnp.bfloat16)],
)
def test_words_are_kept_where_others_gain_nothing(kind, dtype):
    assert not _on(kind, dtype)
    assert not words.of(dtype)
