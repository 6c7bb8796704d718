"""Every bad call by its message: which argument, what was expected, what came."""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import flax_gn
from flax_gn import group_norm, group_stats
from tests.cases import IMPLEMENTATIONS

X = np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32)


class _Unhashable:
    __hash__ = None

    def __call__(self, z):
        return z


def _bad(identity, exception, *fragments, **arguments):
    return pytest.param(exception, fragments, arguments, id=identity)


BAD_CALLS = [
    # x
    _bad("x_list", TypeError, "x must", "floating-point array", "list", x=X.tolist()),
    _bad("x_float", TypeError, "x must", "float", x=1.0),
    _bad("x_none", TypeError, "x must", "NoneType", x=None),
    _bad("x_str", TypeError, "x must", "str", x="x"),
    _bad("x_int32", TypeError, "x must", "int32", "Cast", x=X.astype(np.int32)),
    _bad("x_uint8", TypeError, "x must", "uint8", x=X.astype(np.uint8)),
    _bad("x_bool", TypeError, "x must", "bool", x=X > 0),
    _bad(
        "x_complex",
        TypeError,
        "x must",
        "complex64. Give the real and the imaginary part of x each its own call",
        x=X.astype(np.complex64),
    ),
    _bad("x_object", TypeError, "x must", "object", x=X.astype(object)),
    _bad("x_longdouble", TypeError, "x must", "float128", x=X.astype(np.longdouble))
    if np.dtype(np.longdouble).name == "float128"
    else _bad("x_bytes", TypeError, "x must", "bytes", x=b"x"),
    _bad("x_big_endian", TypeError, "x must", ">f4", x=X.astype(">f4")),
    _bad("x_key", TypeError, "x must", "key<fry>", x=jax.random.key(0)[None, None]),
    _bad("x_masked", TypeError, "x must", "MaskedArray", x=np.ma.array(X)),
    _bad("x_abstract", TypeError, "x must", x=jax.ShapeDtypeStruct(X.shape, X.dtype)),
    _bad("x_rank_0", ValueError, "x must", "batch axis", "()", x=X[0, 0, 0]),
    _bad("x_no_channels", ValueError, "x must", "channel", "0", x=X[..., :0]),
    # groups and group_size
    _bad("groups_missing", ValueError, "groups", "group_size", "None", groups=None),
    _bad(
        "groups_twice", ValueError, "groups=2", "group_size=4", groups=2, group_size=4
    ),
    _bad("groups_zero", ValueError, "groups must be at least 1", "0", groups=0),
    _bad("groups_negative", ValueError, "groups must be at least 1", "-2", groups=-2),
    _bad("groups_three", ValueError, "groups=3", "8", "1, 2, 4, 8", groups=3),
    _bad("groups_many", ValueError, "groups=16", "divide", "8", groups=16),
    _bad("groups_huge", ValueError, "groups=", "divide", groups=10**30),
    _bad("groups_float", TypeError, "groups must be an int", "2.0", groups=2.0),
    _bad("groups_numpy_float", TypeError, "groups must", groups=np.float32(2)),
    _bad("groups_str", TypeError, "groups must be an int", "'2'", groups="2"),
    _bad("groups_true", TypeError, "groups must be an int", "True", groups=True),
    _bad("groups_numpy_true", TypeError, "groups must", "True", groups=np.True_),
    _bad("groups_list", TypeError, "groups must be an int", "[2]", groups=[2]),
    _bad("groups_array", TypeError, "groups must", "array", groups=np.array([2])),
    _bad("size_zero", ValueError, "group_size must be at least 1", "0", group_size=0),
    _bad("size_three", ValueError, "group_size=3", "divide", "8", group_size=3),
    _bad("size_float", TypeError, "group_size must", "4.0", group_size=4.0),
    # eps
    _bad("eps_negative", ValueError, "eps must be 0, or positive", "-1", eps=-1),
    _bad("eps_nan", ValueError, "eps must be 0, or", "finite", "nan", eps=np.nan),
    _bad("eps_inf", ValueError, "eps must be 0, or", "finite", "inf", eps=np.inf),
    _bad("eps_tiny", ValueError, "eps must", "float32", "1e-50", eps=1e-50),
    _bad("eps_huge", ValueError, "eps must", "float32", "1e+39", eps=1e39),
    _bad("eps_beyond_float", TypeError, "eps must", eps=10**400),
    _bad("eps_str", TypeError, "eps must", "'1e-5'", eps="1e-5"),
    _bad("eps_none", TypeError, "eps must", "None", eps=None),
    _bad("eps_true", TypeError, "eps must", "True", eps=True),
    _bad("eps_complex", TypeError, "eps must", "1j", eps=1j),
    _bad("eps_list", TypeError, "eps must", "[1e-05]", eps=[1e-5]),
    # gamma and beta
    _bad("gamma_short", ValueError, "gamma must", "(8,)", "(7,)", gamma=np.ones(7)),
    _bad("gamma_rows", ValueError, "gamma", "(2, 8)", "(3, 8)", gamma=np.ones((3, 8))),
    _bad("gamma_column", ValueError, "gamma must", "(8, 1)", gamma=np.ones((8, 1))),
    _bad("gamma_scalar", ValueError, "gamma must", "()", gamma=np.float32(1)),
    _bad("gamma_full", ValueError, "gamma must", "(2, 5, 8)", gamma=X),
    _bad("gamma_float", TypeError, "gamma must", "float", gamma=1.0),
    _bad("gamma_list", TypeError, "gamma must", "list", gamma=[1.0] * 8),
    _bad("gamma_int", TypeError, "gamma must", "int32", gamma=np.ones(8, np.int32)),
    _bad("gamma_bool", TypeError, "gamma must", "bool", gamma=np.ones(8, bool)),
    _bad("beta_short", ValueError, "beta must", "(8,)", "(7,)", beta=np.ones(7)),
    _bad("beta_rows", ValueError, "beta must", "(3, 8)", beta=np.ones((3, 8))),
    _bad("beta_complex", TypeError, "beta must", "complex", beta=np.ones(8, complex)),
    _bad("beta_list", TypeError, "beta must", "list", beta=[0.0] * 8),
    # mask
    _bad("mask_list", TypeError, "mask must", "list", mask=[True] * 5),
    _bad("mask_true", TypeError, "mask must", "bool", mask=True),
    _bad("mask_complex", TypeError, "mask must be boolean", "complex", mask=1j * X),
    _bad("mask_key", TypeError, "mask must be boolean", mask=jax.random.key(0)[None]),
    _bad("mask_vector", ValueError, "mask must", "(5,)", mask=np.ones(5, bool)),
    _bad(
        "mask_square",
        ValueError,
        "mask must have one meaning",
        "(5, 5, 1) or (1, 5, 5)",
        x=np.ones((5, 5, 5), np.float32),
        groups=5,
        mask=np.ones((5, 5), bool),
    ),
    _bad("mask_rows", ValueError, "mask", "(3, 5)", mask=np.ones((3, 5), bool)),
    _bad("mask_length", ValueError, "mask", "(2, 4)", mask=np.ones((2, 4), bool)),
    _bad("mask_rank", ValueError, "mask", mask=np.ones((2, 5, 8, 1), bool)),
    _bad("mask_width", ValueError, "mask", "(2, 5, 8)", mask=np.ones((2, 5, 4), bool)),
    # reduction_axes
    _bad("axes_empty", ValueError, "reduction_axes", "channel", reduction_axes=()),
    _bad("axes_no_channel", ValueError, "reduction_axes", "(1,)", reduction_axes=1),
    _bad("axes_twice", ValueError, "reduction_axes", "once", reduction_axes=(2, -1)),
    _bad("axes_high", ValueError, "reduction_axes", "[-3, 3)", reduction_axes=(3, 2)),
    _bad("axes_low", ValueError, "reduction_axes", "-4", reduction_axes=(-4, 2)),
    _bad("axes_float", TypeError, "reduction_axes", "2.0", reduction_axes=2.0),
    _bad("axes_str", TypeError, "reduction_axes", reduction_axes="2"),
    _bad("axes_nested", TypeError, "reduction_axes", reduction_axes=[[1], [2]]),
    # activation
    _bad("activation_name", ValueError, "activation", "'swish'", activation="swish"),
    _bad("activation_int", ValueError, "activation must", "3", activation=3),
    _bad("activation_list", ValueError, "activation", activation=["relu"]),
    _bad("activation_unhashable", ValueError, "hashable", activation=_Unhashable()),
    _bad(
        "activation_shape",
        ValueError,
        "activation must be elementwise",
        "[2,5,1]",
        activation=lambda z: z[..., :1],
    ),
    _bad("activation_sum", ValueError, "activation must", "[]", activation=jnp.sum),
    _bad(
        "activation_none",
        ValueError,
        "activation must",
        "NoneType",
        activation=lambda _: None,
    ),
    _bad(
        "activation_bool",
        ValueError,
        "activation must",
        "bool",
        activation=lambda z: z > 0,
    ),
    # axis_name and axis_index_groups
    _bad("axis_unbound", ValueError, "axis_name", "'nowhere'", axis_name="nowhere"),
    _bad("axis_int", ValueError, "axis_name", "3", axis_name=3),
    _bad("axes_unbound", ValueError, "axis_name", "'a'", axis_name=("a", "b")),
    _bad(
        "index_groups_alone",
        ValueError,
        "axis_index_groups",
        "axis_name is None",
        axis_index_groups=[[0, 1]],
    ),
    # dtype and implementation
    _bad("dtype_int", TypeError, "dtype must", "int32", dtype=np.int32),
    _bad("dtype_complex", TypeError, "dtype must", "complex", dtype=complex),
    _bad("dtype_unknown", TypeError, "dtype must", "nonsense", dtype="nonsense"),
    _bad("dtype_big_endian", TypeError, "dtype must", ">f4", dtype=">f4"),
    _bad("dtype_number", TypeError, "dtype must", "3", dtype=3),
    _bad(
        "implementation_unknown",
        ValueError,
        "implementation",
        "'reference', 'xla'",
        "'cuda'",
        implementation="cuda",
    ),
    _bad("implementation_list", ValueError, "['xla']", implementation=["xla"]),
    _bad("implementation_int", ValueError, "implementation", "1", implementation=1),
]


def _call(implementation, **arguments):
    if "group_size" in arguments and "groups" not in arguments:
        arguments["groups"] = None
    arguments = {
        "x": X,
        "groups": 2,
        "implementation": implementation,
        **arguments,
    }
    return group_norm(**arguments)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("exception", "fragments", "arguments"), BAD_CALLS)
def test_refused_with_a_message(exception, fragments, arguments, implementation):
    if "implementation" not in arguments:
        arguments = {**arguments, "implementation": implementation}
    with pytest.raises(exception) as raised:
        _call(**{"implementation": implementation, **arguments})
    message = str(raised.value)
    assert message.startswith("group_norm: ")
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "name", ["groups", "group_size", "eps", "reduction_axes", "axis_index_groups"]
)
def test_a_traced_number_is_refused(name, implementation):
    def f(value):
        arguments = {"groups": 2, name: value}
        if name == "group_size":
            arguments["groups"] = None
        if name == "axis_index_groups":
            arguments |= {"axis_name": "i", name: [[value]]}
        return group_norm(X, implementation=implementation, **arguments)

    if name == "axis_index_groups":
        f = jax.vmap(f, axis_name="i")
        value = jnp.ones(1, jnp.int32)
    else:
        value = 1
    with pytest.raises(TypeError, match=rf"group_norm: {name} must be"):
        jax.jit(f)(value)


def test_the_message_for_traced_groups_names_the_fix():
    with pytest.raises(TypeError, match=r"traced value.*static argument"):
        jax.jit(lambda g: group_norm(X, None, None, g))(2)


def test_errors_come_at_trace_time():
    # eval_shape runs nothing: what it refuses is refused before any compilation.
    with pytest.raises(ValueError, match="groups=3 must divide"):
        jax.eval_shape(functools.partial(group_norm, groups=3), X)
    with pytest.raises(ValueError, match="activation must be elementwise"):
        jax.eval_shape(
            functools.partial(group_norm, groups=2, activation=lambda z: z[0]), X
        )


@pytest.mark.parametrize(
    "groups",
    [2, np.int64(2), np.int8(2), np.uint32(2), np.array(2), jnp.asarray(2)],
    ids=lambda g: type(g).__name__ + str(getattr(g, "dtype", "")),
)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_integers_of_every_kind_are_groups(groups, implementation):
    f = functools.partial(group_norm, X, implementation=implementation)
    np.testing.assert_array_equal(f(groups=groups), f(groups=2))
    np.testing.assert_array_equal(f(group_size=groups), f(groups=4))


@pytest.mark.parametrize("eps", [1e-3, np.float32(1e-3), np.float64(1e-3), 1])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_reals_of_every_kind_are_eps(eps, implementation):
    f = functools.partial(group_norm, X, groups=2, implementation=implementation)
    np.testing.assert_array_equal(f(eps=eps), f(eps=float(eps)))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_eps_that_float64_can_hold_is_one_there(implementation):
    with jax.enable_x64(True):
        y = group_norm(
            X.astype(np.float64),
            groups=2,
            eps=1e-50,
            implementation=implementation,
        )
    assert np.all(np.isfinite(y))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("rank", range(2, 11))
def test_ranks_up_to_ten(rank, implementation):
    shape = (2, *(2 if axis < 3 else 1 for axis in range(rank - 2)), 4)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y = group_norm(x, None, None, 2, implementation=implementation)
    groups = x.astype(np.float64).reshape(2, -1, 2, 2)
    mean = groups.mean((1, 3), keepdims=True)
    expected = (groups - mean) / np.sqrt(groups.var((1, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, expected.reshape(shape), atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_reduction_axes_of_a_rank_nine_array(implementation):
    # Flax refuses (1, -1) here, as if they were the same axis.
    x = np.random.default_rng(0).standard_normal((2, 3, *(1,) * 6, 4))
    x = x.astype(np.float32)
    y = group_norm(
        x, None, None, 2, reduction_axes=(1, -1), implementation=implementation
    )
    whole = group_norm(x, None, None, 2, implementation=implementation)
    np.testing.assert_allclose(y, whole, atol=1e-6)


EMPTY = {
    "zero batch": (0, 5, 8),
    "zero spatial": (2, 0, 8),
    "zero in one of two": (2, 3, 0, 8),
    "zero batch, no spatial": (0, 8),
}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("shape", EMPTY.values(), ids=EMPTY)
def test_an_empty_array_gives_an_empty_array(shape, masked, implementation):
    x = np.zeros(shape, np.float32)
    mask = np.ones((*shape[:-1], 1), bool) if masked else None
    ones = np.ones(8, np.float32)

    def f(x, gamma, beta):
        return group_norm(x, gamma, beta, 2, mask=mask, implementation=implementation)

    y, pullback = jax.vjp(f, x, ones, ones)
    assert (y.shape, y.dtype) == (shape, np.float32)
    dx, dgamma, dbeta = pullback(y)
    assert dx.shape == shape
    np.testing.assert_array_equal(dgamma, np.zeros(8))
    np.testing.assert_array_equal(dbeta, np.zeros(8))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_statistics_of_an_empty_group_are_zero(implementation):
    x = np.zeros((2, 0, 8), np.float32)
    mean, var = group_stats(x, 2, implementation=implementation)
    np.testing.assert_array_equal(mean, np.zeros((2, 2)))
    np.testing.assert_array_equal(var, np.zeros((2, 2)))
    mean, var = group_stats(x[:0], 2, implementation=implementation)
    assert mean.shape == var.shape == (0, 2)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_eight_bit_floats_are_floats(implementation):
    x = X.astype(ml_dtypes.float8_e4m3fn)
    y = group_norm(x, None, None, 2, dtype=np.float32, implementation=implementation)
    wide = group_norm(
        x.astype(np.float32), None, None, 2, implementation=implementation
    )
    np.testing.assert_allclose(y, wide, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("norm", "bad", "message"),
    [
        (flax_gn.layer_norm, {"eps": -1}, "layer_norm: eps must be 0"),
        (flax_gn.instance_norm, {"eps": -1}, "instance_norm: eps must be 0"),
        (flax_gn.layer_norm, {"implementation": "cuda"}, "layer_norm: implementation"),
        (flax_gn.layer_norm, {"activation": jnp.sum}, "layer_norm: activation must"),
        (flax_gn.group_stats, {"groups": 3}, "group_stats: groups=3 must"),
        (flax_gn.group_stats, {"groups": 2, "mask": 1j * X}, "group_stats: mask must"),
        (flax_gn.weight_standardize, {"eps": -1}, "weight_standardize: eps must"),
        (flax_gn.weight_standardize, {"mask": X[1:, 1:]}, "to kernel's shape"),
    ],
)
def test_the_other_functions_refuse_in_their_own_words(norm, bad, message):
    with pytest.raises((TypeError, ValueError)) as raised:
        norm(X, **bad)
    assert message in str(raised.value)
    assert "group_norm" not in str(raised.value)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("eps", [0, 0.0, -0.0])
def test_an_eps_of_zero_is_none(eps, implementation):
    y = group_norm(X, groups=2, eps=eps, implementation=implementation)
    groups = X.astype(np.float64).reshape(2, 5, 2, 4)
    centred = groups - groups.mean((1, 3), keepdims=True)
    expected = centred / groups.std((1, 3), keepdims=True)
    np.testing.assert_allclose(y, expected.reshape(X.shape), atol=2e-6)
    constant = group_norm(X * 0, groups=2, eps=eps, implementation=implementation)
    assert np.isnan(constant).all()  # 0 / 0, as in Flax


def test_groups_belong_to_group_norm_alone():
    with pytest.raises(TypeError, match="groups"):
        flax_gn.layer_norm(X, groups=2)
    with pytest.raises(ValueError, match="groups=2"):
        flax_gn.instance_norm(X, groups=2)
