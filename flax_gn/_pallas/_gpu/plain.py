"""Functions in the words that the compiler for GPUs knows.

Derivatives add cotangents by an operation of their own, and softplus takes log(1 + x)
by another. The compiler has rules for neither, and needs none.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

# Where an operation keeps the function that it calls.
_CALLS = ("jaxpr", "call_jaxpr")


def plain(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """``function``, with its flat results, in operations that the compiler knows.

    Example:
      >>> y, dy = plain(lambda x, dx: jax.jvp(jax.nn.silu, (x,), (dx,)))(0.0, 1.0)
      >>> float(y), float(dy)
      (0.0, 0.5)
    """

    def run(*args: Any) -> list[Any]:
        traced = jax.make_jaxpr(function)(*args)
        return _evaluate(traced.jaxpr, traced.consts, jax.tree.leaves(args))

    return run


def _evaluate(jaxpr, constants, args) -> list[Any]:
    names = *jaxpr.constvars, *jaxpr.invars
    values = dict(zip(names, (*constants, *args), strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        called = [equation.params[name] for name in _CALLS if name in equation.params]
        if equation.primitive.name in _PLAIN:
            results = [_PLAIN[equation.primitive.name](*inputs)]
        elif called:
            results = _evaluate(called[0].jaxpr, called[0].consts, inputs)
        else:
            results = equation.primitive.bind(*inputs, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _log1p(x):
    """Exact where 1 + x rounds (Goldberg, ACM Computing Surveys 23 (1991), th. 4)."""
    sum_ = 1.0 + x
    return jnp.where(sum_ == 1.0, x, jnp.log(sum_) * (x / (sum_ - 1.0)))


_PLAIN = {"add_any": jnp.add, "log1p": _log1p}
