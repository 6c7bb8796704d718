"""The autoencoder: what its norm is asked, and what it computes in."""

from functools import partial
from typing import Any

import flax.linen
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import models
from flax_gn.linen import GroupNorm

SMALL = models.AutoencoderKL(widths=(32, 64), blocks=1)
IMAGES = np.linspace(-1, 1, 2 * 8 * 12 * 3, dtype=np.float32).reshape(2, 8, 12, 3)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(SMALL.init)(jax.random.key(0, impl="rbg"), IMAGES)


def apart(*, name, dtype, activation):
    """Flax's norm, and the activation after it."""
    norm = flax.linen.GroupNorm(num_groups=32, name=name, dtype=dtype)
    return norm if activation is None else lambda x: activation(norm(x))


def test_takes_flaxs_norm_with_the_activation_apart(variables):
    flaxs = SMALL.copy(norm=apart)
    shapes = partial(jax.eval_shape, flaxs.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, shapes(IMAGES)) == jax.tree.map(jnp.shape, variables)
    a, b = (np.asarray(jax.jit(m.apply)(variables, IMAGES)) for m in (SMALL, flaxs))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
    assert np.std(a) > 0.1


def test_every_norm_has_32_groups_and_all_but_the_attentions_apply_silu():
    asked = []

    def norm(**options):
        asked.append((options["name"], options["activation"]))
        layer = GroupNorm(**options)
        assert (layer.num_groups, layer.epsilon) == (32, 1e-6)
        return layer

    jax.eval_shape(SMALL.copy(norm=norm).init, jax.random.key(0), IMAGES)
    bare = [name for name, activation in asked if activation is None]
    assert bare == ["norm", "norm"]
    assert {a for _, a in asked} == {None, flax.linen.silu}


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters_and_results():
    model = SMALL.copy(dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    result, state = jax.eval_shape(
        partial(model.apply, capture_intermediates=True), variables, IMAGES
    )
    found: dict[Any, Any] = flax.traverse_util.flatten_dict(state["intermediates"])
    inside = {value[0].dtype for path, value in found.items() if len(path) > 1}
    assert inside == {jnp.dtype("bfloat16")}
    assert result.dtype == jnp.float32
    mean, logvar = jax.eval_shape(
        partial(model.apply, method="encode"), variables, IMAGES
    )
    assert mean.dtype == logvar.dtype == jnp.float32


def test_sides_double_on_the_way_back():
    for side, latent in ((16, 2), (17, 2), (24, 3)):
        model = models.AutoencoderKL(widths=(32, 32, 32, 32), blocks=1)
        x = jnp.zeros((1, side, 8, 3))
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        mean, _ = jax.eval_shape(partial(model.apply, method="encode"), variables, x)
        assert mean.shape == (1, latent, 1, 4)
        assert jax.eval_shape(model.apply, variables, x).shape == (
            1,
            8 * latent,
            8,
            3,
        )
