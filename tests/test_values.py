"""The output against the float64 oracle, over the whole table of cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flax_gn
from tests import check, oracle, tolerances
from tests.cases import (
    ALL,
    BY_NAME,
    DTYPES,
    IMPLEMENTATIONS,
    LITERAL,
    function,
    inputs,
    named,
    precision,
)

pytestmark = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)


@pytest.mark.parametrize(**named(ALL))
def test_matches_the_oracle(case, implementation):
    data = inputs(case)
    with precision(case.dtype, case.parameter_dtype):
        y = jax.jit(function(case, implementation))(*data.primals, data.mask)
    check.values(case, data, y, implementation)


@pytest.mark.parametrize("name", ["4d_2_groups", "mask_full", "axes_gap"])
def test_float32_data_at_a_mean(name, implementation):
    case = BY_NAME[name]
    data = inputs(case)
    shifted = inputs(case.__class__(**{**vars(case), "mean": 30.0}))
    np.testing.assert_allclose(shifted.x - 30, data.x, atol=1e-5)
    y = jax.jit(function(case, implementation))(*shifted.primals, shifted.mask)
    check.values(case, shifted, y, implementation)


@pytest.mark.parametrize(**named(DTYPES))
def test_output_keeps_shape_and_dtype(case, implementation):
    data = inputs(case)
    with precision(case.dtype, case.parameter_dtype):
        y = jax.eval_shape(function(case, implementation), *data.primals)
    assert (y.shape, y.dtype) == (case.shape, case.result_dtype)


@pytest.mark.parametrize(
    "name", ["4d_2_groups", "bfloat16", "float64", "mask_empty", "axes_time_apart"]
)
def test_group_stats(name, implementation):
    case = BY_NAME[name]
    data = inputs(case)
    with precision(case.dtype):
        mean, var = flax_gn.group_stats(
            data.x,
            case.groups,
            mask=data.mask,
            reduction_axes=case.reduction_axes,
            implementation=implementation,
        )
    expected = oracle.group_norm(
        data.x,
        None,
        None,
        case.groups,
        mask=data.mask,
        reduction_axes=case.reduction_axes,
    )
    compute = np.float64 if case.dtype == "float64" else np.float32
    bound = tolerances.relative(case.dtype, case.m)
    for got, want in ((mean, expected.mean), (var, expected.var)):
        assert got.shape == (*case.kept_shape, case.groups)
        assert got.dtype == compute
        tolerances.assert_close(got, want, bound * (1 + np.abs(want)))


def test_group_stats_takes_group_size(implementation):
    x = inputs(BY_NAME["4d_2_groups"]).x
    by_size = flax_gn.group_stats(x, group_size=4, implementation=implementation)
    by_number = flax_gn.group_stats(x, 2, implementation=implementation)
    for a, b in zip(by_size, by_number, strict=True):
        np.testing.assert_array_equal(a, b)


def test_variance_keeps_its_digits_at_a_large_mean(implementation):
    if implementation in LITERAL:
        pytest.skip("the literal equations round the mean")
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((2, 32, 8)) + 1e5).astype(np.float32)
    _, var = flax_gn.group_stats(x, 2, implementation=implementation)
    expected = oracle.group_norm(x, None, None, 2).var
    np.testing.assert_allclose(var, expected, rtol=1e-6)


def test_group_size_is_channels_over_groups(implementation):
    case = BY_NAME["4d_2_groups"]
    data = inputs(case)
    by_size = flax_gn.group_norm(
        *data.primals, group_size=4, implementation=implementation
    )
    by_number = flax_gn.group_norm(*data.primals, 2, implementation=implementation)
    np.testing.assert_array_equal(by_size, by_number)


@pytest.mark.parametrize("name", ["4d_2_groups", "2d_4_groups"])
def test_ends_have_the_papers_names(name, implementation):
    data = inputs(BY_NAME[name])
    channels = data.x.shape[-1]
    for norm, groups in ((flax_gn.layer_norm, 1), (flax_gn.instance_norm, channels)):
        np.testing.assert_array_equal(
            norm(*data.primals, implementation=implementation),
            flax_gn.group_norm(*data.primals, groups, implementation=implementation),
        )


def test_ends_hand_their_options_on(implementation):
    case = BY_NAME["mask_silu"]
    data = inputs(case)
    options = {
        "eps": 0.25,
        "mask": data.mask,
        "activation": "silu",
        "dtype": jnp.bfloat16,
        "implementation": implementation,
    }
    for norm, groups in ((flax_gn.layer_norm, 1), (flax_gn.instance_norm, 8)):
        got = norm(*data.primals, **options)
        assert got.dtype == jnp.bfloat16
        want = flax_gn.group_norm(*data.primals, groups, **options)
        np.testing.assert_array_equal(
            np.asarray(got, np.float32), np.asarray(want, np.float32)
        )


def test_groups_are_consecutive_channels(implementation):
    # Channels 0 and 1 share statistics, 2 and 3 share others. A strided grouping
    # (MLX without pytorch_compatible) would mix 0 with 2.
    x = np.array([[-1.0, 1.0, 98.0, 102.0]], np.float32)
    y = flax_gn.group_norm(x, None, None, 2, eps=1e-10, implementation=implementation)
    np.testing.assert_allclose(y, [[-1, 1, -1, 1]], atol=1e-6)


def test_statistics_do_not_depend_on_the_batch(implementation):
    case = BY_NAME["4d_2_groups"]
    data = inputs(case)
    f = function(case, implementation)
    alone = jax.jit(f)(data.x[1:], data.gamma, data.beta)
    together = jax.jit(f)(*data.primals)
    np.testing.assert_allclose(together[1:], alone, atol=2e-6)
    changed = data.x.copy()
    changed[0] = 1e6
    other = jax.jit(f)(changed, data.gamma, data.beta)
    np.testing.assert_array_equal(other[1:], together[1:])
