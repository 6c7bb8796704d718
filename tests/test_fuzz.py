"""Anything at all as an argument: a documented result, or an error that names it.

Never an error from XLA or from inside the library, and never a wrong number.
"""

import contextlib
import fractions
import math
import re

import hypothesis
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st

from flax_gn import group_norm, group_stats
from tests import oracle, tolerances
from tests.cases import IMPLEMENTATIONS, LITERAL
from tests.test_properties import examples, masks, reduction_axes

ACTIVATIONS = ("relu", "silu", "gelu")
FLOATS = ("float32", "bfloat16", "float16")
INTEGERS = (int, np.int8, np.int64, np.uint32, np.array, jnp.asarray)
REALS = (float, np.float32, np.float64, np.array, jnp.asarray, fractions.Fraction)


class _Unhashable:
    def __hash__(self):
        raise TypeError("unhashable")


def _array(shape, dtype="float32"):
    rng = np.random.default_rng(sum(shape))
    return rng.standard_normal(shape).astype(np.dtype(dtype))


shapes = st.one_of(
    st.lists(st.sampled_from((1, 2, 3)), min_size=1, max_size=4),
    # Up to ten axes, or none of the positions, or no sample.
    st.lists(st.sampled_from((1, 1, 2)), min_size=5, max_size=9),
    st.lists(st.sampled_from((0, 2, 3)), min_size=1, max_size=4),
).flatmap(lambda lengths: st.sampled_from((1, 2, 4, 6)).map(lambda c: (*lengths, c)))

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from((0, -1, 2, 10**30, -(10**400))),
    st.floats(),
    st.sampled_from((0.0, -0.0, 2.0, math.nan, math.inf, -math.inf, 1e-50, 1e39)),
    st.sampled_from((np.float32(2), np.float64(math.nan), np.True_, np.int64(0))),
    st.complex_numbers(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.sampled_from((fractions.Fraction(-1, 2), object(), _Unhashable(), int, float)),
    st.lists(st.integers(-4, 4) | st.floats() | st.none(), max_size=3),
    st.tuples(st.integers(-4, 4), st.integers(-4, 4)),
    st.sets(st.integers(-4, 4), max_size=2),
    st.dictionaries(st.text(max_size=1), st.integers(), max_size=1),
    st.sampled_from(
        (
            np.zeros(3),
            np.zeros((0,)),
            np.ones((1, 1), np.int32),
            np.array("a"),
            np.array([None, "a"]),
            np.array(["xla", "reference"]),
        )
    ),
)


def _is_integer(value) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_number_of_groups(value, channels) -> bool:
    return _is_integer(value) and value >= 1 and channels % int(value) == 0


def _is_eps(value) -> bool:
    if isinstance(value, bool | np.bool_ | str | bytes | np.ndarray | complex):
        return False
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        least = float(jnp.finfo("float32").tiny)
        return float(value) == 0 or least <= float(value) < 3.4e38
    return False


def _are_axes(value, rank) -> bool:
    if value is None:
        return True
    axes = list(value) if isinstance(value, list | tuple) else [value]
    if not all(_is_integer(a) and -rank <= a < rank for a in axes):
        return False
    found = [int(a) % rank for a in axes]
    return rank - 1 in found and len(set(found)) == len(found)


def _is_float_dtype(value) -> bool:
    with contextlib.suppress(Exception):
        return jnp.issubdtype(value, jnp.floating)
    return value is None


wrong_x = st.one_of(
    anything,
    st.sampled_from(((), (2, 0), (0,), (2, 3, 0))).map(_array),
    st.sampled_from((np.int32, np.uint8, bool, np.complex64, object, ">f4")).map(
        lambda dtype: np.ones((2, 3, 4)).astype(dtype)
    ),
    st.just(np.ma.array(np.ones((2, 4)))),
    st.just(np.array(["a", "b"])),
    st.just(jnp.ones((2, 4), jnp.int32)),
)


def wrong_parameters(shape):
    """Neither (C,) nor (N, C) floating-point arrays, with or without axes of size 1."""
    n, *spatial, c = shape
    good = {(c,), (1, c), (n, c), (1, 1, c), (n, *(1 for _ in spatial), c)}
    other = st.lists(st.integers(0, 4), max_size=3).map(tuple)
    dtypes = st.sampled_from((np.int32, np.uint8, bool, np.complex64, object))
    return st.one_of(
        anything.filter(lambda value: value is not None),
        other.filter(lambda s: s not in good).map(_array),
        dtypes.map(lambda dtype: np.ones(shape[-1]).astype(dtype)),
    )


def wrong_masks(shape):
    """Without truth values, or without one way to broadcast."""
    other = st.lists(st.integers(0, 4), max_size=len(shape) + 1).map(tuple)
    return st.one_of(
        anything.filter(lambda v: v is not None and not hasattr(v, "shape")),
        other.filter(lambda s: len(oracle.meanings(s, shape)) != 1).map(
            lambda s: np.ones(s, bool)
        ),
        st.sampled_from((np.complex64, ">f4", object, "S1")).map(
            lambda dtype: np.ones(shape[:-1]).astype(dtype)
        ),
    )


def wrong(name: str, shape):
    """Values that an argument does not take."""
    rank, channels = len(shape), shape[-1]
    return {
        "x": wrong_x,
        "groups": anything.filter(lambda v: not _is_number_of_groups(v, channels)),
        "group_size": anything.filter(
            lambda v: v is not None and not _is_number_of_groups(v, channels)
        ),
        "eps": anything.filter(lambda v: not _is_eps(v)),
        "gamma": wrong_parameters(shape),
        "beta": wrong_parameters(shape),
        "mask": wrong_masks(shape),
        "reduction_axes": anything.filter(lambda v: not _are_axes(v, rank)),
        "activation": (
            # A function's own error is its own affair: int(z) raises one.
            anything.filter(lambda v: v is not None and not isinstance(v, type))
            | st.sampled_from((jnp.sum, jnp.isnan, jnp.shape, lambda z: z[..., None]))
        ),
        "axis_name": anything.filter(
            lambda v: v is not None and not (isinstance(v, list | tuple) and not v)
        ),
        "axis_index_groups": anything.filter(lambda v: v is not None),
        "dtype": anything.filter(lambda v: not _is_float_dtype(v)),
        "implementation": anything.filter(lambda v: v is not None),
    }[name]


NAMES = (
    "x",
    "groups",
    "group_size",
    "eps",
    "gamma",
    "beta",
    "mask",
    "reduction_axes",
    "activation",
    "axis_name",
    "axis_index_groups",
    "dtype",
    "implementation",
)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_is_named(name, implementation):
    @examples(percent=30)
    @hypothesis.given(st.data())
    def run(data):
        shape = data.draw(shapes)
        arguments = {"x": _array(shape), "groups": 1, "implementation": implementation}
        # One or two further arguments may be wrong too: one of them is named.
        others = data.draw(st.sets(st.sampled_from(NAMES), max_size=2))
        for other in sorted({name, *others}):
            arguments[other] = data.draw(wrong(other, shape), label=other)
        if "group_size" in arguments and not {"groups"} & {name, *others}:
            arguments["groups"] = None
        with pytest.raises((TypeError, ValueError)) as raised:
            group_norm(**arguments)
        message = str(raised.value)
        assert message.startswith("group_norm: "), message
        assert any(re.search(rf"\b{n}\b", message) for n in {name, *others}), message

    run()


@st.composite
def right(draw):
    """A call in every way that is documented, by the most unusual types."""
    shape = draw(shapes)
    divisors = [n for n in range(1, shape[-1] + 1) if shape[-1] % n == 0]
    groups = draw(st.sampled_from(divisors))
    as_integer, as_real = draw(st.sampled_from(INTEGERS)), draw(st.sampled_from(REALS))
    dtype = draw(st.sampled_from(FLOATS))
    axes = draw(st.none() | reduction_axes(len(shape)))
    reduced = oracle.reduced_axes(len(shape), axes)
    kept = [n for axis, n in enumerate(shape[:-1]) if axis not in reduced]
    parameters = st.sampled_from((None, shape[-1:], (*kept, shape[-1])))
    gamma, beta = draw(parameters), draw(parameters)
    mask = draw(st.none() | masks(shape))
    call = {
        "x": _array(shape, dtype),
        "gamma": None
        if gamma is None
        else _array(gamma, draw(st.sampled_from(FLOATS))),
        "beta": None if beta is None else jnp.asarray(_array(beta)),
        "eps": as_real(draw(st.sampled_from((1e-5, 1e-2, 1.0)))),
        "mask": None if mask is None else _array(mask) > -0.5,
        "reduction_axes": axes,
        "activation": draw(st.sampled_from((None, *ACTIVATIONS))),
        "dtype": draw(st.sampled_from((None, *FLOATS, jnp.bfloat16, np.float32))),
    }
    if draw(st.booleans()):
        call["groups"] = as_integer(groups)
    else:
        call["group_size"] = as_integer(shape[-1] // groups)
    return groups, call


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_what_is_right_gives_the_right_numbers(implementation):
    @examples(percent=25)
    @hypothesis.given(right())
    def run(given):
        groups, call = given
        x, gamma, beta = call["x"], call["gamma"], call["beta"]
        y = group_norm(**call, implementation=implementation)
        assert y.shape == x.shape
        out = x.dtype if call["dtype"] is None else np.dtype(call["dtype"])
        assert y.dtype == out
        axes = call["reduction_axes"]
        forward = oracle.group_norm(
            x,
            gamma,
            beta,
            groups,
            eps=float(call["eps"]),
            mask=call["mask"],
            reduction_axes=axes,
            activation=call["activation"],
        )
        reduced = tuple(oracle.reduced_axes(x.ndim, axes))
        gamma, beta = (
            p
            if p is None or p.ndim == 1
            else np.expand_dims(np.asarray(p, np.float64), reduced)
            for p in (gamma, beta)
        )
        bound = tolerances.values(
            forward,
            x,
            gamma,
            beta,
            x.dtype,
            oracle.group_values(x.shape, groups, axes),
            out=out,
            literal=implementation in LITERAL,
        )
        tolerances.assert_close(y, forward.y, bound)

    run()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_statistics_refuse_likewise(implementation):
    names = ("x", "groups", "group_size", "mask", "reduction_axes", "axis_name")

    @examples(percent=100)
    @hypothesis.given(st.data())
    def run(data):
        shape = data.draw(shapes)
        name = data.draw(st.sampled_from(names))
        arguments = {"x": _array(shape), "groups": 1, "implementation": implementation}
        arguments[name] = data.draw(wrong(name, shape))
        if name == "group_size":
            arguments["groups"] = None
        with pytest.raises(
            (TypeError, ValueError), match=rf"^group_stats: .*\b{name}\b"
        ):
            group_stats(**arguments)

    run()


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e5m2, np.float16])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_narrow_floats_are_taken_at_their_word(dtype, implementation):
    x = np.linspace(-2, 2, 24).reshape(2, 3, 4).astype(dtype)
    y = group_norm(x, groups=2, implementation=implementation, dtype="float32")
    expected = oracle.group_norm(x.astype(np.float64), None, None, 2).y
    np.testing.assert_allclose(y, expected, atol=2e-6)
