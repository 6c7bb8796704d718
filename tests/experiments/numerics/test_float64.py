"""The truth that errors are measured from is itself held against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest

from experiments.numerics import float64


def _fractions(x, groups, eps):
    """x_hat^2 and the sign of x_hat, as fractions, by the definition."""
    samples, channels = x.shape[0], x.shape[-1]
    size = channels // groups
    flat = x.reshape(samples, -1, channels)
    squares, signs = np.empty(flat.shape, object), np.empty(flat.shape)
    for n in range(samples):
        for g in range(groups):
            part = (n, slice(None), slice(g * size, (g + 1) * size))
            values = [Fraction(float(v)) for v in flat[part].ravel()]
            mean = sum(values) / len(values)
            var = sum((v - mean) ** 2 for v in values) / len(values)
            shape = flat[part].shape
            exact = [(v - mean) ** 2 / (var + Fraction(eps)) for v in values]
            squares[part] = np.array(exact, object).reshape(shape)
            signs[part] = np.sign([float(v - mean) for v in values]).reshape(shape)
    return squares, signs


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 2), (3, 7, 6)])
def test_output_is_exact(mean, shape):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) + mean).astype(np.float32)
    squares, signs = _fractions(x, 2 if shape[-1] > 2 else 1, 1e-5)
    y = float64.group_norm(x, 2 if shape[-1] > 2 else 1, 1e-5).y
    want = (np.sqrt(squares.astype(np.float64)) * signs).reshape(shape)
    np.testing.assert_allclose(y, want, rtol=1e-9, atol=1e-15)


def test_gradients_by_finite_differences():
    rng = np.random.default_rng(1)
    x, dy, direction = rng.standard_normal((3, 2, 3, 2, 6))
    exact = float64.group_norm(x, 3, 1e-5, dy)

    def loss(t):
        return (float64.group_norm(x + t * direction, 3, 1e-5).y * dy).sum()

    step = 1e-6
    slope = (loss(step) - loss(-step)) / (2 * step)
    assert exact.dx is not None
    assert exact.dgamma is not None
    np.testing.assert_allclose((exact.dx * direction).sum(), slope, rtol=1e-8)
    np.testing.assert_allclose(exact.dgamma, (exact.y * dy).sum((0, 1, 2)), rtol=1e-12)


def test_constant_groups_are_zero():
    x = np.full((1, 5, 4), 123.456, np.float32)
    np.testing.assert_array_equal(float64.group_norm(x, 2, 1e-5).y, 0)


def test_groups_are_consecutive_channels():
    x = np.array([[-1.0, 1.0, 98.0, 102.0]])
    np.testing.assert_array_equal(float64.group_norm(x, 2, 0.0).y, [[-1, 1, -1, 1]])
