"""Everything that a model holds, wherever it holds it."""

import contextlib
import gc
import sys
import types
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

# What holds nothing that could compute, or leads out of the model to the whole program.
LEAVES = (
    str,
    bytes,
    int,
    float,
    complex,
    np.generic,
    np.dtype,
    jax.Array,
    jax.sharding.Sharding,
    jax.sharding.Mesh,
    types.ModuleType,
    types.CodeType,
    types.FrameType,
    types.TracebackType,
)

# Where no attribute of a class is a model's norm.
LIBRARIES = {*sys.stdlib_module_names, "flax", "flax_gn", "jax", "jaxlib", "numpy"}


class Held(NamedTuple):
    """One object that a model holds.

    Attributes:
      path: names of attributes, keys, positions and captured variables that lead to it.
      value: the object.
      own: whether the model itself holds it. Otherwise its class does, or it is a
        global variable that a function of the model names.
    """

    path: tuple[str, ...]
    value: Any
    own: bool = True


def walk(root: Any) -> list[Held]:
    """Every object that can be reached from ``root``, once, by a path that is its own.

    Flax's `iter_modules` sees what belongs to the state of a model: attributes that are
    modules, and lists and dicts of them. This follows tuples, sets, partials, closures,
    bound methods, compiled functions and plain objects as well.
    """
    held: list[Held] = []
    seen: set[int] = set()  # held keeps the objects alive, so that an id is one object
    stack, shared = [Held((), root)], []
    while stack or shared:
        item = stack.pop() if stack else shared.pop()
        if id(item.value) in seen or isinstance(item.value, LEAVES):
            continue
        seen.add(id(item.value))
        held.append(item)
        for child in reversed(list(_children(item))):
            (stack if child.own else shared).append(child)
    return held


def _children(item: Held) -> Iterator[Held]:
    for key, value, own in _parts(item.value):
        name = str(key) if isinstance(key, str | int) else type(key).__name__
        yield Held((*item.path, name), value, own and item.own)


def _parts(value: Any) -> Iterator[tuple[Any, Any, bool]]:
    """Key, value and whether it is the object's own, for all that it holds."""
    if isinstance(value, type):
        yield from _parts_of_classes(value)
        return
    if isinstance(value, nnx.Variable):  # its metadata may hold functions
        yield "metadata", value.get_metadata(), True
        return
    if isinstance(value, weakref.ReferenceType):
        yield "()", value(), True
    elif type(value) in weakref.ProxyTypes:
        with contextlib.suppress(ReferenceError):
            yield "()", value.__repr__.__self__, True
        return
    elif isinstance(value, dict | types.MappingProxyType):
        for key, child in list(value.items()):
            yield key, child, True
            yield type(key).__name__, key, True
    elif isinstance(value, list | tuple | set | frozenset | deque):
        for i, child in enumerate(value):
            yield i, child, True
    elif isinstance(value, np.ndarray):
        for i, child in enumerate(value.flat if value.dtype == object else ()):
            yield i, child, True
    elif isinstance(value, types.FunctionType):
        yield from _parts_of_function(value)
        return
    elif type(value).__module__.startswith("jaxlib"):  # beside it JAX's own registers
        yield "__wrapped__", getattr(value, "__wrapped__", None), True
        return
    for name, child in list(getattr(value, "__dict__", {}).items()):
        if not name.startswith("_pytree__"):
            yield name, child, True
    yield from _parts_of_classes(type(value))
    if not isinstance(value, nnx.Pytree):  # slots; partials, iterators and the like
        for child in gc.get_referents(value):
            if child is not type(value):
                yield _name_within(value, child), child, True


def _parts_of_function(function: Any) -> Iterator[tuple[Any, Any, bool]]:
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if name != "__class__":  # that of super()
            for child in gc.get_referents(cell):  # none if the variable has no value
                yield name, child, True
    yield "__defaults__", function.__defaults__, True
    yield "__kwdefaults__", function.__kwdefaults__, True
    for name, child in vars(function).items():
        yield name, child, True
    if _is_users(function):
        for name in _names(code):
            child = function.__globals__.get(name)
            if not isinstance(child, type):
                yield name, child, False


def _names(code: types.CodeType) -> Iterator[str]:
    """The names of globals and attributes in a function and in those that it makes."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _parts_of_classes(kind: type) -> Iterator[tuple[Any, Any, bool]]:
    for base in kind.__mro__:
        of_a_module = issubclass(base, nnx.Module) and _root(base) not in LIBRARIES
        if of_a_module or _is_users(base):
            for name, child in list(vars(base).items()):
                if name != "_abc_impl":  # knows the subclasses
                    yield name, child, False


def _root(defined: Any) -> str:
    return str(defined.__module__).partition(".")[0]


def _is_users(defined: Any) -> bool:
    """Whether a function or class is of the user's own code, not of a package's.

    What packages name leads to all they hold, tables of thousands of functions.
    """
    root = _root(defined)
    file = getattr(sys.modules.get(root), "__file__", None) or ""
    installed = "site-packages" in file or "dist-packages" in file
    return root not in LIBRARIES and not installed


def _name_within(value: Any, child: Any) -> str:
    """The attribute that holds ``child``, of those that have no __dict__ entry."""
    names = ("func", "args", "keywords", "__self__", "__func__", "fget")
    kind = type(value)
    for name in names:
        if hasattr(kind, name) and getattr(value, name, None) is child:
            return name
    return type(child).__name__
