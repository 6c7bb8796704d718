"""What haiku's and equinox' interfaces offer, spelled as docs/peers.md says.

flax, keras, torch and ONNX have files of their own.
"""

from typing import Any

import equinox
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import group_norm
from flax_gn import linen as layers
from tests.variables import random


@pytest.fixture(autouse=True)
def no_implicit_promotion():
    """The peers mix dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def in_haiku(x, *call, params=None, **options) -> Any:
    def run(x, *call):
        return haiku.GroupNorm(2, **options)(x, *call)

    return haiku.transform(run).apply({"group_norm": params or {}}, None, x, *call)


BARE = {"create_scale": False, "create_offset": False}


def test_haikus_parameters_are_scale_and_bias():
    x, scale, offset = random(), random((8,), 1), random((8,), 2)
    expected = in_haiku(x, params={"scale": scale, "offset": offset})
    layer: Any = layers.GroupNorm(2, epsilon=1e-5)
    y = layer.apply({"params": {"scale": scale, "bias": offset}}, x)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_haikus_axis_is_reduction_axes():
    x = random((2, 3, 4, 4, 8))
    expected = in_haiku(x, axis=slice(2, None), **BARE)
    y = group_norm(x, groups=2, reduction_axes=(2, 3, 4))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_haikus_data_format_is_a_moveaxis():
    x = random((2, 8, 4, 4))
    expected = in_haiku(x, data_format="channels_first", **BARE)
    y = jnp.moveaxis(group_norm(jnp.moveaxis(x, 1, -1), groups=2), -1, 1)
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_haikus_scale_and_offset_at_call_time_are_gamma_and_beta_per_sample():
    x, (scale, offset) = random(), random((2, 2, 8), 1)
    expected = in_haiku(x, scale[:, None, None], offset[:, None, None], **BARE)
    np.testing.assert_allclose(group_norm(x, scale, offset, 2), expected, atol=1e-5)
    layer: Any = layers.GroupNorm(2, epsilon=1e-5, use_scale=False, use_bias=False)
    y = layer.apply({}, x, scale=scale - 1, shift=offset)
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("affine", [True, False])
def test_equinoxs_layer_takes_one_sample(affine):
    x = random((3, 4, 8))
    theirs = equinox.nn.GroupNorm(2, 8, channelwise_affine=affine)
    weight = bias = None
    if affine:
        weight, bias = random((8,), 1), random((8,), 2)
        theirs = equinox.tree_at(lambda m: (m.weight, m.bias), theirs, (weight, bias))
    expected = jnp.moveaxis(theirs(jnp.moveaxis(x, -1, 0)), 0, -1)
    y = group_norm(x, weight, bias, 2, reduction_axes=(-3, -2, -1))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_equinoxs_vector_is_a_vector_here():
    x = random((8,))
    expected = equinox.nn.GroupNorm(2, 8)(x)
    np.testing.assert_allclose(group_norm(x, groups=2), expected, atol=1e-5)
