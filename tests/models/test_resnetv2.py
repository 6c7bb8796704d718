"""The pre-activation network: its initial values, its layers, and its dtypes."""

import math
from functools import partial
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from flax_gn import models
from flax_gn.linen import BatchNorm, GroupNorm, WSConv

GN = partial(GroupNorm, num_groups=None, group_size=8)
SMALL = models.ResNetV2((2, 1), norm=GN, classes=10, width=16)
IMAGES = np.linspace(-1, 1, 2 * 32 * 32 * 3, dtype=np.float32).reshape(2, 32, 32, 3)


def test_initial_weights_are_fan_out_normal_and_the_head_is_small():
    variables: Any = jax.jit(SMALL.init)(jax.random.key(0, impl="rbg"), IMAGES)
    params = flax.traverse_util.flatten_dict(variables["params"], sep="/")
    for name, value in params.items():
        if name.endswith("conv2/kernel"):
            fan_out = value.shape[0] * value.shape[1] * value.shape[3]
            # The sample deviation of n values is off by the factor 1/sqrt(2 n).
            bound = 5 / math.sqrt(2 * value.size)
            assert abs(np.std(value) / math.sqrt(2 / fan_out) - 1) < bound, name
        if name.endswith("scale"):
            np.testing.assert_array_equal(value, 1.0, name)
        if name == "head/kernel":
            assert abs(np.std(value) / 0.01 - 1) < 5 / math.sqrt(2 * value.size)
        assert name == "head/bias" or "norm" in name or not name.endswith("bias")


def test_strides_are_in_the_3x3_and_shortcuts_are_projected_once_in_a_stage():
    seen = []

    def conv(features, size, *, strides, name, **options):
        seen.append((name, size[0], strides))
        return WSConv(features, size, strides=strides, name=name, **options)

    jax.eval_shape(SMALL.copy(conv=conv).init, jax.random.key(0), IMAGES)
    block = [("conv1", 1, 1), ("conv2", 3, 1), ("conv3", 1, 1)]
    halving = [("conv1", 1, 1), ("conv2", 3, 2), ("conv3", 1, 1)]
    assert seen == [
        ("stem_conv", 7, 2),
        ("shortcut_conv", 1, 1),
        *block,
        *block,
        ("shortcut_conv", 1, 2),
        *halving,
    ]


def test_takes_batch_norm_as_well():
    model = SMALL.copy(norm=partial(BatchNorm, use_running_average=False))
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    assert set(variables) == {"params", "batch_stats"}
    ours = jax.eval_shape(SMALL.init, jax.random.key(0), IMAGES)
    assert ours["params"] == variables["params"]


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters_and_logits():
    model = SMALL.copy(dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, state = jax.eval_shape(
        partial(model.apply, capture_intermediates=True), variables, IMAGES
    )
    found: dict[Any, Any] = flax.traverse_util.flatten_dict(state["intermediates"])
    inside = {
        value[0].dtype
        for path, value in found.items()
        if len(path) > 1 and path[0] != "head"
    }
    assert inside == {jnp.dtype("bfloat16")}
    assert logits.dtype == jnp.float32
