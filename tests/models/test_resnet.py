"""The networks: their sizes, their initial values, and what their norms are asked."""

import math
from functools import partial
from typing import Any

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from flax_gn import models
from flax_gn.linen import BatchNorm, GroupNorm, WSConv

GN = partial(GroupNorm, num_groups=None, group_size=8)
KEY = jax.random.key(0, impl="rbg")  # compiles ten times faster than the default
BN = partial(BatchNorm, use_running_average=False)


def _parameters(model, shape=(1, 8, 8, 3)) -> dict[str, Any]:
    variables = jax.jit(model.init)(KEY, jnp.zeros(shape))
    return flax.traverse_util.flatten_dict(variables["params"], sep="/")


def _shapes(model, shape) -> dict[str, Any]:
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    return flax.traverse_util.flatten_dict(variables["params"], sep="/")


# Known numbers of parameters: torchvision's models with 1000 classes, and 0.27 million
# for ResNet-20 in He et al., table 6, to which come its two projected shortcuts.
@pytest.mark.parametrize(
    ("model", "image", "count"),
    [
        (models.resnet18, (64, 64, 3), 11_689_512),
        (models.resnet34, (64, 64, 3), 21_797_672),
        (models.resnet50, (64, 64, 3), 25_557_032),
        (models.resnet101, (64, 64, 3), 44_549_160),
        (partial(models.resnet20, norm=GN), (32, 32, 3), 272_474),
    ],
)
def test_number_of_parameters(model, image, count):
    shapes = _shapes(model(), (1, *image))
    assert sum(math.prod(leaf.shape) for leaf in shapes.values()) == count


def test_batch_norm_and_group_norm_have_the_same_parameters():
    trees = [_parameters(models.resnet8(norm=norm, stages=(1,))) for norm in (GN, BN)]
    assert trees[0].keys() == trees[1].keys()
    for name in trees[0]:
        np.testing.assert_array_equal(trees[0][name], trees[1][name], name)


@pytest.mark.parametrize("block", [models.BasicBlock, models.BottleneckBlock])
def test_each_block_starts_as_its_shortcut(block):
    last = "norm3" if block is models.BottleneckBlock else "norm2"
    model = models.ResNet((1, 1), block, GN, classes=10, width=16, stem="cifar")
    scales = {
        name: value
        for name, value in _parameters(model).items()
        if name.endswith("scale")
    }
    for name, value in scales.items():
        zero = name.split("/")[-2] == last
        np.testing.assert_array_equal(value, 0.0 if zero else 1.0, name)
    assert sum(last in name for name in scales) == 2


def test_initial_weights_are_fan_out_normal_and_the_head_is_small():
    model = models.resnet8(norm=GN, width=64, stages=(1,))
    for name, value in _parameters(model).items():
        if name.endswith("conv2/kernel"):
            fan_out = value.shape[0] * value.shape[1] * value.shape[3]
            # The sample deviation of n values is off by the factor 1/sqrt(2 n).
            bound = 5 / math.sqrt(2 * value.size)
            assert abs(np.std(value) / math.sqrt(2 / fan_out) - 1) < bound, name
            assert np.abs(value).max() > 2.3 * np.std(value), "not truncated"
        if name == "head/kernel":
            assert abs(np.std(value) / 0.01 - 1) < 5 / math.sqrt(2 * value.size)
        assert name == "head/bias" or "norm" in name or not name.endswith("bias")


def test_the_stride_is_in_the_3x3_convolution():
    seen = {}

    def conv(features, size, *, strides, name, **options):
        seen.setdefault(size[0], set()).add((strides, name))
        return nn.Conv(features, size, strides=strides, name=name, **options)

    jax.eval_shape(
        models.resnet50(conv=conv).init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))
    )
    assert (2, "conv2") in seen[3]
    assert {name for stride, name in seen[1] if stride == 2} == {"shortcut_conv"}
    assert seen[7] == {(2, "stem_conv")}


@pytest.mark.parametrize(
    ("stem", "side"), [("imagenet", 8), ("quartering", 8), ("cifar", 32)]
)
def test_stems(stem, side):
    sizes = []

    def norm(**options):
        def record(x):
            sizes.append(x.shape[1])
            return GN(**options)(x)

        return record

    model = models.ResNet(
        (1,), models.BasicBlock, norm, classes=10, width=16, stem=stem
    )
    jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sizes[-1] == side


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters_and_logits():
    model = models.resnet8(norm=GN, dtype=jnp.bfloat16)
    x = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, state = jax.eval_shape(
        partial(model.apply, capture_intermediates=True), variables, x
    )
    found: dict[str, Any] = flax.traverse_util.flatten_dict(
        state["intermediates"], sep="/"
    )
    inside = {
        value[0].dtype
        for name, value in found.items()
        if "head" not in name and not name.startswith("__call__")
    }
    assert inside == {jnp.dtype("bfloat16")}
    assert logits.dtype == jnp.float32


def test_weight_standardised_convolutions_take_the_same_parameters():
    x = np.linspace(-1, 1, 192, dtype=np.float32).reshape(1, 8, 8, 3)
    plain = models.ResNet((1,), models.BasicBlock, GN, width=8, stem="cifar")
    standardised = plain.copy(conv=WSConv)
    variables = jax.jit(plain.init)(KEY, x)
    assert _shapes(plain, x.shape) == _shapes(standardised, x.shape)
    a, b = (np.asarray(jax.jit(m.apply)(variables, x)) for m in (plain, standardised))
    assert not np.allclose(a, b, atol=1e-4)


def test_an_unknown_stem_is_refused():
    model = models.resnet8(norm=GN, stem="patches")
    with pytest.raises(ValueError, match=r"stem must be one of .*; got 'patches'"):
        model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
