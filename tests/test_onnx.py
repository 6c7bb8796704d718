"""ONNX: its reference evaluator, and the cases that the onnx package ships.

ONNX is channels first: its arrays are moved to channels last here, and back.
"""

from typing import Any
from unittest import mock

import jax
import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.backend.test.case.node import (
    groupnormalization,
    instance_normalization,
    layernormalization,
)
from onnx.reference import ReferenceEvaluator

from flax_gn import group_norm, group_stats, instance_norm, layer_norm
from tests.cases import IMPLEMENTATIONS

OPSET = 21  # the first whose scale and bias are per channel

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def channels_first(x):
    return np.moveaxis(np.asarray(x), -1, 1)


def attributes(node) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def shipped(module, operator) -> list:
    """The (node, inputs, outputs) with which one of onnx' modules would test a
    backend."""
    found = []

    def expect(node, inputs, outputs, name):
        found.append(pytest.param(node, inputs, outputs, id=name))

    np.random.seed(0)  # noqa: NPY002  # onnx draws from the global generator
    with mock.patch.object(module, "expect", expect):
        for name, export in vars(getattr(module, operator)).items():
            if name.startswith("export"):
                export.__func__()
    assert len(found) >= 2
    return found


def case(x, groups, epsilon=None, dtype=None, seed=0):
    """gamma, beta and what the evaluator makes of them and of x, channels first."""
    rng = np.random.default_rng(seed)
    scale, bias = rng.standard_normal((2, x.shape[1])).astype(x.dtype)
    options = {"epsilon": epsilon, "stash_type": dtype}
    node = helper.make_node(
        "GroupNormalization",
        ["x", "scale", "bias"],
        ["y"],
        num_groups=groups,
        **{name: value for name, value in options.items() if value is not None},
    )
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    *values, y = (
        helper.make_tensor_value_info(name, kind, shape)
        for name, shape in (
            ("x", x.shape),
            ("scale", scale.shape),
            ("bias", bias.shape),
            ("y", x.shape),
        )
    )
    graph = helper.make_graph([node], "norm", values, [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    result: Any = ReferenceEvaluator(model).run(
        None, {"x": x, "scale": scale, "bias": bias}
    )
    return scale, bias, np.asarray(result[0])


@pytest.mark.parametrize(
    ("shape", "groups", "epsilon"),
    [
        ((2, 8, 5), 2, None),
        ((3, 6, 4, 4), 1, 1e-3),
        ((3, 6, 4, 4), 6, None),
        ((2, 12, 3, 2, 4), 4, 0.1),
        ((1, 32, 7, 7), 32, None),
        ((4, 40, 1, 1), 5, 1e-2),
    ],
    ids=str,
)
# ONNX defines the variance as E[x^2] - E[x]^2, so groups of a few values are no test.
def test_evaluator(shape, groups, epsilon, implementation):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    scale, bias, expected = case(x, groups, epsilon)
    y = jax.jit(
        lambda *operands: group_norm(
            *operands,
            eps=1e-5 if epsilon is None else epsilon,
            groups=groups,
            implementation=implementation,
        )
    )(channels_last(x), scale, bias)
    np.testing.assert_allclose(channels_first(y), expected, atol=1e-5)


def test_evaluator_with_float32_statistics_of_float16(implementation):
    # ONNX scales and shifts in float16 and rounds after each step, we once.
    x = np.random.default_rng(1).standard_normal((2, 8, 6, 6)).astype(np.float16)
    scale, bias, expected = case(x, 2, dtype=TensorProto.FLOAT)
    y = group_norm(channels_last(x), scale, bias, 2, implementation=implementation)
    assert y.dtype == expected.dtype == np.float16
    np.testing.assert_allclose(
        channels_first(y).astype(np.float32),
        expected.astype(np.float32),
        rtol=2**-10,
        atol=8 * 2**-11,  # a product and a sum of at most 8, half a unit each
    )


@pytest.mark.parametrize(
    ("node", "inputs", "outputs"), shipped(groupnormalization, "GroupNormalization")
)
def test_shipped_group_normalization(node, inputs, outputs, implementation):
    x, scale, bias = inputs
    given = attributes(node)
    y = group_norm(
        channels_last(x),
        scale,
        bias,
        given.pop("num_groups"),
        eps=given.pop("epsilon", 1e-5),
        implementation=implementation,
    )
    assert not given
    np.testing.assert_allclose(channels_first(y), outputs[0], atol=1e-5)


@pytest.mark.parametrize(
    ("node", "inputs", "outputs"),
    shipped(instance_normalization, "InstanceNormalization"),
)
def test_shipped_instance_normalization(node, inputs, outputs, implementation):
    x, scale, bias = inputs
    given = attributes(node)
    y = instance_norm(
        channels_last(x),
        scale,
        bias,
        eps=given.pop("epsilon", 1e-5),
        implementation=implementation,
    )
    assert not given
    np.testing.assert_allclose(channels_first(y), outputs[0], atol=1e-5)


@pytest.mark.parametrize(
    ("node", "inputs", "outputs"),
    shipped(layernormalization, "LayerNormalization"),
)
def test_shipped_layer_normalization(node, inputs, outputs, implementation):
    """Over the axes from ``axis`` on. ONNX' scale and bias have a value for each
    position of these; ours have one per channel, so they are applied outside."""
    x, scale, bias = inputs
    given = attributes(node)
    axis = given.pop("axis", -1) % x.ndim
    eps = given.pop("epsilon", 1e-5)
    assert not given
    axes = tuple(range(axis, x.ndim))
    options: dict[str, Any] = {
        "reduction_axes": axes,
        "implementation": implementation,
    }
    x_hat, (mean, var) = jax.jit(
        lambda x: (layer_norm(x, eps=eps, **options), group_stats(x, 1, **options))
    )(x)
    x_hat = np.asarray(x_hat)
    np.testing.assert_allclose(x_hat * scale + bias, outputs[0], atol=1e-5)
    expected_mean, expected_rstd = outputs[1:]
    np.testing.assert_allclose(mean.ravel(), expected_mean.ravel(), atol=1e-6)
    rstd = 1 / np.sqrt(var.ravel() + eps)
    np.testing.assert_allclose(rstd, expected_rstd.ravel(), rtol=1e-5)


@pytest.mark.parametrize(
    ("node", "inputs", "outputs"),
    [
        shown
        for shown in shipped(layernormalization, "LayerNormalization")
        if shown.values[1][1].ndim == 1
    ],
)
def test_shipped_layer_normalization_of_the_last_axis(
    node, inputs, outputs, implementation
):
    eps = attributes(node).get("epsilon", 1e-5)
    y = layer_norm(*inputs, eps=eps, reduction_axes=-1, implementation=implementation)
    np.testing.assert_allclose(y, outputs[0], atol=1e-5)
