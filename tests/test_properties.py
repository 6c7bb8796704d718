"""Generated calls against the float64 oracle, and properties that need no oracle.

Compiling costs a thousand times what running does, so one generated call is compiled
once, with its derivatives in the same program, and then run on many generated inputs.
`--hypothesis-profile=long` generates fifty times as many calls.
"""

import dataclasses
import functools
import math
from typing import Any

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from jax.test_util import check_jvp, check_vjp

from tests import check, oracle
from tests.cases import IMPLEMENTATIONS, Case, function, inputs, precision

DTYPES = ("float32", "bfloat16", "float16", "float64")
MEANS = (0.0, 1.0, -30.0, 1e3, -1e4, 1e5)
LARGEST_MEAN = {"float16": 1e3}
SCALES = (1.0, 1e-2, 30.0)

INPUTS = 20
"""Inputs that every generated call is run on."""

GENERATED = 2000
"""Least number of inputs that test_matches_the_oracle goes through in all."""


def examples(percent: int) -> hypothesis.settings:
    """A share of the profile's number of examples, for tests that compile."""
    number = hypothesis.settings().max_examples * percent // 100
    return hypothesis.settings(max_examples=max(1, number))


@dataclasses.dataclass(frozen=True)
class Call:
    """A case, and the shape of its mask or None."""

    case: Case
    mask: tuple[int, ...] | None


@dataclasses.dataclass(frozen=True)
class Data:
    """What a call is run on."""

    seed: int
    mean: float
    scale: float
    density: float


@st.composite
def calls(draw, dtype: str, *, smooth: bool = False, empty: bool = True) -> Call:
    """Any call: rank 2 to 6, sizes from 0 or 1, every mask that broadcasts."""
    sizes = st.sampled_from((1, 2, 3, 4, 5, 7, *((0,) if empty else ())))
    lengths = draw(st.lists(sizes, min_size=1, max_size=5))
    while math.prod(lengths) > 120:  # tiny arrays, whatever their rank
        lengths = [min(n, max(lengths) - 1) for n in lengths]
    groups = draw(st.sampled_from((1, 2, 3, 4)))
    shape = (*lengths, groups * draw(st.sampled_from((1, 2, 3, 5))))
    case = Case(
        name="",
        shape=shape,
        groups=groups,
        dtype=dtype,
        gamma=draw(st.sampled_from(("channel", "sample", "none"))),
        beta=draw(st.sampled_from(("channel", "sample", "none"))),
        reduction_axes=draw(st.none() | reduction_axes(len(shape))),
        activation=draw(
            st.sampled_from(
                (None, "silu", "gelu", "mish", *(() if smooth else ("relu",)))
            )
        ),
        eps=draw(st.sampled_from((1e-5, 1e-6, 1e-3, 1.0))),
        parameter_dtype="float64" if dtype == "float64" else "float32",
    )
    case = dataclasses.replace(case, name=repr(case))
    return Call(case, draw(st.none() | masks(shape)))


def reduction_axes(rank: int):
    """Some axes and the channel axis, in any order and from either end."""
    others = st.sets(st.integers(0, rank - 2)).map(lambda axes: [*axes, rank - 1])
    signed = others.flatmap(
        lambda axes: st.tuples(*(st.sampled_from((a, a - rank)) for a in axes))
    )
    return signed.flatmap(st.permutations).map(tuple)


def masks(shape: tuple[int, ...]):
    """Shapes that broadcast to x's, some without the last axis or the first ones."""
    whole = st.tuples(*(st.sampled_from((1, n)) for n in shape))
    aligned = whole.flatmap(lambda s: st.integers(0, len(s)).map(lambda i: s[i:]))
    shapes = whole | whole.map(lambda sizes: sizes[:-1]) | aligned
    return shapes.filter(lambda given: len(oracle.meanings(given, shape)) == 1)


def data(call: Call):
    """Inputs for a call; a mask keeps nothing, some, most or everything."""
    most = LARGEST_MEAN.get(call.case.dtype, math.inf)
    if call.case.activation == "relu":
        most = 30  # beyond, what is rounded decides on which side of 0 a value falls
    return st.builds(
        Data,
        seed=st.integers(0, 2**32 - 1),
        mean=st.sampled_from([mean for mean in MEANS if abs(mean) <= most]),
        scale=st.sampled_from(SCALES),
        density=st.sampled_from((0.0, 0.3, 0.8, 1.0)),
    )


def arrays(call: Call, given: Data):
    """The arrays of a call."""
    made = inputs(call.case, given.seed)
    x = made.x.astype(np.float64) * given.scale + given.mean
    mask = None
    if call.mask is not None:
        rng = np.random.default_rng(given.seed)
        mask = rng.random(call.mask) < given.density
    return dataclasses.replace(made, x=x.astype(made.x.dtype), mask=mask)


def _filled(primals, present) -> tuple[Any, Any, Any]:
    """x, gamma and beta: what is present, and None for the others."""
    values = iter(present)
    x, gamma, beta = (None if a is None else next(values) for a in primals)
    return x, gamma, beta


def program(call: Call, implementation: str):
    """One program: the values, the cotangents and the tangent."""
    f = function(call.case, implementation)

    @jax.jit
    def run(primals, mask, tangents, dy):
        present = [a for a in primals if a is not None]

        def g(present):
            return f(*_filled(primals, present), mask)

        y, pullback = jax.vjp(g, present)
        pulled = iter(*pullback(dy))
        moved = [a for a in tangents if a is not None]
        return (
            y,
            [None if a is None else next(pulled) for a in primals],
            jax.jvp(g, (present,), (moved,))[1],
        )

    return lambda made: run(made.primals, made.mask, made.tangents, made.dy)


def has_a_kink(case: Case, made) -> bool:
    """Whether rounding may decide the derivative of a relu."""
    if case.activation != "relu":
        return False
    z = oracle.group_norm(
        made.x, made.gamma, made.beta, case.groups, **case.oracle_options(made.mask)
    ).z
    return bool(np.any(np.abs(z) < 1e-3))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_matches_the_oracle(implementation, dtype):
    seen = set()

    @examples(percent=15)
    @hypothesis.given(st.data())
    def run(draw):
        call = draw.draw(calls(dtype))
        f = program(call, implementation)
        batch = st.lists(data(call), min_size=INPUTS, max_size=INPUTS, unique=True)
        for given in draw.draw(batch):
            made = arrays(call, given)
            if has_a_kink(call.case, made):
                continue
            y, pulled, moved = f(made)
            check.values(call.case, made, y, implementation)
            check.gradients(call.case, made, pulled, implementation)
            check.tangent(call.case, made, moved, implementation)
            seen.add((call, given))

    with precision(dtype):
        run()
    assert len(seen) >= GENERATED / (len(DTYPES) * len(IMPLEMENTATIONS))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_derivatives_are_those_of_the_values(implementation):
    """In float64, by finite differences of the op itself; and J and its transpose."""

    @examples(percent=6)
    @hypothesis.given(st.data())
    def run(draw):
        call = draw.draw(calls("float64", smooth=True))
        # A mean costs finite differences their digits, and a small deviation too.
        made = arrays(call, draw.draw(data(call).map(_tame)))
        f = function(call.case, implementation)
        present = tuple(a for a in made.primals if a is not None)

        @jax.jit
        def g(*present):
            return f(*_filled(made.primals, present), made.mask)

        check_jvp(g, jax.jit(functools.partial(jax.jvp, g)), present)
        check_vjp(g, functools.partial(jax.vjp, g), present)

    with precision("float64"):
        run()


def _tame(given: Data) -> Data:
    return dataclasses.replace(given, mean=min(given.mean, 1.0), scale=1.0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_forward_and_reverse_mode_are_one_linear_map(implementation):
    """<dy, J t> = <J^T dy, t> to the last digits of float64."""

    @examples(percent=8)
    @hypothesis.given(st.data())
    def run(draw):
        call = draw.draw(calls("float64"))
        f = program(call, implementation)
        for given in draw.draw(st.lists(data(call).map(_tame), min_size=5, max_size=5)):
            made = arrays(call, given)
            _, pulled, moved = f(made)
            forward = np.vdot(moved, made.dy)
            reverse = sum(
                np.vdot(a, b)
                for a, b in zip(pulled, made.tangents, strict=True)
                if a is not None
            )
            # What the terms add up to before they cancel, with rstd at its largest.
            gamma = 1.0 if made.gamma is None else np.abs(made.gamma).max(initial=1.0)
            size = np.abs(made.dy).sum() * gamma / math.sqrt(call.case.eps)
            assert abs(forward - reverse) <= 1e-12 * size

    with precision("float64"):
        run()


# Properties of one call, in float64, so that rounding hides nothing. ``f`` is the
# compiled call of x, gamma and beta.


def _groups_apart(case: Case, values):
    *lengths, channels = case.shape
    return np.reshape(values, (*lengths, case.groups, channels // case.groups))


def a_shift_of_a_group_changes_nothing(case, f, made, rng):
    shape = (*case.shape[:-1], case.groups, 1)
    for axis in case.reduced:
        shape = (*shape[:axis], 1, *shape[axis + 1 :])
    shifted = _groups_apart(case, made.x) + rng.uniform(-9, 9, shape)
    changed = f(shifted.reshape(case.shape), made.gamma, made.beta)
    np.testing.assert_allclose(changed, f(*made.primals), rtol=1e-9, atol=1e-9)


def samples_are_independent(case, f, made, rng):
    kept = [axis for axis in range(len(case.shape) - 1) if axis not in case.reduced]
    if not kept or case.shape[kept[0]] == 0:
        return
    axis, (gamma, beta) = kept[0], (made.gamma, made.beta)
    order = rng.permutation(case.shape[axis])
    moved = [
        None if a is None else a if a.ndim == 1 else np.take(a, order, 0)
        for a in (gamma, beta)
    ]
    np.testing.assert_allclose(
        f(np.take(made.x, order, axis), *moved),
        np.take(f(*made.primals), order, axis),
        rtol=1e-12,
        atol=1e-12,
    )
    spoilt = np.array(made.x)
    first = (slice(None),) * axis + (0,)
    spoilt[first] = np.nan
    np.testing.assert_array_equal(
        np.delete(f(spoilt, gamma, beta), 0, axis),
        np.delete(f(*made.primals), 0, axis),
    )


def positions_have_no_order(case, f, made, rng):
    for axis in case.reduced:
        order = rng.permutation(case.shape[axis])
        np.testing.assert_allclose(
            f(np.take(made.x, order, axis), made.gamma, made.beta),
            np.take(f(*made.primals), order, axis),
            rtol=1e-10,
            atol=1e-10,
        )


def groups_are_independent(case, f, made, rng):
    group = rng.integers(case.groups)
    spoilt = np.array(_groups_apart(case, made.x))
    spoilt[..., group, :] = np.nan
    others = np.arange(case.groups) != group
    after, before = (
        _groups_apart(case, f(x, made.gamma, made.beta))[..., others, :]
        for x in (spoilt.reshape(case.shape), made.x)
    )
    np.testing.assert_array_equal(after, before)


def absent_parameters_are_one_and_zero(case, f, made, rng):
    del rng
    ones = np.ones(case.shape[-1]) if made.gamma is None else made.gamma
    zeros = np.zeros(case.shape[-1]) if made.beta is None else made.beta
    np.testing.assert_allclose(
        f(made.x, ones, zeros), f(*made.primals), rtol=1e-12, atol=1e-12
    )


PROPERTIES = (
    a_shift_of_a_group_changes_nothing,
    samples_are_independent,
    positions_have_no_order,
    groups_are_independent,
    absent_parameters_are_one_and_zero,
)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda f: f.__name__)
def test_invariance(holds, implementation):
    @examples(percent=8)
    @hypothesis.given(calls("float64", smooth=True), st.integers(0, 2**32 - 1))
    def run(call, seed):
        case = call.case
        made = inputs(case, seed)
        compiled = jax.jit(function(case, implementation))
        holds(
            case,
            lambda *primals: np.asarray(compiled(*primals)),
            made,
            np.random.default_rng(seed),
        )

    with precision("float64"):
        run()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_scale_is_a_scale_of_eps(implementation):
    """norm(s * x, eps * s^2) = norm(x, eps)."""

    @examples(percent=8)
    @hypothesis.given(
        calls("float64"), st.sampled_from((1e-3, 0.7, 40.0)), st.integers(0, 2**32 - 1)
    )
    def run(call, scale, seed):
        made = inputs(call.case, seed)
        larger = dataclasses.replace(call.case, eps=call.case.eps * scale**2)
        np.testing.assert_allclose(
            function(larger, implementation)(scale * made.x, made.gamma, made.beta),
            function(call.case, implementation)(*made.primals),
            rtol=1e-9,
            atol=1e-9,
        )

    with precision("float64"):
        run()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_groups_are_layer_norms_side_by_side(implementation):
    """So 1 group is the layer norm, and C groups are C instance norms."""

    @examples(percent=8)
    @hypothesis.given(calls("float64"), st.integers(0, 2**32 - 1))
    def run(call, seed):
        x = inputs(call.case, seed).x
        f, alone = (
            function(case, implementation)
            for case in (call.case, dataclasses.replace(call.case, groups=1))
        )
        parts = np.split(x, call.case.groups, axis=-1)
        np.testing.assert_allclose(
            f(x, None, None),
            np.concatenate([alone(part, None, None) for part in parts], -1),
            rtol=1e-12,
            atol=1e-12,
        )

    with precision("float64"):
        run()
