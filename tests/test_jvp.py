"""Forward mode, and products of forward and reverse mode (Hessians).

First order is held against the oracle's tangent; second order against central
differences of the oracle's gradient, in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tests import check, oracle
from tests.cases import (
    ACTIVATIONS,
    AXES,
    BY_NAME,
    FEATURES,
    IMPLEMENTATIONS,
    MASKS,
    PARAMETERS,
    SHAPES,
    function,
    inputs,
    named,
    precision,
)

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)

FIRST_ORDER = [*SHAPES[::4], *PARAMETERS[::2], *MASKS[::2], *AXES[::2], *ACTIVATIONS]
SECOND_ORDER = [case for case in FEATURES if case.dtype == "float32"]


def _along(case, data, implementation, primals, tangents):
    """The directional derivative; an absent parameter has no tangent."""
    f = function(case, implementation)

    @jax.jit
    def run(present, directions):
        def g(present):
            filled = iter(present)
            return f(*(None if a is None else next(filled) for a in primals), data.mask)

        return jax.jvp(g, (present,), (directions,))

    return run(
        *([a for a in arrays if a is not None] for arrays in (primals, tangents))
    )


@pytest.mark.parametrize(**named(FIRST_ORDER))
def test_matches_the_oracle(case, implementation):
    data = inputs(case)
    with precision(case.dtype):
        y, dy = _along(case, data, implementation, data.primals, data.tangents)
    check.values(case, data, y, implementation)
    check.tangent(case, data, dy, implementation)


def test_forward_and_reverse_agree(implementation):
    # <dy, J dx> = <J^T dy, dx>: one linear map, transposed.
    case = BY_NAME["axes_per_sample_mask"]
    data = inputs(case)
    _, dy = _along(case, data, implementation, data.primals, data.tangents)
    f = function(case, implementation)
    pullback = jax.jit(
        lambda dy: jax.vjp(lambda *a: f(*a, data.mask), *data.primals)[1](dy)
    )
    pulled = pullback(data.dy)
    forward = np.vdot(np.asarray(dy, np.float64), data.dy)
    reverse = sum(
        np.vdot(np.asarray(a, np.float64), b)
        for a, b in zip(pulled, data.tangents, strict=True)
    )
    assert forward == pytest.approx(reverse, rel=1e-5)


def test_zero_tangents_are_symbolic(implementation):
    # Only beta moves: its tangent passes through unscaled.
    case = BY_NAME["4d_2_groups"]
    data = inputs(case)
    f = function(case, implementation)
    _, dy = jax.jvp(lambda b: f(data.x, data.gamma, b), (data.beta,), (data.d_beta,))
    np.testing.assert_allclose(
        dy, np.broadcast_to(data.d_beta, case.shape), rtol=1e-6, atol=1e-7
    )


def _second_order_oracle(case, data, step=1e-5):
    """d/dt of the oracle's gradient along the tangents, by central differences."""

    def gradient(t):
        moved = [
            None if a is None else np.asarray(a, np.float64) + t * d
            for a, d in zip(data.primals, data.tangents, strict=True)
        ]
        options = case.oracle_options(data.mask)
        g = oracle.gradients(*moved, case.groups, data.dy, **options)
        return [
            value
            for value, a in zip((g.x, g.gamma, g.beta), data.primals, strict=True)
            if a is not None
        ]

    return [
        (up - down) / (2 * step)
        for up, down in zip(gradient(step), gradient(-step), strict=True)
    ]


@pytest.mark.parametrize("mode", ["forward over reverse", "reverse over forward"])
@pytest.mark.parametrize(**named(SECOND_ORDER))
def test_hessian_vector_product(case, mode, implementation):
    data = inputs(case)
    f = function(case, implementation)

    def loss(present):
        filled = iter(present)
        primals = [None if a is None else next(filled) for a in data.primals]
        return jnp.sum(f(*primals, data.mask) * data.dy.astype(np.float64))

    def product(present, directions):
        if mode == "forward over reverse":
            return jax.jvp(jax.grad(loss), (present,), (directions,))[1]
        return jax.grad(lambda p: jax.jvp(loss, (p,), (directions,))[1])(present)

    present, directions = (
        [a.astype(np.float64) for a in arrays if a is not None]
        for arrays in (data.primals, data.tangents)
    )
    with jax.enable_x64(True):
        got = jax.jit(product)(present, directions)
    for actual, expected in zip(got, _second_order_oracle(case, data), strict=True):
        scale = np.abs(expected).max(initial=1.0)
        np.testing.assert_allclose(actual, expected, atol=1e-7 * scale)


def test_hessian_is_symmetric_and_exact(implementation):
    case = BY_NAME["no_affine"].__class__(
        "hessian", (1, 3, 4), 2, gamma="none", beta="none", activation="silu"
    )
    data = inputs(case)
    f = function(case, implementation)
    with jax.enable_x64(True):
        x = data.x.astype(np.float64)
        loss = jax.jit(
            jax.hessian(lambda x: jnp.sum(f(x, None, None) * data.dy.astype(x.dtype)))
        )
        hessian = np.asarray(loss(x)).reshape(x.size, x.size)
    assert np.abs(hessian).max() > 0.1
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-12)
    options = case.oracle_options(None)
    step = 1e-5
    for i in range(x.size):
        move = np.zeros(x.size)
        move[i] = step
        up, down = (
            oracle.gradients(
                x + sign * move.reshape(x.shape), None, None, 2, data.dy, **options
            ).x
            for sign in (1, -1)
        )
        expected = (up - down).ravel() / (2 * step)
        np.testing.assert_allclose(hessian[i], expected, atol=1e-7)


@pytest.mark.parametrize("name", ["4d_2_groups", "mask_silu"])
def test_finite_differences_to_second_order(name, implementation):
    case = BY_NAME[name]
    data = inputs(case)
    f = function(case, implementation)
    with jax.enable_x64(True):
        primals = [jnp.asarray(a, jnp.float64) for a in data.primals]
        check_grads(
            jax.jit(lambda *a: f(*a, data.mask)),
            primals,
            order=2,
            modes=["fwd", "rev"],
        )


def test_jacobians_agree(implementation):
    case = BY_NAME["2d_4_groups"]
    data = inputs(case)
    f = function(case, implementation)
    forward = jax.jit(jax.jacfwd(lambda x: f(x, data.gamma, data.beta)))(data.x)
    reverse = jax.jit(jax.jacrev(lambda x: f(x, data.gamma, data.beta)))(data.x)
    np.testing.assert_allclose(forward, reverse, atol=2e-5)
    # Samples do not interact.
    for n in range(3):
        for other in set(range(3)) - {n}:
            assert np.all(np.asarray(forward)[n, :, other] == 0)


def test_linearize(implementation):
    case = BY_NAME["mask_silu"]
    data = inputs(case)
    f = function(case, implementation)
    y, linear = jax.linearize(lambda *a: f(*a, data.mask), *data.primals)
    check.values(case, data, y, implementation)
    check.tangent(case, data, linear(*data.tangents), implementation)
    twice = linear(*(2 * d for d in data.tangents))
    np.testing.assert_allclose(twice, 2 * linear(*data.tangents), rtol=1e-5, atol=1e-6)
