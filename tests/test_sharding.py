"""Under jit, arrays split over devices: the same values, and few words between them."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments.benchmark import program
from flax_gn import group_norm, group_stats
from tests import check, oracle, sharding_cases, tolerances
from tests.cases import function, inputs
from tests.sharding_cases import MORE, SPLITS, Split, all_reduces, collectives

KINDS = ("auto", "explicit")
EVERY = [*SPLITS, *MORE]
STATISTICS = ("batch_groups", "height_width", "height_cut", "empty", "uneven_cut_mask")


def named(splits: list[Split]):
    return pytest.mark.parametrize("split", splits, ids=[s.name for s in splits])


def mesh(split, kind):
    return sharding_cases.mesh(split, jax.devices(), kind)


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("kind", KINDS)
@named(EVERY)
def test_values(split, kind, mean):
    on = mesh(split, kind)
    case = dataclasses.replace(split.case, mean=mean)
    data = inputs(case)
    arguments = sharding_cases.place(split, data, on)
    x, gamma, beta, *_ = arguments
    y, gradients = sharding_cases.compiled(split, on, gradients=True)(*arguments)
    check.values(case, data, y)
    check.gradients(case, data, gradients)

    whole = jax.jit(function(case, None))(*data.primals, data.mask)
    tolerances.assert_close(
        y, np.asarray(whole, np.float64), check.value_bound(case, data)
    )

    for result, argument in ((y, x), *zip(gradients, (x, gamma, beta), strict=True)):
        # With automatic axes the rest is XLA's choice.
        held = kind == "explicit" or (argument is x and any(split.spec))
        if argument is not None and held:
            assert result.sharding.is_equivalent_to(argument.sharding, argument.ndim)


@pytest.mark.parametrize("kind", KINDS)
@named(SPLITS)
def test_collectives(split, kind):
    on = mesh(split, kind)
    forward, backward = split.explicit() if kind == "explicit" else split.automatic()
    step = all_reduces(*forward, *backward)
    assert collectives(split, on, gradients=False) == all_reduces(*forward)
    assert collectives(split, on, gradients=True) == step
    read = program.read(sharding_cases.compiled(split, on, gradients=True))
    assert read.collective_bytes() == 4 * sum(forward + backward)


@pytest.mark.parametrize("kind", KINDS)
@named([split for split in MORE if split.case.reduced])
def test_no_message_grows_with_the_positions(split, kind):
    shape = list(split.case.shape)
    shape[split.case.reduced[0]] *= 4
    larger = dataclasses.replace(split.case, shape=tuple(shape))
    larger = dataclasses.replace(split, case=larger)
    on = mesh(split, kind)
    found = collectives(split, on, gradients=True)
    assert found == collectives(larger, on, gradients=True)
    assert {name for name, _ in found} <= {"all-reduce", "all-gather"}


def test_the_page_on_sharding_has_this_table():
    page = pathlib.Path(__file__).parents[1] / "docs" / "sharding.md"
    assert sharding_cases.table() in page.read_text()


@pytest.mark.parametrize("kind", KINDS)
@named([s for s in EVERY if s.name in STATISTICS])
def test_statistics(split, kind):
    on = mesh(split, kind)
    data = inputs(split.case)
    x, _, _, mask, _ = sharding_cases.place(split, data, on)
    stats = functools.partial(group_stats, groups=split.case.groups)
    mean, var = jax.jit(stats)(x, mask=mask)
    expected = oracle.group_norm(data.x, None, None, split.case.groups, mask=data.mask)
    np.testing.assert_allclose(mean, expected.mean, atol=2e-6)
    np.testing.assert_allclose(var, expected.var, atol=5e-6)


@named([s for s in SPLITS if s.name in ("height_groups", "height_cut", "batch_height")])
def test_without_jit(split):
    on = mesh(split, "explicit")
    data = inputs(split.case)
    *primals, mask, dy = sharding_cases.place(split, data, on)
    with jax.set_mesh(on):
        y, pullback = jax.vjp(lambda *a: function(split.case, None)(*a, mask), *primals)
        gradients = pullback(dy)
    assert y.sharding == primals[0].sharding
    check.values(split.case, data, y)
    check.gradients(split.case, data, gradients)


@named([s for s in SPLITS if s.name in ("height", "cut")])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode(split, kind):
    on = mesh(split, kind)
    data = inputs(split.case)
    primals = sharding_cases.place(split, data, on)[:3]
    tangents = [
        jax.device_put(t, p.sharding)
        for t, p in zip(data.tangents, primals, strict=True)
    ]
    f = function(split.case, None)
    dy = jax.jit(lambda p, t: jax.jvp(f, p, t)[1])(primals, tuple(tangents))
    check.tangent(split.case, data, dy)


def test_second_derivatives():
    split = next(s for s in MORE if s.name == "silu")
    data = inputs(split.case)

    def curvature(x, gamma, beta, dy):
        f = functools.partial(function(split.case, None), gamma=gamma, beta=beta)
        slope = jax.grad(lambda x: jnp.sum(jnp.sin(f(x))))
        return jax.jvp(slope, (x,), (dy,))[1]

    whole = jax.jit(curvature)(*data.primals, data.dy)
    scale = np.abs(whole).max()
    for kind in KINDS:
        *primals, _, dy = sharding_cases.place(split, data, mesh(split, kind))
        got = jax.jit(curvature)(*primals, dy)
        np.testing.assert_allclose(got, whole, atol=1e-5 * scale)


def _x(shape=(4, 8, 6, 8)):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) + 100


@pytest.mark.parametrize("named", [False, True])
def test_vmap_over_a_split_axis(named):
    # The mapped axis comes before the batch, and neither it nor height is in one place.
    x = _x((2, 4, 8, 8))
    on = jax.make_mesh((2, 4), ("v", "h"), axis_types=(AxisType.Explicit,) * 2)
    placed = jax.device_put(x, NamedSharding(on, PartitionSpec("v", None, "h")))
    with jax.set_mesh(on):
        name = "v" if named else None
        f = jax.vmap(functools.partial(group_norm, groups=2), spmd_axis_name=name)
        y = jax.jit(f)(placed)
    assert y.sharding.is_equivalent_to(placed.sharding, y.ndim)
    expected = oracle.group_norm(x.reshape(8, 8, 8), None, None, 2).y
    np.testing.assert_allclose(y, expected.reshape(x.shape), atol=5e-6)


@pytest.mark.parametrize("types", [("Explicit", "Auto"), ("Auto", "Explicit")])
def test_explicit_and_automatic_axes_in_one_mesh(types):
    x = _x()
    axis_types = tuple(AxisType[name] for name in types)
    on = jax.make_mesh((2, 4), ("n", "h"), axis_types=axis_types)
    placed = jax.device_put(x, NamedSharding(on, PartitionSpec("n", "h")))
    with jax.set_mesh(on):
        y = jax.jit(functools.partial(group_norm, groups=2))(placed)
    assert y.sharding.is_equivalent_to(placed.sharding, y.ndim)
    expected = oracle.group_norm(x, None, None, 2).y
    np.testing.assert_allclose(y, expected, atol=5e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_inside_a_shard_map_over_another_axis(kind):
    # Height is split by hand and named; width is left to the compiler, or in the type.
    x = _x()
    types = (sharding_cases.AXIS_TYPES[kind],) * 2
    on = jax.make_mesh((2, 2), ("h", "w"), axis_types=types, devices=jax.devices()[:4])
    placed = jax.device_put(x, NamedSharding(on, PartitionSpec(None, "h", "w")))
    with jax.set_mesh(on):
        f = jax.shard_map(
            functools.partial(group_norm, groups=2, axis_name="h"),
            in_specs=PartitionSpec(None, "h"),
            out_specs=PartitionSpec(None, "h"),
            axis_names={"h"},
        )
        y = jax.jit(f)(placed)
    assert y.sharding.is_equivalent_to(placed.sharding, y.ndim)
    expected = oracle.group_norm(x, None, None, 2).y
    np.testing.assert_allclose(y, expected, atol=5e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_export(kind):
    split = next(s for s in SPLITS if s.name == "height")
    on = mesh(split, kind)
    data = inputs(split.case)
    x, gamma, beta, *_ = sharding_cases.place(split, data, on)
    f = jax.jit(lambda *a: function(split.case, None)(*a))
    exported = jax.export.export(f)(x, gamma, beta)
    assert exported.nr_devices == 8
    y = jax.jit(exported.call)(x, gamma, beta)
    check.values(split.case, data, y)


def test_a_constant_gives_beta_exactly():
    split = next(s for s in SPLITS if s.name == "height_cut")
    data = inputs(split.case)
    for kind in KINDS:
        _, gamma, beta, mask, dy = sharding_cases.place(split, data, mesh(split, kind))
        x = jnp.full_like(dy, 1234.567)
        y = jax.jit(function(split.case, None))(x, gamma, beta, mask)
        np.testing.assert_array_equal(y, np.broadcast_to(data.beta, y.shape))
