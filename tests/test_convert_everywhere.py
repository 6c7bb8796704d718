"""After a conversion no batch norm is left that the report does not name."""

import collections
import dataclasses
import functools
import itertools
import random
import types
import weakref
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict

import flax_gn
from flax_gn import convert
from flax_gn import nnx as nnx_layers

C = 8
X = jax.random.normal(jax.random.key(0), (2, 5, C))


def layer(**options) -> Any:
    """A batch norm with random parameters that uses its running average."""
    norm: Any = nnx.BatchNorm(C, use_running_average=True, rngs=nnx.Rngs(0), **options)
    norm.scale[...], norm.bias[...] = jax.random.normal(jax.random.key(1), (2, C))
    return norm


class Holder(nnx.Module):
    """Holds one object, and says how its norm is called."""

    def __init__(self, held, call):
        self.held, self.call = held, call

    def __call__(self, x):
        return self.call(self.held, x)


@dataclasses.dataclass
class Box:
    norm: Any


class Pair(NamedTuple):
    first: int
    second: Any


class Slots:
    __slots__ = ("norm",)

    def __init__(self, norm):
        self.norm = norm


class Plain(nnx.BatchNorm):
    """Another default, and nothing else."""

    def __init__(self, features, **options):
        super().__init__(features, momentum=0.9, rngs=nnx.Rngs(0), **options)
        self.label = "mine"
        self.extra = nnx.Param(jnp.ones(3))


def closure(norm):
    def call(x):
        return norm(x)

    return call


def default(norm):
    def call(x, norm=norm):
        return norm(x)

    return call


def generator(norm):
    """One that has begun."""

    def norms():
        while True:
            yield norm

    begun = norms()
    next(begun)
    return begun


KEPT: list[Any] = []


def kept(norm):
    KEPT.append(norm)
    return norm


def weak(norm):
    return weakref.ref(kept(norm))


def object_array(norm):
    array = np.empty(1, object)
    array[0] = norm
    return array


def called(held, x):
    return held(x)


# How a norm is put away, how it is called there, and where the report says it is.
PLACES: dict[str, tuple[Any, Any, str]] = {
    "attribute": (lambda n: n, called, "held"),
    "list": (lambda n: nnx.data([n]), lambda h, x: h[0](x), "held.0"),
    "tuple": (lambda n: nnx.data((1, n)), lambda h, x: h[1](x), "held.1"),
    "dict": (lambda n: nnx.data({"a": n}), lambda h, x: h["a"](x), "held.a"),
    "set": (lambda n: {n}, lambda h, x: next(iter(h))(x), "held.0"),
    "deque": (lambda n: collections.deque([n]), lambda h, x: h[0](x), "held.0"),
    "nnx.List": (lambda n: nnx.List([n]), lambda h, x: h[0](x), "held.0"),
    "nnx.Dict": (lambda n: nnx.Dict(a=n), lambda h, x: h["a"](x), "held.a"),
    "nnx.Sequential": (nnx.Sequential, called, "held.layers.0"),
    "partial": (functools.partial, called, "held.func"),
    "partial's argument": (
        lambda n: functools.partial(called, n),
        called,
        "held.args.0",
    ),
    "partial's keyword": (
        lambda n: functools.partial(lambda x, n: n(x), n=n),
        called,
        "held.keywords.n",
    ),
    "closure": (closure, called, "held.norm"),
    "default": (default, called, "held.__defaults__.0"),
    "jitted": (jax.jit, called, "held.__wrapped__"),
    "jitted closure": (
        lambda n: jax.jit(closure(n)),
        called,
        "held.__wrapped__.norm",
    ),
    "checkpointed": (lambda n: jax.checkpoint(closure(n)), called, "held.*norm"),
    "method of its holder": (
        lambda n: nnx.Sequential(n).__call__,
        called,
        "held.__self__.layers.0",
    ),
    "dataclass": (Box, lambda h, x: h.norm(x), "held.norm"),
    "slots": (Slots, lambda h, x: h.norm(x), "held.BatchNorm"),
    "namespace": (
        lambda n: types.SimpleNamespace(n=n),
        lambda h, x: h.n(x),
        "held.n",
    ),
    "named tuple": (
        lambda n: Box(Pair(1, n)),
        lambda h, x: h.norm.second(x),
        "held.norm.1",
    ),
    "mapping proxy": (
        lambda n: types.MappingProxyType({"a": n}),
        lambda h, x: h["a"](x),
        "held.a",
    ),
    "frozen dict": (
        lambda n: Box(FrozenDict({"a": n})),
        lambda h, x: h.norm["a"](x),
        "held.norm.*a",
    ),
    "user dict": (
        lambda n: collections.UserDict(a=n),
        lambda h, x: h["a"](x),
        "held.data.a",
    ),
    "method of a list": (
        lambda n: [n].__getitem__,
        lambda h, x: h(0)(x),
        "held.__self__.0",
    ),
    "cycle": (
        lambda n: itertools.cycle([n]),
        lambda h, x: next(h)(x),
        "held.*",
    ),
    "generator": (
        lambda n: Box(generator(n)),
        lambda h, x: next(h.norm)(x),
        "held.norm.*",
    ),
    "cached function": (
        lambda n: functools.lru_cache(lambda: n),
        lambda h, x: h()(x),
        "held.__wrapped__.n",
    ),
    "nnx.jit": (lambda n: nnx.jit(closure(n)), called, "held.*norm"),
    "nnx.vmap": (
        lambda n: nnx.vmap(closure(n)),
        lambda h, x: h(x[None])[0],
        "held.*norm",
    ),
    "metadata of a variable": (
        lambda n: Box(nnx.Param(jnp.ones(1), norm=n)),
        lambda h, x: h.norm.get_metadata()["norm"](x),
        "held.norm.metadata.norm",
    ),
    "weak reference": (weak, lambda h, x: h()(x), "held.()"),
    "weak proxy": (
        lambda n: Box(weakref.proxy(kept(n))),
        lambda h, x: h.norm(x),
        "held.norm.()",
    ),
    "array of objects": (object_array, lambda h, x: h[0](x), "held.0"),
    "deep": (
        lambda n: Box(functools.partial(closure(nnx.Sequential(n)))),
        lambda h, x: h.norm(x),
        "held.norm.func.norm.layers.0",
    ),
}


def holder(place):
    put, call, path = PLACES[place]
    norm = layer()
    held = put(norm)
    static = not nnx.is_data(held) and place not in ("list", "tuple", "dict")
    return Holder(nnx.static(held) if static else held, call), norm, path


@pytest.fixture
def cleared(monkeypatch) -> list[str]:
    """The calls of jax.clear_caches, without effect, so that tests compile once."""
    calls: list[str] = []
    monkeypatch.setattr(jax, "clear_caches", lambda: calls.append("called"))
    return calls


@pytest.mark.parametrize("place", PLACES)
def test_is_replaced_wherever_it_is(place, cleared):
    model, norm, path = holder(place)
    scale, bias = norm.scale, norm.bias
    in_the_state = any(norm is module for _, module in nnx.iter_modules(model))
    report = convert.nnx_model(model)
    assert bool(cleared) is not in_the_state
    (change,) = report.changes
    start, _, end = path.partition("*")
    assert change.path.startswith(start)
    assert change.path.endswith(end)
    assert not report.left
    assert norm.scale is scale
    assert norm.bias is bias
    expected = flax_gn.group_norm(X, scale[...], bias[...], 4)
    np.testing.assert_allclose(model(X), expected, atol=1e-5)


@pytest.mark.parametrize("place", ["jitted", "jitted closure", "checkpointed"])
def test_what_was_compiled_before_is_compiled_anew(place):
    model, norm, _ = holder(place)
    before = model(X)
    convert.nnx_model(model)
    expected = flax_gn.group_norm(X, norm.scale[...], norm.bias[...], 4)
    np.testing.assert_allclose(model(X), expected, atol=1e-5)
    assert np.abs(before - expected).max() > 0.1


def test_one_that_is_in_two_places_stays_one():
    norm = layer()
    model = nnx.Sequential(norm, functools.partial(norm), closure(norm))
    report = convert.nnx_model(model)
    assert [change.path for change in report.changes] == ["layers.0"]
    assert model.layers[0] is norm
    expected = X
    for _ in range(3):
        expected = flax_gn.group_norm(expected, norm.scale[...], norm.bias[...], 4)
    np.testing.assert_allclose(model(X), expected, atol=1e-5)


def test_a_model_that_refers_to_itself_is_walked_once():
    model: Any = nnx.Sequential(layer())
    model.again = nnx.static(Box(model))
    assert len(convert.nnx_model(model).changes) == 1


def test_a_subclass_with_another_constructor_alone_is_replaced():
    norm: Any = Plain(C)
    report = convert.nnx_model(nnx.Sequential(norm))
    assert not report.left
    assert issubclass(type(norm), nnx_layers.GroupNorm)
    assert norm.label == "mine"
    assert "extra" in nnx.state(norm)


class Activated(nnx.BatchNorm):
    def __call__(self, *args, **options):
        return nnx.relu(super().__call__(*args, **options))


class Mixin:
    def forward(self, x: Any) -> Any:
        return nnx.relu(self(x))  # type: ignore[operator]


class Mixed(nnx.BatchNorm, Mixin):
    pass


class Viewed(nnx.BatchNorm):
    def set_view(self, use_running_average=None):
        raise NotImplementedError


class Renorm(nnx.Module):
    """A batch norm of its own kind."""

    def __init__(self):
        self.running = nnx.data({"m": nnx.BatchStat(jnp.zeros(C))})
        self.deviation = nnx.BatchStat(jnp.ones(C))


class Named(nnx.BatchNorm):
    def __init__(self, features, **options):
        super().__init__(features, **options)
        self.activation = nnx.relu


shared_norm: Any = layer()
LAYERS = {"norm": layer()}


def by_name(x):
    return LAYERS["norm"](x)


class OfClass(nnx.Module):
    norm = layer()

    def __call__(self, x):
        return self.norm(x)


class Config:
    norm = layer()


def lazily(module):
    return nnx.bridge.ToNNX(module, rngs=nnx.Rngs(0))


class Compact(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True, name="inner")(x)


# What stays, where, and a part of the reason.
STAYS: dict[str, tuple[Any, str, str]] = {
    "activation": (
        lambda: Activated(C, rngs=nnx.Rngs(0)),
        "layers.0",
        "its class Activated defines __call__, which would be lost",
    ),
    "mixin": (
        lambda: Mixed(C, rngs=nnx.Rngs(0)),
        "layers.0",
        "its class Mixed defines forward",
    ),
    "view": (
        lambda: Viewed(C, rngs=nnx.Rngs(0)),
        "layers.0",
        "its class Viewed defines set_view",
    ),
    "attribute": (
        lambda: Named(C, rngs=nnx.Rngs(0)),
        "layers.0",
        "its attribute activation has another meaning in a group norm",
    ),
    "bound method": (
        lambda: layer().__call__,
        "layers.0.__self__",
        "its method __call__ is kept at layers.0, and would stay a batch norm's",
    ),
    "method in a partial": (
        lambda: functools.partial(nnx.BatchNorm.__call__, layer()),
        "layers.0.args.0",
        "its method __call__ is kept at layers.0, and would stay a batch norm's",
    ),
    "another kind": (
        Renorm,
        "layers.0",
        "it keeps batch statistics of its own: running.m, deviation",
    ),
    "nnx class": (
        lambda: functools.partial(nnx.BatchNorm, C),
        "layers.0.func",
        "it is a class that makes batch norms. Put nnx_norm in its place",
    ),
    "linen class": (
        lambda: Box(nn.BatchNorm),
        "layers.0.norm",
        "it is a class that makes batch norms. Put linen_norm in its place",
    ),
    "linen layer": (
        lambda: Box(nn.BatchNorm()),
        "layers.0.norm",
        "it is linen's BatchNorm. Put linen_norm in its place",
    ),
    "bridge": (
        lambda: lazily(nn.BatchNorm(use_running_average=True)).lazy_init(X),
        "layers.0",
        "it wraps linen's BatchNorm",
    ),
    "bridge to a compact module": (
        lambda: lazily(Compact()).lazy_init(X),
        "layers.0",
        "it keeps batch statistics of its own: inner.mean, inner.var",
    ),
    "bridge without variables": (
        lambda: lazily(Compact()),
        "layers.0",
        "Call lazy_init first",
    ),
    "global": (
        lambda: lambda x: shared_norm(x),
        "layers.0.shared_norm",
        "it is a global variable or an attribute of a class",
    ),
    "global in a function in a function": (
        lambda: lambda x: next(shared_norm(part) for part in [x]),
        "layers.0.shared_norm",
        "it is a global variable or an attribute of a class",
    ),
    "global in a table": (
        lambda: lambda x: by_name(x),
        "layers.0.by_name.LAYERS.norm",
        "it is a global variable or an attribute of a class",
    ),
    "class as a namespace": (
        lambda: Box(OfClass),
        "layers.0.norm.norm",
        "it is a global variable or an attribute of a class",
    ),
    "class of a plain object": (
        lambda: Box(Config()),
        "layers.0.norm.norm",
        "it is a global variable or an attribute of a class",
    ),
    "property": (
        lambda: Box(property(by_name)),
        "layers.0.norm.fget.LAYERS.norm",
        "it is a global variable or an attribute of a class",
    ),
    "class": (
        OfClass,
        "layers.0.norm",
        "it is a global variable or an attribute of a class",
    ),
}


@pytest.mark.parametrize("case", STAYS)
def test_what_stays_is_named_with_the_reason(case):
    make, path, reason = STAYS[case]
    model = nnx.Sequential(make(), layer())
    report = convert.nnx_model(model)
    assert [change.path for change in report.changes] == ["layers.1"]
    (left,) = report.left
    assert left.path == path
    assert reason in left.reason
    assert f"\n1 was left:\n  {path}: " in str(report)


@pytest.mark.parametrize(
    "case",
    [
        *("activation", "mixin", "view", "attribute", "global"),
        *("bound method", "method in a partial"),
    ],
)
def test_what_stays_computes_what_it_did(case):
    model = nnx.Sequential(STAYS[case][0]())
    model.eval()
    before = model(X)
    convert.nnx_model(model)
    np.testing.assert_array_equal(model(X), before)


@pytest.mark.usefixtures("cleared")
@pytest.mark.parametrize("seed", range(20))
def test_no_batch_norm_is_left_unnamed_in_any_nest(seed):
    """Nests of every kind of place, with norms of every kind at their ends."""
    rng = random.Random(seed)
    places = [put for put, _, _ in PLACES.values()]
    made: list[Any] = []

    def nest(depth):
        if depth == 0:
            kind = rng.randrange(3)
            norm = layer() if kind < 2 else Activated(C, rngs=nnx.Rngs(0))
            made.append(norm)
            return norm
        held = nest(depth - 1)
        try:
            return rng.choice(places)(held)
        except (TypeError, ValueError):  # not callable, not hashable, no module
            return Box(held)

    model: Any = nnx.Sequential()
    model.nests = Box([nest(rng.randrange(5)) for _ in range(8)])
    report = convert.nnx_model(model)
    kept = [norm for norm in made if isinstance(norm, nnx.BatchNorm)]
    assert len(report.left) == len(kept)
    assert len(report.changes) == len(made) - len(kept)
    assert all(type(norm) is Activated for norm in kept)


def test_a_norm_within_one_that_stays_is_named_too():
    outer: Any = Activated(C, rngs=nnx.Rngs(0))
    outer.inner = Activated(C, rngs=nnx.Rngs(0))
    outer.plain = layer()
    report = convert.nnx_model(outer)
    assert [left.path for left in report.left] == ["", "inner"]
    assert [change.path for change in report.changes] == ["plain"]
    assert "\n  (root): its class Activated" in str(report)


def test_nothing_is_left_where_there_is_nothing():
    model = nnx.Sequential(
        nnx.Linear(C, C, rngs=nnx.Rngs(0)),
        nnx.Dropout(0.5, rngs=nnx.Rngs(0)),
        nnx.MultiHeadAttention(2, C, rngs=nnx.Rngs(0)),
        lazily(nn.Dense(3)).lazy_init(X),
        nnx.relu,
        jax.nn.silu,
        jax.jit(jnp.sin),
        nnx.jit(lambda x: x),
        functools.partial(nnx.gelu, approximate=True),
    )
    assert convert.nnx_model(model) == convert.Report(())


@pytest.mark.parametrize(
    "root",
    [[layer()], (layer(),), {"a": layer()}, functools.partial(layer()), None, nnx.relu],
)
def test_a_root_that_is_no_module_is_refused(root):
    with pytest.raises(TypeError, match=r"must be a flax\.nnx\.Module; got"):
        convert.nnx_model(root)


def test_a_linen_root_is_shown_the_way():
    with pytest.raises(TypeError, match="variables with linen_variables"):
        convert.nnx_model(nn.BatchNorm())  # type: ignore[arg-type]


@pytest.mark.parametrize("root", [nnx.List, nnx.Sequential])
def test_a_container_of_nnx_is_a_root(root):
    model = root([layer()]) if root is nnx.List else root(layer())
    assert len(convert.nnx_model(model).changes) == 1
