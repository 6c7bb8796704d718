"""Activations that are known by name, and what any of them costs."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

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
