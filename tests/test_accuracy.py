"""The accuracy that the README promises, at means that defeat other group norms.

Relative error: the largest deviation from the float64 oracle over its largest value.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import group_norm
from tests import oracle, tolerances
from tests.cases import IMPLEMENTATIONS, LITERAL

ACCURATE = [name for name in (None, *IMPLEMENTATIONS) if name not in LITERAL]
SHAPE, GROUPS = (2, 32, 32, 16), 2  # groups of 8 channels at 32x32 positions
MEANS = [0.0, 1e2, 1e3, 1e4, 1e5]
OUTLIERS = [None, "first value", "first row"]


def _data(mean: float, outlier: str | None):
    rng = np.random.default_rng(7)
    x = (rng.standard_normal(SHAPE) + mean).astype(np.float32)
    if outlier == "first value":
        x[:, 0, 0, ::8] = 0
    if outlier == "first row":
        x[:, 0] = 0
    gamma = (1 + 0.3 * rng.standard_normal(SHAPE[-1])).astype(np.float32)
    beta = rng.standard_normal(SHAPE[-1]).astype(np.float32)
    dy = rng.standard_normal(SHAPE).astype(np.float32)
    return x, gamma, beta, dy


def _bar(mean: float) -> float:
    return 5e-7 if mean == 0 else 5e-6


def _relative(actual, expected) -> float:
    return float(np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max())


@functools.cache
def _compiled(implementation):
    """y and the three gradients in one program, compiled once for all means."""

    @jax.jit
    def run(x, gamma, beta, dy):
        f = functools.partial(group_norm, groups=GROUPS, implementation=implementation)
        y, pullback = jax.vjp(f, x, gamma, beta)
        return y, pullback(dy)

    return run


@pytest.mark.parametrize("outlier", OUTLIERS)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("implementation", ACCURATE)
class TestBars:
    def test_output(self, implementation, mean, outlier):
        x, _, _, dy = _data(mean, outlier)
        ones, zeros = np.ones(SHAPE[-1], np.float32), np.zeros(SHAPE[-1], np.float32)
        y, _ = _compiled(implementation)(x, ones, zeros, dy)
        expected = oracle.group_norm(x, None, None, GROUPS).y
        assert _relative(y, expected) <= _bar(mean)

    def test_output_with_parameters(self, implementation, mean, outlier):
        x, gamma, beta, dy = _data(mean, outlier)
        y, _ = _compiled(implementation)(x, gamma, beta, dy)
        expected = oracle.group_norm(x, gamma, beta, GROUPS).y
        assert _relative(y, expected) <= _bar(mean)

    def test_gradients(self, implementation, mean, outlier):
        x, gamma, beta, dy = _data(mean, outlier)
        _, got = _compiled(implementation)(x, gamma, beta, dy)
        want = oracle.gradients(x, gamma, beta, GROUPS, dy)
        for name, actual in zip(("x", "gamma", "beta"), got, strict=True):
            assert _relative(actual, getattr(want, name)) <= 10 * _bar(mean), name


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("implementation", ACCURATE)
@pytest.mark.parametrize("kind", ["positions", "channels"])
def test_masked_output(implementation, mean, kind):
    x, gamma, beta, _ = _data(mean, "first row")
    shape = (*SHAPE[:-1], 1) if kind == "positions" else SHAPE
    mask = np.random.default_rng(1).random(shape) < 0.5
    mask[:, 0] = False
    y = _masked(implementation)(x, gamma, beta, mask)
    expected = oracle.group_norm(x, gamma, beta, GROUPS, mask=mask).y
    assert _relative(y, expected) <= _bar(mean)


@functools.cache
def _masked(implementation):
    return jax.jit(
        lambda x, gamma, beta, mask: group_norm(
            x, gamma, beta, GROUPS, mask=mask, implementation=implementation
        )
    )


@pytest.mark.parametrize("implementation", ACCURATE)
@pytest.mark.parametrize("where", ["first", "centre", "last", "everywhere sampled"])
def test_outlier_anywhere(implementation, where):
    # Whatever positions a pilot is sampled from, an outlier may sit in them.
    x = _data(1e4, None)[0].reshape(SHAPE[0], -1, SHAPE[-1])
    index = {
        "first": [0],
        "centre": [SHAPE[1] // 2 * SHAPE[2] + SHAPE[2] // 2],
        "last": [-1],
        "everywhere sampled": slice(None, None, 4),
    }[where]
    x[:, index] = 0
    x = x.reshape(SHAPE)
    ones = np.ones(SHAPE[-1], np.float32)
    y, _ = _compiled(implementation)(x, ones, 0 * ones, x)
    expected = oracle.group_norm(x, None, None, GROUPS).y
    assert _relative(y, expected) <= 5e-6


@pytest.mark.parametrize("implementation", ACCURATE)
@pytest.mark.parametrize("mean", [1e2, 1e4])
def test_channels_of_a_group_with_means_of_their_own(implementation, mean):
    # A pilot per channel, or one channel's pilot for the group, would fail here.
    rng = np.random.default_rng(3)
    offsets = mean * rng.standard_normal(SHAPE[-1])
    x = (rng.standard_normal(SHAPE) + offsets).astype(np.float32)
    ones = np.ones(SHAPE[-1], np.float32)
    y, _ = _compiled(implementation)(x, ones, 0 * ones, x)
    expected = oracle.group_norm(x, None, None, GROUPS).y
    assert _relative(y, expected) <= 5e-6


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_rounded_once(implementation, dtype):
    # The statistics are float32: the only large error is the result's own rounding.
    x, gamma, beta, _ = _data(0.0, None)
    x = x.astype(jnp.dtype(dtype))
    y = jax.jit(
        functools.partial(group_norm, groups=GROUPS, implementation=implementation)
    )(x, gamma, beta)
    expected = oracle.group_norm(x, gamma, beta, GROUPS).y
    error = np.abs(np.asarray(y, np.float64) - expected)
    rounding = tolerances.unit(dtype)
    assert np.all(error <= 1.001 * rounding * np.abs(expected) + 1e-6)
    assert np.abs(y.astype(np.float32)).max() > 1


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_float64_is_computed_in_float64(implementation):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 9, 8))
    with jax.enable_x64(True):
        y = group_norm(x, None, None, 2, implementation=implementation)
    assert y.dtype == np.float64
    assert _relative(y, oracle.group_norm(x, None, None, 2).y) < 1e-15
