"""Reverse mode against the oracle's gradients, and against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from flax_gn import group_norm, group_stats
from tests import check
from tests.cases import (
    ALL,
    BY_NAME,
    IMPLEMENTATIONS,
    function,
    inputs,
    named,
    precision,
)

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def _vjp(case, implementation):
    @jax.jit
    def run(x, gamma, beta, mask, dy):
        f = function(case, implementation)
        _, pullback = jax.vjp(lambda *primals: f(*primals, mask), x, gamma, beta)
        return pullback(dy)

    return run


@pytest.mark.parametrize(**named(ALL))
def test_matches_the_oracle(case, implementation):
    data = inputs(case)
    with precision(case.dtype, case.parameter_dtype):
        got = _vjp(case, implementation)(*data.primals, data.mask, data.dy)
    check.gradients(case, data, got, implementation)


@pytest.mark.parametrize("name", ["4d_2_groups", "mask_silu", "per_sample"])
def test_finite_differences(name, implementation):
    case = BY_NAME[name]
    data = inputs(case)
    with jax.enable_x64(True):
        primals = [jnp.asarray(a, jnp.float64) for a in data.primals]
        f = function(case, implementation)
        check_grads(
            jax.jit(lambda *primals: f(*primals, data.mask)),
            primals,
            order=1,
            modes=["rev"],
        )


def test_grad_of_a_loss(implementation):
    case = BY_NAME["silu"]
    data = inputs(case)
    f = function(case, implementation)

    @jax.jit
    def gradients(x, gamma, beta):
        return jax.grad(lambda *a: jnp.sum(f(*a) * data.dy), argnums=(0, 1, 2))(
            x, gamma, beta
        )

    check.gradients(case, data, gradients(*data.primals), implementation)


def test_value_and_grad_gives_the_forward_value(implementation):
    case = BY_NAME["silu"]
    data = inputs(case)
    f = function(case, implementation)
    y, _ = jax.jit(lambda *a: jax.vjp(f, *a))(*data.primals)
    check.values(case, data, y, implementation)
    np.testing.assert_allclose(y, jax.jit(f)(*data.primals), rtol=1e-6, atol=1e-7)


def test_gradient_is_orthogonal_to_what_the_op_ignores(implementation):
    # y does not change when x is shifted, so dx sums to zero in every group; and with
    # eps near 0 it does not change when x is scaled, so <dx, x> = 0.
    case = BY_NAME["no_affine"].__class__(
        "orthogonal", (2, 6, 8), 2, gamma="none", beta="none", eps=1e-12
    )
    data = inputs(case)
    dx, _, _ = _vjp(case, implementation)(*data.primals, None, data.dy)
    groups = np.asarray(dx).reshape(2, 6, 2, 4)
    values = data.x.reshape(2, 6, 2, 4)
    np.testing.assert_allclose(groups.sum((1, 3)), 0, atol=2e-5)
    np.testing.assert_allclose((groups * values).sum((1, 3)), 0, atol=2e-5)
    assert np.abs(groups).max() > 0.1


def test_a_constant_group_has_a_finite_gradient(implementation):
    x = jnp.full((1, 4, 4), 3.0)
    dy = np.random.default_rng(0).standard_normal((1, 4, 4)).astype(np.float32)
    _, pullback = jax.vjp(
        lambda x: group_norm(x, None, None, 2, eps=1e-4, implementation=implementation),
        x,
    )
    groups = dy.reshape(1, 4, 2, 2)
    expected = (groups - groups.mean((1, 3), keepdims=True)) / 1e-2
    np.testing.assert_allclose(pullback(dy)[0], expected.reshape(dy.shape), rtol=1e-4)


def test_gradients_of_the_statistics(implementation):
    x = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)
    mask = np.random.default_rng(1).random((2, 5, 1)) < 0.7
    weights = np.array([[1.0, 2.0], [-1.0, 0.5]], np.float32)

    def loss(x):
        mean, var = group_stats(x, 2, mask=mask, implementation=implementation)
        return jnp.sum(weights * mean) + jnp.sum(weights * var**2)

    kept = np.broadcast_to(mask, x.shape).reshape(2, 5, 2, 4).astype(np.float64)
    values = x.reshape(2, 5, 2, 4).astype(np.float64)
    count = kept.sum((1, 3), keepdims=True)
    mean = (values * kept).sum((1, 3), keepdims=True) / count
    centred = (values - mean) * kept
    var = (centred**2).sum((1, 3), keepdims=True) / count
    w = weights[:, None, :, None]
    expected = w * kept / count + w * 2 * var * 2 * centred / count
    np.testing.assert_allclose(
        jax.jit(jax.grad(loss))(x), expected.reshape(x.shape), atol=1e-5
    )


def test_mask_gets_no_gradient_and_needs_none(implementation):
    case = BY_NAME["mask_full"]
    data = inputs(case)
    f = function(case, implementation)
    grads = jax.grad(lambda a: jnp.sum(f(*a) ** 2), allow_int=True)(
        (*data.primals, data.mask)
    )
    assert grads[3].dtype == jax.dtypes.float0
    assert np.all(np.asarray(grads[0])[~data.mask] == 0)
    assert np.any(np.asarray(grads[0])[data.mask] != 0)
