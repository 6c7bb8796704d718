"""The U-Net: what it keeps, what it sees, and over which axes its norms look."""

from functools import partial
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from flax_gn.linen import BatchNorm, GroupNorm
from flax_gn.models import UNet

GN = partial(GroupNorm, num_groups=None, group_size=4)
BN = partial(BatchNorm, use_running_average=False)
KEY = jax.random.key(0, impl="rbg")
SHAPES = [(2, 16, 8, 1), (2, 8, 4, 4, 1)]


def _flat(model, shape) -> dict[str, Any]:
    variables = jax.eval_shape(model.init, KEY, jnp.zeros(shape))
    return flax.traverse_util.flatten_dict(variables["params"], sep="/")


def _jitted(model, x):
    variables = jax.jit(model.init)(KEY, x)
    # The last layer starts near zero, and hides what happens before it.
    variables["params"]["head"]["kernel"] *= 100
    return variables, jax.jit(model.apply)


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_and_group_norm_have_the_same_parameters(shape):
    bn, gn = (_flat(UNet(norm=norm, width=4), shape) for norm in (BN, GN))
    assert {k: v.shape for k, v in bn.items()} == {k: v.shape for k, v in gn.items()}
    axes = len(shape) - 2
    assert gn["encoder1_down/kernel"].shape == (*(3,) * axes, 4, 8)
    assert gn["decoder0_conv1/kernel"].shape == (*(3,) * axes, 4 + 4, 4)
    assert gn["head/kernel"].shape == (4, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_added_to_the_input_of_a_norm_does_not_count(shape):
    """So the statistics are over every spatial axis: the contrast stays, not the level.

    Zero padding tells the edges of a constant from its middle, so that the padding is
    left out: with windows of one position nothing but the norms is left.
    """

    def one_position(features, window, *, strides, padding, **rest):
        del window, padding
        axes = len(strides)
        return nn.Conv(
            features, (1,) * axes, strides=strides, padding=[(0, 0)] * axes, **rest
        )

    model = UNet(norm=partial(GN, group_size=None, num_groups=1), width=4)
    model = model.clone(conv=one_position)
    x = jax.random.normal(KEY, shape)
    variables, apply = _jitted(model, x)
    # One channel in, one kernel of one position: the level becomes a level per channel,
    # and one group for all channels removes it only if kernels agree; let them.
    first = variables["params"]["encoder0_conv1"]
    first["kernel"] = jnp.ones_like(first["kernel"])
    y, shifted, scaled = (apply(variables, x_) for x_ in (x, x + 3, 7 * x))
    np.testing.assert_allclose(shifted, y, atol=2e-4)
    np.testing.assert_allclose(scaled, y, atol=2e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_group_norm_never_looks_at_the_other_examples(shape):
    x = jax.random.normal(KEY, shape)
    variables, apply = _jitted(UNet(norm=GN, width=4), x)
    np.testing.assert_allclose(
        apply(variables, x)[:1], apply(variables, x[:1]), atol=1e-4
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_every_output_sees_its_own_position_and_the_coarsest_level(shape):
    """Without norms a position sees itself most, and far ones through the middle."""
    model = UNet(norm=lambda **_: lambda x: x, width=4)
    x = jax.random.normal(KEY, shape)
    variables, apply = _jitted(model, x)
    at = tuple(side // 2 for side in shape[1:-1])

    def seen(x):
        return jnp.sum(apply(variables, x)[(0, *at)] ** 2)

    weight = np.abs(jax.jit(jax.grad(seen))(x)[0, ..., 0])
    assert weight[at] > 0
    far = (shape[1] - 1, *at[1:])
    assert weight[far] > 0, "through the coarsest level"
    assert weight.sum() > weight[at]


def test_logits_are_float32_in_bfloat16():
    x = jax.random.normal(KEY, (1, 8, 8, 1))
    model = UNet(norm=GN, width=4, dtype=jnp.bfloat16)
    variables, apply = _jitted(model, x)
    y = apply(variables, x)
    whole = jax.jit(model.clone(dtype=jnp.float32).apply)(variables, x)
    assert y.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    # Three digits of bfloat16 through twelve layers, on numbers of about 1.
    np.testing.assert_allclose(y, whole, atol=0.1 * np.abs(whole).max())
    assert not np.array_equal(y, whole)


@pytest.mark.parametrize("shape", [(2, 8), (1, 6, 8, 1), (1, 8, 8, 2, 1)])
def test_sides_that_cannot_be_halved_are_refused(shape):
    with pytest.raises(ValueError, match="multiples of 4, to be halved 2 times; got"):
        _flat(UNet(norm=GN, width=4), shape)
