"""Activations in a kernel, with some of their operations put in other words.

A compiler of kernels may have no rule for an operation, or a slow one. Activations and
their derivatives are traced by JAX, so that what they are made of can be looked at.
Words are changed in the derivative, and not before it is taken: a function may have its
own, as relu has at zero.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import Literal

from flax_gn._activations import CALLS, Activation

Words = Mapping[str, Callable[..., Any]]
"""By the name of a primitive, what computes its result from its arguments."""


def apply(activation: Activation | None, words: Words, z: jax.Array) -> jax.Array:
    """The activation of z."""
    if activation is None:
        return z
    (y,) = _in_words(activation, words, z)
    return y


def pull(
    activation: Activation | None, words: Words, z: jax.Array, dy: jax.Array
) -> jax.Array:
    """The cotangent of z, the activation's argument."""
    if activation is None:
        return dy
    (dz,) = _in_words(lambda z, dy: jax.vjp(activation, z)[1](dy), words, z, dy)
    return dz


def _in_words(function, words, *args) -> list[Any]:
    traced = jax.make_jaxpr(function)(*args)
    return _evaluate(words, traced.jaxpr, traced.consts, args)


def _evaluate(words, jaxpr, constants, args) -> list[Any]:
    names = *jaxpr.constvars, *jaxpr.invars
    values = dict(zip(names, (*constants, *args), strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        called = [equation.params[name] for name in CALLS if name in equation.params]
        if equation.primitive.name in words:
            results = [words[equation.primitive.name](*inputs)]
        elif called:
            results = _evaluate(words, called[0].jaxpr, called[0].consts, inputs)
        else:
            results = equation.primitive.bind(*inputs, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
