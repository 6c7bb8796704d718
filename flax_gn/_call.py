"""Calls that are traced for their target, and linear ones with a transpose by hand.

Both are one operation, "group_norm_call". Its ``jaxpr`` is the plain form of what it
does, in operations of jax.lax alone, for whoever evaluates or walks a program. What is
compiled is the function itself, traced anew when the program is lowered, for then its
target is known (`_target`). Plain operations cannot say that: to trace every platform's
form into every program was half of the time of tracing.

JAX offers a hand-written derivative in two forms, and a fused op needs both at once:
`jax.custom_vjp` gives up forward mode, and `jax.custom_jvp` leaves the transpose, the
backward pass, to JAX. `linear_call` closes the gap. As the tangent of a `custom_jvp`
function it saves its residuals and nothing else, its backward pass is the function that
was written for it, and jvp, vmap and further derivatives go through it.
`jax.custom_derivatives.linear_call` has no rule for vmap, nor for a derivative with
respect to its residuals.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from flax_gn import _target
from flax_gn._versions import of_jax

Flat = Callable[..., Sequence[jax.Array]]

_call_p = Primitive("group_norm_call")
_call_p.multiple_results = True


def call(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, traced for the target of the program.

    It has no derivative of its own: give one to the function that calls it.

    Args:
      function: of pytrees of arrays; it may ask for its `_target.target`.
      *args: its arguments.
    """
    flat, tree = jax.tree.flatten(args)
    out_tree = None

    def flat_function(*flat: jax.Array) -> list[jax.Array]:
        nonlocal out_tree
        out = function(*jax.tree.unflatten(tree, flat))
        flat_out, out_tree = jax.tree.flatten(out)
        return flat_out

    flat_out = _bind(flat_function, None, len(flat), *flat)
    assert out_tree is not None
    return jax.tree.unflatten(out_tree, flat_out)


def linear_call(
    function: Callable[[Any, Any], Any],
    transpose: Callable[[Any, Any], Any],
    residuals: Any,
    linear: Any,
) -> Any:
    """Calls ``function(residuals, linear)``, linear in its second argument.

    Args:
      function: (residuals, linear) -> out, linear in the pytree ``linear``.
      transpose: (residuals, out) -> linear, its transpose.
      residuals: pytree of arrays; all that reverse mode keeps.
      linear: pytree of floating-point arrays.
    """
    flat_residuals, residuals_tree = jax.tree.flatten(residuals)
    flat_linear, linear_tree = jax.tree.flatten(linear)
    split = len(flat_residuals)
    out_tree = None

    def flat_function(*args: jax.Array) -> list[jax.Array]:
        nonlocal out_tree
        out = function(
            jax.tree.unflatten(residuals_tree, args[:split]),
            jax.tree.unflatten(linear_tree, args[split:]),
        )
        flat_out, out_tree = jax.tree.flatten(out)
        return flat_out

    def flat_transpose(*args: jax.Array) -> list[jax.Array]:
        assert out_tree is not None
        out = transpose(
            jax.tree.unflatten(residuals_tree, args[:split]),
            jax.tree.unflatten(out_tree, args[split:]),
        )
        return jax.tree.leaves(out)

    varying = frozenset().union(*map(_varying, flat_residuals + flat_linear))
    flat_linear = [_vary(value, varying) for value in flat_linear]
    flat_out = _bind(
        flat_function, flat_transpose, split, *flat_residuals, *flat_linear
    )
    assert out_tree is not None
    return jax.tree.unflatten(out_tree, flat_out)


def jvp_of_moving(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> Any:
    """What `jax.jvp` says of a function's tangent, with respect to what moves alone.

    For rules of a `jax.custom_jvp` with symbolic zeros. The transpose of a barrier,
    with which passes over memory end, takes no zeros in place of what does not move.

    Args:
      function: of pytrees.
      primals: its arguments.
      tangents: theirs, of which some are `SymbolicZero`.
    """
    flat, tree = jax.tree.flatten(tuple(primals))
    flat_tangents = jax.tree.leaves(tuple(tangents))
    moving = [i for i, t in enumerate(flat_tangents) if not isinstance(t, SymbolicZero)]

    def of_flat(*flat):
        return function(*jax.tree.unflatten(tree, flat))

    return _tangent_along(of_flat, flat, flat_tangents, moving)


def _tangent_along(function, primals, tangents, moving):
    """That of a function of arrays, with respect to those at some places."""

    def of_moving(*values):
        filled = list(primals)
        for i, value in zip(moving, values, strict=True):
            filled[i] = value
        return function(*filled)

    return jax.jvp(
        of_moving, [primals[i] for i in moving], [tangents[i] for i in moving]
    )[1]


def _bind(
    function: Flat, transpose: Flat | None, split: int, *args: jax.Array
) -> list[jax.Array]:
    plain = _target.aimed(_target.PLAIN, function)
    return _call_p.bind(
        *args,
        jaxpr=jax.make_jaxpr(plain)(*args),
        function=function,
        transpose=transpose,
        split=split,
    )


def _varying(value: jax.Array) -> frozenset:
    """The axes of a shard_map along which devices hold values of their own."""
    return of_jax.varying(jax.typeof(value))


def _vary(value: jax.Array, axes: frozenset) -> jax.Array:
    """Makes a value that all devices share one of each device.

    A transpose written by hand sums over what its own device holds. That the sum goes
    on over the devices is the transpose of this cast, and jax's business.
    """
    missing = tuple(axes - _varying(value))
    return of_jax.vary(value, missing) if missing else value


@_call_p.def_impl
def _evaluate(*args, jaxpr, **_):
    return jaxpr_as_fun(jaxpr)(*args)


@_call_p.def_effectful_abstract_eval
def _abstract_eval(*_, jaxpr, **__):
    return jaxpr.out_avals, jaxpr.effects


def _jvp(primals, tangents, *, jaxpr, function, transpose, split):
    """By the product rule; the part through the linear arguments stays a call."""
    residuals, linear = primals[:split], primals[split:]
    residual_tangents, linear_tangents = tangents[:split], tangents[split:]
    out = _call_p.bind(
        *primals, jaxpr=jaxpr, function=function, transpose=transpose, split=split
    )
    terms = []
    if not all(type(t) is ad.Zero for t in linear_tangents):
        linear_tangents = map(ad.instantiate_zeros, linear_tangents)
        terms.append(_bind(function, transpose, split, *residuals, *linear_tangents))
    moving = [i for i, t in enumerate(residual_tangents) if type(t) is not ad.Zero]
    if moving:

        def of_residuals(*residuals):
            return jaxpr_as_fun(jaxpr)(*residuals, *linear)

        terms.append(_tangent_along(of_residuals, residuals, residual_tangents, moving))
    return out, [sum(term[1:], term[0]) for term in zip(*terms, strict=True)]


def _transpose(cotangents, *args, jaxpr, function, transpose, split):
    del jaxpr
    residuals, linear = args[:split], args[split:]
    assert transpose is not None
    assert not any(map(ad.is_undefined_primal, residuals))
    cotangents = map(ad.instantiate_zeros, cotangents)
    out = _bind(transpose, function, split, *residuals, *cotangents)
    return [None] * split + [
        _vary(value, of_jax.varying(argument.aval))
        if ad.is_undefined_primal(argument)
        else None
        for value, argument in zip(out, linear, strict=True)
    ]


def _batch(axis_data, args, dims, *, jaxpr, function, transpose, split):
    used = {getattr(effect, "name", None) for effect in jaxpr.effects}
    if all(dim is None for dim in dims) and axis_data.name not in used:
        # jax asks even where nothing is mapped, and counts on getting it back so.
        out = _call_p.bind(
            *args, jaxpr=jaxpr, function=function, transpose=transpose, split=split
        )
        return out, [None] * len(out)
    vmap = partial(
        jax.vmap,
        axis_name=axis_data.name,
        axis_size=axis_data.size,
        spmd_axis_name=axis_data.spmd_name,
    )
    residual_dims, linear_dims = dims[:split], dims[split:]

    def batched_transpose(*values):
        assert transpose is not None
        cotangents = len(values) - split
        out = vmap(transpose, in_axes=(*residual_dims, *(0,) * cotangents))(*values)
        return [
            jnp.sum(value, 0) if dim is None else jnp.moveaxis(value, 0, dim)
            for value, dim in zip(out, linear_dims, strict=True)
        ]

    out = _bind(vmap(function, in_axes=dims), batched_transpose, split, *args)
    return out, [0] * len(out)


def _lower(platform, context, *args, jaxpr, function, **_):
    del jaxpr
    aimed = _target.aimed(_target.of_lowering(platform, context), function)
    return mlir.lower_fun(aimed, multiple_results=True)(context, *args)


ad.primitive_jvps[_call_p] = _jvp
ad.primitive_transposes[_call_p] = _transpose
batching.fancy_primitive_batchers[_call_p] = _batch
mlir.register_lowering(_call_p, partial(_lower, None))
for _platform in _target.NAMES:
    mlir.register_lowering(_call_p, partial(_lower, _platform), platform=_platform)
