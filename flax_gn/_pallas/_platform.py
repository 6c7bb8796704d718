"""Kernels run on the platform they are for, and nowhere else.

What a program is compiled for is known when it is lowered and no earlier: it may be
another machine's.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import batching, mlir

from flax_gn import _target, _words
from flax_gn._pallas._interpret import interpreted

_log = logging.getLogger("flax_gn")


def only_on(kernels: Any, kernel: Callable[..., Any], *args: jax.Array) -> Any:
    """``kernel(*args)``, in a program for its platform; or interpreted, if asked for.

    Args:
      kernels: the `_op.Kernels` that it is one of.
      kernel: to run.
      *args: its arguments.

    Raises:
      NotImplementedError: when it is lowered for another platform, or in a program
        that XLA splits over devices, where nobody knows how to split a kernel.
    """
    if interpreted.value is None:
        said = kernels.name, kernels.platform, kernels.machines
        args = (_only_on_p.bind(args[0], said=said), *args[1:])
    return kernel(*args)


_only_on_p = Primitive("group_norm_only_on")


@_only_on_p.def_abstract_eval
def _abstract_eval(x, *, said):
    del said
    return x


def _lower(context, x, *, said):
    name, platform, machines = said
    lowered_for = context.platforms or context.module_context.platforms
    if any(lowered != platform for lowered in lowered_for):
        raise NotImplementedError(
            _words.said(
                f'`implementation`="{name}" runs on {machines}; got a program for '
                f"{', '.join(lowered_for)}. Leave `implementation` out, or pass "
                '"xla", which runs everywhere.'
            )
        )
    if _target.xla_may_split_it(context):
        raise NotImplementedError(
            _words.said(
                f'`implementation`="{name}" cannot be automatically partitioned over '
                "devices. Give the mesh explicit axes, call it in a shard_map, or "
                "leave `implementation` out."
            )
        )
    return [x]


def _batch(args, dims, *, said):
    return _only_on_p.bind(*args, said=said), dims[0]


batching.primitive_batchers[_only_on_p] = _batch
mlir.register_lowering(_only_on_p, _lower)


def choose(
    kernels: Mapping[str, Callable[..., Any]], otherwise: Callable[..., Any], *args: Any
) -> Any:
    """The function for the platform that the program is lowered for, of the arguments.

    Args:
      kernels: by platform, functions that run kernels.
      otherwise: for all other platforms, and for a program that XLA splits over
        devices. It returns what the kernels return.
      *args: pytrees of arrays.
    """
    flat, tree = jax.tree.flatten(args)
    out_tree = None

    def traced(function):
        def run(*flat):
            nonlocal out_tree
            out, out_tree = jax.tree.flatten(function(*jax.tree.unflatten(tree, flat)))
            return out

        return jax.make_jaxpr(run)(*flat)

    jaxprs, platforms = [], []
    for platform, function in kernels.items():
        try:
            jaxprs.append(traced(function))
        except NotImplementedError as reason:
            _log.debug("group_norm: no kernel for %s: %s", platform, reason)
        else:
            platforms.append(platform)
    jaxprs.append(traced(otherwise))
    out = _choose_p.bind(*flat, jaxprs=tuple(jaxprs), platforms=tuple(platforms))
    assert out_tree is not None
    return jax.tree.unflatten(out_tree, out)


_choose_p = Primitive("group_norm_choose")
_choose_p.multiple_results = True


@_choose_p.def_impl
def _otherwise(*args, jaxprs, platforms):
    """Step by step there is no program to look at."""
    del platforms
    return jaxpr_as_fun(jaxprs[-1])(*args)


@_choose_p.def_effectful_abstract_eval
def _abstract_results(*_, jaxprs, platforms):
    del platforms
    return jaxprs[-1].out_avals, jaxprs[-1].effects


def _lower_choice(context, *args, jaxprs, platforms):
    lowered_for = set(context.platforms or context.module_context.platforms)
    chosen = jaxprs[-1]
    for platform, jaxpr in zip(platforms, jaxprs[:-1], strict=True):
        if lowered_for != {platform}:
            continue
        if _target.xla_may_split_it(context):
            _log.debug(
                "group_norm: the program is automatically partitioned, which a kernel "
                "for %s cannot be; the implementation for XLA takes its place",
                platform,
            )
        else:
            chosen = jaxpr
    return mlir.lower_fun(jaxpr_as_fun(chosen), multiple_results=True)(context, *args)


def _batch_choice(axis_data, args, dims, *, jaxprs, platforms):
    used = {getattr(effect, "name", None) for effect in jaxprs[-1].effects}
    if all(dim is None for dim in dims) and axis_data.name not in used:
        # jax asks even where nothing is mapped, and counts on getting it back so.
        out = _choose_p.bind(*args, jaxprs=jaxprs, platforms=platforms)
        return out, [None] * len(out)
    *kernels, otherwise = (
        jax.vmap(
            jaxpr_as_fun(jaxpr),
            in_axes=tuple(dims),
            axis_name=axis_data.name,
            axis_size=axis_data.size,
            spmd_axis_name=axis_data.spmd_name,
        )
        for jaxpr in jaxprs
    )
    out = choose(dict(zip(platforms, kernels, strict=True)), otherwise, *args)
    return out, [0] * len(out)


batching.fancy_primitive_batchers[_choose_p] = _batch_choice
mlir.register_lowering(_choose_p, _lower_choice)
# One by one, so that a program for several platforms has the kernels of each.
for _platform in _target.NAMES:
    mlir.register_lowering(_choose_p, _lower_choice, platform=_platform)
