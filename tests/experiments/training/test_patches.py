"""The convolution by patches against XLA's."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from experiments.training import patches


@pytest.mark.parametrize(
    ("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (5, 3), (5, 4)]
)
@pytest.mark.parametrize("side", [9, 12])
def test_values_and_gradients_of_images(size, stride, side):
    _check((side, side + 1), (size, size), (stride, stride))


@pytest.mark.parametrize(
    ("window", "strides"),
    [((3, 3, 3), (1, 1, 1)), ((3, 1, 1), (1, 2, 2)), ((1, 3, 5), (1, 2, 3))],
)
def test_values_and_gradients_of_volumes(window, strides):
    _check((5, 6, 7), window, strides)


def test_values_and_gradients_of_sequences():
    _check((11,), (3,), (2,))


def _check(sides, window, strides):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, *sides, 3)).astype(np.float32)
    kernel = generator.normal(size=(*window, 3, 4)).astype(np.float32)
    padding = [(size // 2, size // 2) for size in window]

    def run(conv):
        def f(x, kernel):
            return conv(x, kernel, strides, padding, dimension_numbers=names)

        names = nn.linear._conv_dimension_numbers(x.shape)

        def all_three(x, kernel):
            y, transpose = jax.vjp(f, x, kernel)
            return y, *transpose(y)

        return jax.jit(all_three)(x, kernel)

    got, want = run(patches.conv), run(jax.lax.conv_general_dilated)
    taps, positions = math.prod(window), math.prod(sides)
    for a, b, terms in zip(got, want, (taps * 3, taps * 4, 2 * positions), strict=True):
        # Sums of `terms` products, in two orders.
        scale = np.abs(b).max() * 2.0**-24
        np.testing.assert_allclose(a, b, rtol=0, atol=4 * np.sqrt(terms) * scale)


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "SAME"},
        {"rhs_dilation": (2, 2)},
        {"lhs_dilation": (2, 1)},
        {"feature_group_count": 3},
    ],
)
def test_what_it_cannot_do_is_refused(options):
    arguments = {"window_strides": (1, 1), "padding": [(1, 1)] * 2} | options
    x, kernel = jnp.zeros((1, 4, 4, 3)), jnp.zeros((3, 3, 3, 3))
    with pytest.raises(NotImplementedError, match="plain convolution"):
        patches.conv(x, kernel, **arguments)
