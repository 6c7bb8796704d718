"""nnx: what is still a batch norm in a model, or keeps batch statistics, and why."""

import functools
import inspect
import types
from typing import Any, TypeGuard

from flax import linen, nnx

from flax_gn import nnx as layers
from flax_gn.convert._report import Left
from flax_gn.convert._walk import Held, walk

# Names of the attributes that each layer makes.
BATCH_NORM = {
    *inspect.signature(nnx.BatchNorm.__init__).parameters,
    *("mean", "var", "scale", "bias", "_pytree__state", "_pytree__nodes"),
}
GROUP_NORM = {*inspect.signature(layers.GroupNorm.__init__).parameters, "feature_axis"}

# What every subclass has, and what changes nothing when it is lost.
PLAIN = vars(nnx.BatchNorm).keys() - {"__call__", "set_view"} | {
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__dict__",
    "__firstlineno__",
    "__orig_bases__",
    "__parameters__",
    "__static_attributes__",
    "__type_params__",
    "__weakref__",
}


def left_in(model: nnx.Module) -> tuple[Left, ...]:
    """All that is a batch norm, keeps batch statistics, or may make a batch norm."""
    everything = walk(model)
    methods = bound_methods(everything)
    left: list[tuple[tuple[str, ...], str]] = []
    statistics: dict[tuple[str, ...], list[str]] = {}
    modules = {
        held.path: held.value
        for held in everything
        if isinstance(held.value, nnx.Module)
    }
    named = set()
    for held in everything:
        starts = (held.path[:i] for i in range(len(held.path), -1, -1))
        owner = next(start for start in starts if start in modules)
        inside = isinstance(held.value, nnx.BatchStat)
        if owner in named and (inside or isinstance(modules[owner], nnx.bridge.ToNNX)):
            continue
        if inside:
            name = ".".join(held.path[len(owner) :])
            statistics.setdefault(owner, []).append(name)
        elif reason := obstacle(held, methods):
            left.append((held.path, reason))
            named.add(held.path)
    left += [
        (path, f"it keeps batch statistics of its own: {', '.join(names)}.")
        for path, names in statistics.items()
    ]
    return tuple(Left(".".join(path), reason) for path, reason in left)


def bound_methods(everything: list[Held]) -> dict[int, Held]:
    """The methods that are kept with the object that they are bound to, by the object.

    A method of the class in a partial, with the object as its argument, is one too.
    """
    own = {id(function) for function in vars(nnx.BatchNorm).values()}
    bound = {}
    for path, value, _ in everything:
        if isinstance(value, types.MethodType):
            bound[id(value.__self__)] = Held(path, value.__func__)
        elif isinstance(value, functools.partial) and id(value.func) in own:
            bound |= {id(first): Held(path, value.func) for first in value.args[:1]}
    return bound


def is_batch_norm(value: Any) -> TypeGuard[nnx.BatchNorm]:
    """Whether it is one, and no proxy that says so."""
    return issubclass(type(value), nnx.BatchNorm)


def obstacle(held: Held, methods: dict[int, Held]) -> str | None:
    """Why ``held`` is, holds or makes a batch norm that stays, if it does."""
    value = held.value
    if is_batch_norm(value):
        return _of_batch_norm(held, methods)
    if isinstance(value, nnx.bridge.ToNNX):
        inner = [inner.value for inner in walk(value)]
        if any(isinstance(part, linen.BatchNorm) for part in inner):
            return "it wraps linen's BatchNorm. Wrap linen_norm instead."
        variables = [part for part in inner if isinstance(part, nnx.Variable)]
        if all(isinstance(variable, nnx.RngState) for variable in variables):
            return (
                "it wraps a linen module without variables, so that a batch norm in it "
                "would not be seen. Call lazy_init first."
            )
    elif isinstance(value, linen.BatchNorm):
        return "it is linen's BatchNorm. Put linen_norm in its place."
    elif isinstance(value, type) and held.own:
        if issubclass(value, nnx.BatchNorm):
            return "it is a class that makes batch norms. Put nnx_norm in its place."
        if issubclass(value, linen.BatchNorm):
            return "it is a class that makes batch norms. Put linen_norm in its place."
    return None


def _of_batch_norm(held: Held, methods: dict[int, Held]) -> str | None:
    batch_norm, kind = held.value, type(held.value)
    if not held.own:
        return (
            "it is a global variable or an attribute of a class, and not this model's "
            "alone. Pass it to nnx_model itself."
        )
    defined = {
        name
        for base in kind.__mro__
        if base not in nnx.BatchNorm.__mro__
        for name in vars(base).keys() - PLAIN
    }
    if defined:
        names = ", ".join(sorted(defined))
        return f"its class {kind.__name__} defines {names}, which would be lost."
    if taken := vars(batch_norm).keys() & (GROUP_NORM - BATCH_NORM):
        names = ", ".join(sorted(taken))
        return f"its attribute {names} has another meaning in a group norm."
    if id(batch_norm) in methods:
        path, method, _ = methods[id(batch_norm)]
        return (
            f"its method {method.__name__} is kept at {'.'.join(path)}, and would stay "
            "a batch norm's. Keep the layer and call that."
        )
    return None
