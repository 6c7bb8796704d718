"""The PyTorch layer of the review that the project started from, and how we differ.

With s the sample standard deviation of the m values of a group, the review computes

    y = gamma * (x - mean) / (s + e) + beta,    s^2 = sum of (x - mean)^2 / (m - 1),

and the paper, and so we,

    y = gamma * (x - mean) / sqrt(var + eps) + beta,    var = (m - 1) / m * s^2.

Two departures: the sample variance in place of the biased one, and the epsilon outside
the root (1e-10) in place of inside (1e-5). Neither is followed here: checkpoints and
every other library have the paper's. The tests write down what each costs.
"""

import math

import jax
import numpy as np
import pytest

from flax_gn import group_norm, instance_norm, layer_norm
from tests.cases import IMPLEMENTATIONS

TINY = 1e-30  # an epsilon that is nothing beside any variance here
SHAPE, GROUPS = (3, 6, 5, 4), 2
M = 3 * 5 * 4

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def review(x, gamma, beta, groups, e=1e-10):
    """The review's layer on (N, C, H, W), with gamma and beta of (C, 1, 1)."""
    values = x.reshape(x.shape[0], groups, -1)
    mean = values.mean(-1, keepdims=True)
    std = values.std(-1, ddof=1, keepdims=True)
    return gamma * ((values - mean) / (std + e)).reshape(x.shape) + beta


def sample_std(x, groups):
    """The review's s, for each value of (N, C, H, W)."""
    values = x.reshape(x.shape[0], groups, -1)
    std = values.std(-1, ddof=1, keepdims=True)
    return np.broadcast_to(std, values.shape).reshape(x.shape)


def ours(x, gamma, beta, groups, eps, implementation):
    """Our op on the review's layout."""
    y = group_norm(
        np.moveaxis(x, 1, -1),
        gamma.ravel(),
        beta.ravel(),
        groups,
        eps=eps,
        implementation=implementation,
    )
    return np.moveaxis(np.asarray(y), -1, 1)


def data(shape=SHAPE, seed=0):
    """x with a deviation of its own for each sample and group, gamma and beta."""
    rng = np.random.default_rng(seed)
    deviation = np.repeat(10 ** rng.uniform(-2, 2, (shape[0], GROUPS)), 3, 1)
    x = rng.standard_normal(shape) * deviation[..., None, None] + 1
    gamma, beta = rng.standard_normal((2, shape[1], 1, 1))
    return x, gamma, beta


NONE = np.ones((6, 1, 1)), np.zeros((6, 1, 1))


@pytest.mark.parametrize("eps", [TINY, 1e-5, 0.1])
@pytest.mark.parametrize("e", [1e-10, 1e-3])
def test_the_relation_is_exact(e, eps, implementation):
    x, _, _ = data()
    s = sample_std(x, GROUPS)
    factor = (s + e) / np.sqrt((M - 1) / M * s**2 + eps)
    np.testing.assert_allclose(
        ours(x, *NONE, GROUPS, eps, implementation),
        factor * review(x, *NONE, GROUPS, e),
        rtol=1e-10,
        atol=1e-12,
    )


def test_first_departure_alone_is_one_factor(implementation):
    """Without epsilons the sample variance makes the review smaller by
    sqrt((m - 1) / m), whatever x is."""
    x, _, _ = data()
    np.testing.assert_allclose(
        ours(x, *NONE, GROUPS, TINY, implementation),
        math.sqrt(M / (M - 1)) * review(x, *NONE, GROUPS, e=0),
        rtol=1e-10,
        atol=1e-12,
    )


@pytest.mark.parametrize("side", [2, 8, 32])
def test_first_departure_vanishes_as_groups_grow(side, implementation):
    x, gamma, beta = data((2, 6, side, side))
    m = 3 * side**2
    got = ours(x, gamma, 0 * beta, GROUPS, TINY, implementation)
    gap = np.abs(got - review(x, gamma, 0 * beta, GROUPS)).max() / np.abs(got).max()
    np.testing.assert_allclose(gap, 1 / (2 * m), rtol=1 / m)


def test_second_departure_alone_is_the_size_of_epsilon_over_the_deviation(
    implementation,
):
    """With the first factor taken out: e / s for the review, eps / (2 var) for us."""
    x, _, _ = data()
    first = math.sqrt(M / (M - 1))
    s = sample_std(x, GROUPS)
    e, eps = 1e-6, 1e-8
    ratio = ours(x, *NONE, GROUPS, eps, implementation) / (
        first * review(x, *NONE, GROUPS, e)
    )
    expected = e / s - eps / (2 * s**2 * (M - 1) / M)
    np.testing.assert_allclose(ratio - 1, expected, atol=1e-8)


def test_no_epsilon_of_ours_is_the_reviews(implementation):
    """The epsilon inside the root that would equal the review's, (s + e)^2 - var,
    depends on the group; the one that fits the first group misses the others."""
    x, _, _ = data()
    e = 1e-2
    s = sample_std(x, GROUPS)
    fitting = (s + e) ** 2 - s**2 * (M - 1) / M
    expected = review(x, *NONE, GROUPS, e)
    got = ours(x, *NONE, GROUPS, float(fitting[0, 0, 0, 0]), implementation)
    np.testing.assert_allclose(got[0, :3], expected[0, :3], rtol=1e-10, atol=1e-12)
    assert np.abs(got[0, 3:] / expected[0, 3:] - 1).min() > 1e-2


def test_equal_in_the_limit(implementation):
    """Large groups and a large variance: both departures vanish together."""
    rng = np.random.default_rng(0)
    x = 1e3 * rng.standard_normal((1, 6, 128, 128))
    _, gamma, beta = data()
    np.testing.assert_allclose(
        ours(x, gamma, beta, GROUPS, 1e-5, implementation),
        review(x, gamma, beta, GROUPS),
        rtol=2e-5,
        atol=1e-4,
    )


def test_the_review_is_had_by_folding_the_factor_into_gamma(implementation):
    x, gamma, beta = data()
    folded = gamma * math.sqrt((M - 1) / M)
    np.testing.assert_allclose(
        ours(x, folded, beta, GROUPS, TINY, implementation),
        review(x, gamma, beta, GROUPS),
        rtol=1e-7,  # e / s, s being 0.01 or more
        atol=1e-7,
    )


def test_the_derivative_has_the_same_factor(implementation):
    x, gamma, beta = data()
    dx = np.random.default_rng(5).standard_normal(x.shape) * sample_std(x, GROUPS)
    h = 1e-5
    by_difference = (
        review(x + h * dx, gamma, beta, GROUPS)
        - review(x - h * dx, gamma, beta, GROUPS)
    ) / (2 * h)
    _, tangent = jax.jvp(
        lambda x: group_norm(
            x, gamma.ravel(), beta.ravel(), 2, eps=TINY, implementation=implementation
        ),
        (np.moveaxis(x, 1, -1),),
        (np.moveaxis(dx, 1, -1),),
    )
    np.testing.assert_allclose(
        np.moveaxis(np.asarray(tangent), -1, 1),
        math.sqrt(M / (M - 1)) * by_difference,
        rtol=1e-6,
        atol=1e-7,
    )


@pytest.mark.parametrize(("norm", "groups"), [(layer_norm, 1), (instance_norm, 6)])
def test_one_group_and_one_channel_per_group(norm, groups, implementation):
    x, gamma, beta = data()
    m = x[0].size // groups
    y = norm(
        np.moveaxis(x, 1, -1),
        gamma.ravel(),
        eps=TINY,
        implementation=implementation,
    )
    np.testing.assert_allclose(
        np.moveaxis(np.asarray(y), -1, 1),
        math.sqrt(m / (m - 1)) * review(x, gamma, 0 * beta, groups),
        rtol=1e-6,
        atol=1e-6,
    )


def test_a_nearly_constant_group_is_damped_not_blown_up(implementation):
    """A deviation of 1e-7 is rounding noise. The review scales it to 1, the paper's
    epsilon keeps it at 1e-7 / sqrt(1e-5)."""
    x = 1e-7 * np.random.default_rng(0).standard_normal(SHAPE)
    assert review(x, *NONE, GROUPS).std() > 0.9
    y = ours(x, *NONE, GROUPS, 1e-5, implementation)
    np.testing.assert_allclose(y.std(), 1e-7 / math.sqrt(1e-5), rtol=0.1)


def test_a_group_of_one_value_gives_beta(implementation):
    """m - 1 is 0 there, and the review's output NaN."""
    x, gamma, beta = data((3, 6, 1, 1))
    with np.errstate(invalid="ignore"), pytest.warns(RuntimeWarning):
        assert np.isnan(review(x, gamma, beta, 6)).all()
    y = ours(x, gamma, beta, 6, 1e-5, implementation)
    np.testing.assert_array_equal(y, np.broadcast_to(beta, x.shape))
