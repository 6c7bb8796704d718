"""Activations: those known by name, which can be fused, and what any of them costs."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_gn._words import said

Activation = Callable[[jax.Array], jax.Array]

# tanh(softplus(z)) rounds to 1 from here on, in float64 too, and exp(z)^4 is finite.
_ONE_FROM = 20.0


@jax.custom_jvp
def mish(z: jax.Array) -> jax.Array:
    """Mish, z * tanh(softplus(z)), from one exponential.

    With e = exp(z), tanh(log(1 + e)) = n / (n + 2) for n = e (e + 2): nothing cancels.
    `jax.nn.mish` takes an exponential, a logarithm and a tanh, which on a CPU are ten
    times the norm, and two more exponentials for its derivative.

    D. Misra, "Mish: A Self Regularized Non-Monotonic Activation Function" (2019),
    equation 1.
    """
    return z * _gate(z)[0]


@mish.defjvp
def _mish_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    gate, slope = _gate(z)
    return z * gate, (gate + jnp.minimum(z, _ONE_FROM) * slope) * dz


def _gate(z):
    """tanh(softplus(z)) and its derivative."""
    e = jnp.exp(jnp.minimum(z, _ONE_FROM))
    n = e * (e + 2)
    return n / (n + 2), 4 * e * (e + 1) / jnp.square(n + 2)


BY_NAME: dict[str, Activation] = {
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "mish": mish,
}


@dataclasses.dataclass(frozen=True)
class Elementwise:
    """An activation that is held to its contract when it is called.

    Its result has the dtype of its argument: a function may round, to bfloat16 say, and
    what pulls cotangents back through it has them in the argument's.
    """

    function: Activation

    def __call__(self, z: jax.Array) -> jax.Array:
        y = self.function(z)
        if (
            not isinstance(y, jax.Array)
            or y.shape != z.shape
            or not jnp.issubdtype(y.dtype, jnp.floating)
        ):
            got = jax.typeof(y) if isinstance(y, jax.Array) else type(y).__name__
            raise ValueError(
                said(
                    "`activation` must be elementwise: for an array of shape "
                    f"{z.shape}, a floating-point array of that shape; got {got}."
                )
            )
        return y.astype(z.dtype)


@dataclasses.dataclass(frozen=True)
class _Partial:
    """A `functools.partial` that equals another of the same parts.

    ``types`` keeps 1 and 1.0 apart, which are equal and give other programs.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    keywords: tuple[tuple[str, Any], ...]
    types: tuple[type, ...]

    def __call__(self, z: jax.Array) -> jax.Array:
        return self.function(*self.args, z, **dict(self.keywords))


def checked(activation: str | Activation | None) -> Activation | None:
    """An activation that the op fuses, hashable and equal to its equals.

    Raises:
      ValueError: it is none, or none that can be fused.
    """
    if activation is None:
        return None
    if isinstance(activation, str) and activation in BY_NAME:
        return BY_NAME[activation]
    if callable(activation) and _holds_arrays(activation, set()):
        name = getattr(activation, "__name__", type(activation).__name__)
        raise ValueError(
            said(
                "`activation` must hold no array and be no module, for it is compiled "
                "into the op, and would neither change nor have a gradient; got "
                f"{name}. Apply it to the result, or give it to a layer of "
                "flax_gn.linen or flax_gn.nnx, which does so."
            )
        )
    if not callable(activation) or not _is_hashable(activation):
        raise ValueError(
            said(
                f"`activation` must be None, one of {sorted(BY_NAME)}, or a hashable, "
                f"elementwise callable; got {activation!r}."
            )
        )
    if isinstance(activation, functools.partial):
        keywords = tuple(sorted(activation.keywords.items()))
        parts = _Partial(
            activation.func,
            activation.args,
            keywords,
            tuple(type(v) for v in (*activation.args, *dict(keywords).values())),
        )
        activation = parts if _is_hashable(parts) else activation
    return Elementwise(activation)


def is_fused(activation: str | Activation | None) -> bool:
    """Whether the op takes an activation, or else a layer applies it after the norm."""
    if activation is None or isinstance(activation, str) or not callable(activation):
        return True  # what is wrong the op refuses
    return _is_hashable(activation) and not _holds_arrays(activation, set())


def _is_hashable(value) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _holds_arrays(value: Any, seen: set[int]) -> bool:
    """Whether a callable is a module, or keeps an array where its calls find it."""
    if id(value) in seen or isinstance(value, (type, types.ModuleType, np.generic)):
        return False
    seen.add(id(value))
    return _is_array_or_module(value) or any(
        _holds_arrays(part, seen) for part in _parts(value)
    )


def _is_array_or_module(value) -> bool:
    # Modules of Flax, Equinox and Haiku alike, without an import of any.
    if any(base.__name__ == "Module" for base in type(value).__mro__):
        return True
    return isinstance(value, (jax.Array, np.ndarray)) or hasattr(value, "__jax_array__")


def _parts(value) -> list[Any]:
    """What a callable, or a container in it, refers to."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (tuple, list, set, frozenset)):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, types.FunctionType):
        # Of globals the arrays and modules themselves: what others hold is anything.
        named = [value.__globals__.get(name) for name in value.__code__.co_names]
        return [
            *(cell.cell_contents for cell in value.__closure__ or () if _is_set(cell)),
            *(value.__defaults__ or ()),
            *(value.__kwdefaults__ or {}).values(),
            *filter(_is_array_or_module, named),
        ]
    return [
        getattr(value, "__wrapped__", None),
        *getattr(value, "__dict__", {}).values(),
    ]


def _is_set(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


# Where an operation keeps the function that it calls.
CALLS = ("jaxpr", "call_jaxpr")

# What takes a CPU longer than to read and write the number it is taken of.
_HEAVY = {
    "cos",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "logistic",
    "pow",
    "sin",
    "tanh",
}


@functools.cache
def is_heavy(activation: Activation | None, ndim: int) -> bool:
    """Whether an activation, or its derivative, has more to it than arithmetic.

    Args:
      activation: or None, which is not.
      ndim: number of axes of what it is applied to, which a function may count on.
    """
    if activation is None:
        return False
    z = jax.ShapeDtypeStruct((1,) * ndim, jnp.float32)
    pull = jax.make_jaxpr(lambda z, dy: jax.vjp(activation, z)[1](dy))
    return _has_heavy(pull(z, z).jaxpr)


def _has_heavy(jaxpr) -> bool:
    names = {equation.primitive.name for equation in jaxpr.eqns}
    called = (
        equation.params[name]
        for equation in jaxpr.eqns
        for name in CALLS
        if name in equation.params
    )
    return bool(names & _HEAVY) or any(
        _has_heavy(getattr(each, "jaxpr", each)) for each in called
    )
