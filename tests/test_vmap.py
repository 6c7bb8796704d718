"""vmap, over x and over everything else that is an array."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_gn import group_norm
from tests import check
from tests.cases import (
    BY_NAME,
    FEATURES,
    IMPLEMENTATIONS,
    Inputs,
    function,
    inputs,
    named,
    precision,
)

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


def _stacked(case, count=3):
    """Different data for every member of the mapped axis."""
    members = [inputs(case, seed) for seed in range(count)]

    def stack(name):
        values = [getattr(member, name) for member in members]
        return None if values[0] is None else np.stack(values)

    return members, Inputs(*map(stack, vars(members[0])))


@pytest.mark.parametrize(**named(FEATURES))
def test_over_every_argument(case, implementation):
    members, data = _stacked(case)
    with precision(case.dtype):
        y = jax.jit(jax.vmap(function(case, implementation)))(*data.primals, data.mask)
    for member, value in zip(members, y, strict=True):
        check.values(case, member, value, implementation)


@pytest.mark.parametrize(**named(FEATURES))
def test_gradients_over_every_argument(case, implementation):
    members, data = _stacked(case)
    f = function(case, implementation)

    def pull(x, gamma, beta, mask, dy):
        return jax.vjp(lambda *a: f(*a, mask), x, gamma, beta)[1](dy)

    with precision(case.dtype):
        got = jax.jit(jax.vmap(pull))(*data.primals, data.mask, data.dy)
    for i, member in enumerate(members):
        mine = [None if a is None else a[i] for a in got]
        check.gradients(case, member, mine, implementation)


@pytest.mark.parametrize("mapped", ["x", "gamma", "beta", "gamma and beta", "mask"])
def test_over_some_arguments(mapped, implementation):
    case = BY_NAME["mask_silu"]
    members, stacked = _stacked(case)
    names = ("x", "gamma", "beta", "mask")
    axes = tuple(0 if name in mapped.split(" and ") else None for name in names)
    pick = [
        getattr(stacked if axis == 0 else members[0], name)
        for name, axis in zip(names, axes, strict=True)
    ]
    y = jax.jit(jax.vmap(function(case, implementation), in_axes=axes))(*pick)
    for i, value in enumerate(y):
        chosen = {
            name: getattr(members[i if axis == 0 else 0], name)
            for name, axis in zip(names, axes, strict=True)
        }
        data = Inputs(**{**vars(members[0]), **chosen})
        check.values(case, data, value, implementation)


@pytest.mark.parametrize("in_axis", [1, 2, -1])
def test_over_another_axis(in_axis, implementation):
    case = BY_NAME["4d_2_groups"]
    members, data = _stacked(case)
    x = np.moveaxis(data.x, 0, in_axis)
    f = jax.vmap(function(case, implementation), (in_axis, 0, 0), out_axes=1)
    y = jax.jit(f)(x, data.gamma, data.beta)
    for i, member in enumerate(members):
        check.values(case, member, y[:, i], implementation)


def test_nested(implementation):
    case = BY_NAME["2d_4_groups"]
    members, data = _stacked(case, 4)
    x = data.x.reshape(2, 2, *case.shape)
    gamma = data.gamma.reshape(2, 2, -1)
    beta = data.beta.reshape(2, 2, -1)
    y = jax.jit(jax.vmap(jax.vmap(function(case, implementation))))(x, gamma, beta)
    for i, member in enumerate(members):
        check.values(case, member, y[i // 2, i % 2], implementation)


def test_per_example_gradients(implementation):
    # As differential privacy takes them: the parameters are shared, each example has
    # a gradient of its own, and their sum is the batch gradient.
    case = BY_NAME["silu"]
    data = inputs(case)
    f = function(case, implementation)

    def loss(gamma, beta, x, dy):
        return jnp.sum(f(x[None], gamma, beta)[0] * dy)

    per_example = jax.jit(
        jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(None, None, 0, 0))
    )(data.gamma, data.beta, data.x, data.dy)
    summed = [np.asarray(g).sum(0) for g in per_example]
    assert not np.allclose(per_example[0][0], per_example[0][1])
    _, pullback = jax.vjp(f, *data.primals)
    for got, want in zip(summed, pullback(data.dy)[1:], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_an_axis_name_of_vmap_shares_statistics(implementation):
    # vmap's axis names work as those of pmap: four parts of one sample.
    x = np.random.default_rng(0).standard_normal((2, 8, 6)).astype(np.float32)
    parts = np.stack(np.split(x, 4, axis=1))
    y = jax.vmap(
        lambda x: group_norm(
            x, None, None, 2, axis_name="parts", implementation=implementation
        ),
        axis_name="parts",
    )(parts)
    whole = group_norm(x, None, None, 2, implementation=implementation)
    np.testing.assert_allclose(np.concatenate(y, axis=1), whole, atol=2e-6)


def test_jvp_under_vmap(implementation):
    case = BY_NAME["per_sample"]
    members, data = _stacked(case)
    f = function(case, implementation)

    def along(primals, tangents):
        return jax.jvp(f, primals, tangents)[1]

    got = jax.jit(jax.vmap(along))(data.primals, data.tangents)
    for member, value in zip(members, got, strict=True):
        check.tangent(case, member, value, implementation)
