"""Masks: what counts, how they broadcast, and what masked positions receive."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import group_norm, group_stats
from tests import check, oracle
from tests.cases import IMPLEMENTATIONS, MASKS, Case, function, inputs

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)

N, L, C = 3, 7, 8
CASE = Case("mask", (N, L, C), 2, mask="column")


def _mask(shape, seed=0):
    return np.random.default_rng(seed).random(shape) < 0.6


@pytest.mark.parametrize(
    "shape",
    [
        (N, L),
        (N, L, 1),
        (N, 1, C),
        (1, L, 1),
        (1, 1, C),
        (N, 1, 1),
        (1, 1, 1),
        (N, L, C),
        (1, L),
        (N, 1),
    ],
    ids=str,
)
def test_it_broadcasts_truly(shape, implementation):
    data = inputs(CASE)
    mask = _mask(shape)
    mask.flat[0] = True
    full = np.broadcast_to(mask[..., None] if mask.ndim == 2 else mask, CASE.shape)
    f = jax.jit(function(CASE, implementation))
    got, want = f(*data.primals, mask), f(*data.primals, full)
    np.testing.assert_allclose(got, want, atol=2e-6)
    expected = oracle.group_norm(*data.primals, 2, mask=full)
    np.testing.assert_allclose(got, expected.y, atol=1e-5)


def test_everything_kept_is_no_mask(implementation):
    data = inputs(CASE)
    f = jax.jit(function(CASE, implementation))
    np.testing.assert_allclose(
        f(*data.primals, np.ones((N, L, 1), bool)), f(*data.primals), atol=2e-6
    )


def test_a_masked_sequence_is_a_short_sequence(implementation):
    # Padding and masking is the same as not having the padding.
    data = inputs(CASE)
    f = jax.jit(function(CASE, implementation))
    for kept in (1, 4, L):
        mask = np.arange(L)[None, :] < kept
        padded = f(*data.primals, np.broadcast_to(mask, (N, L)))
        short = f(data.x[:, :kept], *data.primals[1:])
        np.testing.assert_allclose(padded[:, :kept], short, atol=3e-6)


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
def test_masked_positions_receive_activated_beta(activation, implementation):
    case = Case("mask_beta", (N, L, C), 2, mask="column", activation=activation)
    data = inputs(case)
    y = np.asarray(jax.jit(function(case, implementation))(*data.primals, data.mask))
    hidden = ~np.broadcast_to(data.mask, y.shape)
    beta = np.broadcast_to(data.beta, y.shape)
    activate = {None: lambda z: z, "relu": jax.nn.relu, "silu": jax.nn.silu}[activation]
    np.testing.assert_allclose(
        y[hidden], np.asarray(activate(beta))[hidden], rtol=1e-6, atol=1e-7
    )


def test_masked_positions_have_no_gradient(implementation):
    data = inputs(CASE)
    f = function(CASE, implementation)
    _, pullback = jax.vjp(lambda *a: f(*a, data.mask), *data.primals)
    dx, dgamma, _ = pullback(data.dy)
    hidden = ~np.broadcast_to(data.mask, CASE.shape)
    np.testing.assert_array_equal(np.asarray(dx)[hidden], 0)
    # What the loss thinks of masked positions does not matter to x and gamma either.
    other = np.where(hidden, 100, data.dy).astype(np.float32)
    dx2, dgamma2, dbeta2 = pullback(other)
    np.testing.assert_array_equal(dx, dx2)
    np.testing.assert_array_equal(dgamma, dgamma2)
    # Beta stands at masked positions, so it does hear from them.
    np.testing.assert_allclose(dbeta2, other.sum((0, 1)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("activation", [None, "silu"])
def test_nothing_kept_gives_beta_and_a_finite_gradient(activation, implementation):
    case = Case("mask_none", (N, L, C), 2, mask="column", activation=activation)
    data = inputs(case)
    mask = np.zeros((N, L, 1), bool)
    f = function(case, implementation)
    y, pullback = jax.vjp(lambda *a: f(*a, mask), *data.primals)
    beta = data.beta if activation is None else jax.nn.silu(data.beta)
    np.testing.assert_allclose(y, np.broadcast_to(beta, y.shape), rtol=1e-6)
    dx, dgamma, dbeta = pullback(data.dy)
    np.testing.assert_array_equal(dx, 0)
    np.testing.assert_array_equal(dgamma, 0)
    assert np.all(np.isfinite(dbeta))


def test_a_single_kept_value_gives_beta(implementation):
    # Its variance is 0: it is its own mean.
    data = inputs(CASE)
    mask = np.zeros(CASE.shape, bool)
    mask[:, 3, ::4] = True
    y = function(CASE, implementation)(*data.primals, mask)
    np.testing.assert_allclose(y, np.broadcast_to(data.beta, y.shape), atol=1e-6)


@pytest.mark.parametrize("case", MASKS, ids=[c.name for c in MASKS])
def test_what_is_masked_does_not_matter(case, implementation):
    data = inputs(case)
    mask = data.mask if data.mask.ndim == data.x.ndim else data.mask[..., None]
    f = jax.jit(function(case, implementation))
    y = f(*data.primals, data.mask)
    for junk in (0, np.nan, -np.inf, 1e30):
        x = np.where(mask, data.x, np.asarray(junk, data.x.dtype))
        np.testing.assert_array_equal(
            np.asarray(f(x, data.gamma, data.beta, data.mask), np.float32),
            np.asarray(y, np.float32),
        )


def test_statistics_are_of_the_kept_values(implementation):
    x = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    mask = _mask((2, 5, 8), 3)
    mean, var = group_stats(x, 2, mask=mask, implementation=implementation)
    for n in range(2):
        for g in range(2):
            values = x[n, :, 4 * g : 4 * g + 4][mask[n, :, 4 * g : 4 * g + 4]]
            np.testing.assert_allclose(mean[n, g], values.mean(), atol=1e-6)
            np.testing.assert_allclose(var[n, g], values.var(), atol=1e-6)


def test_statistics_of_nothing_are_zero(implementation):
    x = np.full((2, 5, 8), np.nan, np.float32)
    mask = np.zeros((2, 5), bool)
    for value in group_stats(x, 2, mask=mask, implementation=implementation):
        np.testing.assert_array_equal(value, np.zeros((2, 2)))


def test_a_mask_may_be_traced(implementation):
    data = inputs(CASE)
    f = function(CASE, implementation)

    @jax.jit
    def run(x, gamma, beta, lengths):
        mask = jnp.arange(L)[None, :] < lengths[:, None]
        return f(x, gamma, beta, mask)

    lengths = np.array([2, 7, 0], np.int32)
    y = run(*data.primals, lengths)
    mask = np.arange(L)[None, :] < lengths[:, None]
    check.values(
        CASE,
        type(data)(**{**vars(data), "mask": mask}),
        y,
        implementation,
    )


def test_a_large_mean_under_a_mask(implementation):
    if implementation == "reference":
        pytest.skip("the literal equations round the mean")
    x = (1e4 + np.random.default_rng(0).standard_normal((2, 65, 8))).astype(np.float32)
    mask = _mask((2, 65))
    x[~mask] = -1e9
    y = functools.partial(group_norm, groups=2)(
        x, mask=mask, implementation=implementation
    )
    expected = oracle.group_norm(x, None, None, 2, mask=mask).y
    np.testing.assert_allclose(y, expected, atol=5e-6)


def test_two_axes_alone(implementation):
    # (N, C) input: without the channel axis a mask is one value per sample.
    x = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    mask = np.array([True, False, True, False])
    y = np.asarray(
        group_norm(x, None, None, 2, mask=mask, implementation=implementation)
    )
    whole = np.asarray(group_norm(x, None, None, 2, implementation=implementation))
    np.testing.assert_array_equal(y[~mask], 0)
    np.testing.assert_allclose(y[mask], whole[mask], atol=2e-6)
