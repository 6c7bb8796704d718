"""The detector: what its levels see, and what they share."""

from functools import partial
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn.linen import BatchNorm, GroupNorm
from flax_gn.models import FCOS

GN = partial(GroupNorm, num_groups=None, group_size=8)
BN = partial(BatchNorm, use_running_average=False)
KEY = jax.random.key(0, impl="rbg")


def _initialised(model, shape=(1, 32, 32, 3)):
    x = jax.random.normal(KEY, shape)
    return x, jax.jit(model.init)(KEY, x)


def _flat(variables) -> dict[str, Any]:
    return flax.traverse_util.flatten_dict(variables["params"], sep="/")


def test_the_untrained_network_sees_objects_with_the_prior_and_of_the_strides_size():
    model = FCOS(norm=GN, classes=3, prior=0.02, tower=1)
    x, variables = _initialised(model)
    levels = jax.jit(model.apply)(variables, x)
    for stride, level in zip((4, 8, 16), levels, strict=True):
        side = 32 // stride
        assert level.classes.shape == (1, side, side, 3)
        assert level.centerness.shape == (1, side, side)
        assert level.distances.shape == (1, side, side, 4)
        # Last kernels of N(0, 0.01^2) leave the biases standing.
        np.testing.assert_allclose(jax.nn.sigmoid(level.classes), 0.02, rtol=1)
        np.testing.assert_allclose(level.distances, stride, rtol=0.7)
        assert level.distances.dtype == jnp.float32


def _shapes(model):
    variables = jax.eval_shape(model.init, KEY, jnp.zeros((1, 32, 32, 3)))
    return {name: leaf.shape for name, leaf in _flat(variables).items()}


def test_batch_norm_and_group_norm_have_the_same_parameters():
    assert _shapes(FCOS(norm=GN)) == _shapes(FCOS(norm=BN))


def test_levels_share_the_heads_convolutions_and_not_their_norms():
    names = set(_shapes(FCOS(norm=GN, stages=(1, 1), tower=1)))
    heads = {name.split("/")[0] for name in names if name.startswith(("cl", "bo"))}
    norms = {f"{of}_norm1_{stride}" for of in ("classes", "boxes") for stride in (4, 8)}
    assert heads == {"classes_conv1", "boxes_conv1"} | norms
    assert {"logits/bias", "centerness/bias", "distances/bias"} < names


@pytest.mark.parametrize(("level", "stride"), [(0, 4), (1, 8)])
def test_a_position_looks_at_the_point_that_it_stands_for(level, stride):
    """The gradient for the input is symmetric about ((j + 1/2) s, (i + 1/2) s), nearly.

    With stride 2 and padding (1, 1) a 3x3 convolution looks half a pixel up and left of
    the middle of its two-pixel cell, and so at every level: half a stride in all.
    """
    model = FCOS(norm=lambda **_: lambda x: x, stages=(1, 1), tower=0)
    x, variables = _initialised(model, (1, 64, 64, 3))
    i, j = 32 // stride, 24 // stride

    def seen(x):
        levels = model.apply(variables, x)
        return levels[level].centerness[0, i, j]

    weight = np.sum(np.abs(jax.jit(jax.grad(seen))(x)[0]), -1)
    at = np.arange(64) + 0.5
    row, column = (np.sum(weight.sum(axis) * at) / weight.sum() for axis in (1, 0))
    assert row == pytest.approx((i + 0.5) * stride, abs=stride)
    assert column == pytest.approx((j + 0.5) * stride, abs=stride)


def test_parameters_stay_float32_and_so_do_the_boxes_in_bfloat16():
    model = FCOS(norm=GN, stages=(1,), tower=1, dtype=jnp.bfloat16)
    x, variables = _initialised(model)
    [level] = jax.jit(model.apply)(variables, x)
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, level))} == {
        jnp.dtype("float32")
    }
    whole = jax.jit(model.clone(dtype=jnp.float32).apply)(variables, x)[0]
    # Three digits of bfloat16 through five layers, on numbers of about 4.
    np.testing.assert_allclose(level.distances, whole.distances, rtol=0.05)
    assert not np.array_equal(level.distances, whole.distances)


def test_sides_that_are_no_multiple_of_the_coarsest_stride_are_refused():
    with pytest.raises(
        ValueError, match=r"coarsest stride, 16; got .*\(1, 32, 40, 3\)"
    ):
        _initialised(FCOS(norm=GN), (1, 32, 40, 3))
