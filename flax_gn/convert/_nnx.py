"""nnx: the batch norms of a model become group norms where they are."""

from typing import Any

import jax
from flax import linen, nnx

from flax_gn._versions import of_flax
from flax_gn.convert._fold import fold as fold_statistics
from flax_gn.convert._groups import Groups, choose_groups, number_of_groups
from flax_gn.convert._nnx_left import (
    BATCH_NORM,
    bound_methods,
    is_batch_norm,
    left_in,
    obstacle,
)
from flax_gn.convert._nnx_norm import GroupNorm
from flax_gn.convert._report import Change, Report
from flax_gn.convert._walk import walk


def nnx_model(
    model: nnx.Module,
    *,
    groups: Groups = choose_groups,
    fold: bool = False,
) -> Report:
    """Turns every `flax.nnx.BatchNorm` in a model into group norm, in place.

    The very objects change, so it does not matter where the model keeps them: in
    attributes, lists, dicts, tuples, partials, closures or objects of any class, once
    or several times. Then everything that the model holds is looked through again, and
    what still is a batch norm, or keeps batch statistics, is named in the report with
    the reason. A subclass of BatchNorm is left if it defines anything but its
    constructor, such as a call with an activation, since that would be lost.

    Scale and bias stay the very same variables, metadata and all (with ``fold``, copies
    with new values), so only the batch statistics leave the state. Epsilon and the
    dtypes carry over. axis_name does not: a batch norm's names the devices that hold
    the rest of the batch, a group norm's those that hold the rest of a sample. Calls
    with ``use_running_average`` still work, and so do ``set_attributes``, ``train()``,
    ``eval()`` and ``nnx.view``. Make the optimizer anew, since the state has changed,
    and compile anew what was compiled with the model closed over. Within ``nnx.jit``
    convert only what was made there.

    Group norm normalises by each sample's own statistics, so no scale and bias make it
    equal batch norm for all inputs. With ``fold`` they are chosen so that it
    does wherever a sample's statistics are those that the running ones imply for its
    groups::

        group_mean = mean over the group of running_mean
        group_var  = mean over the group of running_var + (running_mean - group_mean)^2
        scale = gamma * sqrt((group_var + eps) / (running_var + eps))
        bias  = beta + gamma * (group_mean - running_mean) / sqrt(running_var + eps)

    This is the start to fine-tune a trained network from; a network to be trained from
    scratch needs none of it.

    Args:
      model: the model, changed in place.
      groups: the number of groups, or a function from the number of channels to it.
      fold: whether to fold the running statistics into scale and bias. A layer that
        lacks either gets it.

    Returns:
      A report of what was changed and what was left; it prints as a table.

    Raises:
      TypeError: model is no `flax.nnx.Module`, or groups is, or gives, no int.
      ValueError: a batch norm's axis is not -1, or its number of groups does not divide
        its channels. Nothing is changed in either case.

    >>> from flax import nnx
    >>> from flax_gn import convert
    >>> class Activated(nnx.BatchNorm):
    ...     def __call__(self, x):
    ...         return nnx.relu(super().__call__(x))
    >>> rngs = nnx.Rngs(0)
    >>> layers = nnx.BatchNorm(48, rngs=rngs), Activated(48, rngs=rngs)
    >>> print(convert.nnx_model(nnx.Sequential(*layers)))
    path      channels  groups  epsilon  folded
    layers.0        48      24    1e-05   False
    1 batch norm became group norm.
    1 was left:
      layers.1: its class Activated defines __call__, which would be lost.
    """
    if not isinstance(model, nnx.Module):
        hint = " Convert a linen model's variables with linen_variables."
        raise TypeError(
            f"nnx_model: model must be a flax.nnx.Module; got {type(model).__name__}."
            f"{hint if isinstance(model, linen.Module) else ''}"
        )
    everything = walk(model)
    methods = bound_methods(everything)
    found = [
        (".".join(held.path), held.value)
        for held in everything
        if is_batch_norm(held.value) and not obstacle(held, methods)
    ]
    numbers = [_checked(batch_norm, groups, path) for path, batch_norm in found]
    changes = tuple(
        Change(path, batch_norm.num_features, number, batch_norm.epsilon, fold)
        for (path, batch_norm), number in zip(found, numbers, strict=True)
    )
    group_norms = [
        _group_norm(batch_norm, number, fold)
        for (_, batch_norm), number in zip(found, numbers, strict=True)
    ]
    for (_, batch_norm), group_norm in zip(found, group_norms, strict=True):
        _become(batch_norm, group_norm)
    of_the_state = {id(module) for module in of_flax.modules(model)}
    if any(id(batch_norm) not in of_the_state for _, batch_norm in found):
        # A function of the model holds one. What JAX has compiled or traced of it, it
        # keeps by the function, which is the same object as before.
        jax.clear_caches()
    return Report(changes, left_in(model))


def _checked(batch_norm: nnx.BatchNorm, groups: Groups, path: str) -> int:
    """The number of groups of a batch norm that can become a group norm."""
    if batch_norm.axis != -1:
        raise ValueError(
            f"nnx_model: the batch norm at {path or 'the root'} must have its channels "
            f"last, axis=-1; got axis={batch_norm.axis}. Move the channels with "
            "jnp.moveaxis, or set its axis to -1 if that is the last one."
        )
    return number_of_groups("nnx_model", groups, batch_norm.num_features, path)


def _group_norm(batch_norm: nnx.BatchNorm, groups: int, fold: bool) -> GroupNorm:
    group_norm = GroupNorm(
        batch_norm.num_features,
        groups,
        epsilon=batch_norm.epsilon,
        dtype=batch_norm.dtype,
        param_dtype=batch_norm.param_dtype,
        use_bias=fold or batch_norm.use_bias,
        use_scale=fold or batch_norm.use_scale,
        promote_dtype=of_flax.promote_dtype(batch_norm),
        rngs=nnx.Rngs(0),
    )
    group_norm.use_running_average = batch_norm.use_running_average
    scale: Any = batch_norm.scale
    bias: Any = batch_norm.bias
    if fold:
        folded = fold_statistics(
            None if scale is None else scale[...],
            None if bias is None else bias[...],
            batch_norm.mean[...],
            batch_norm.var[...],
            groups,
            batch_norm.epsilon,
        )
        scale, bias = (
            nnx.Param(value) if variable is None else variable.replace(value)
            for variable, value in zip((scale, bias), folded, strict=True)
        )
    group_norm.scale, group_norm.bias = scale, bias
    return group_norm


def _become(batch_norm: nnx.BatchNorm, group_norm: GroupNorm) -> None:
    """Makes one object the other, as torch does with lazy and parametrised modules.

    A new object would have to be put in every place that holds the old one, and a
    tuple, a partial or a closure cannot be written to.
    """
    attributes = vars(batch_norm)
    for name in attributes.keys() - BATCH_NORM:  # what a user has added
        data = attributes["_pytree__nodes"][name]
        value = attributes[name]
        setattr(group_norm, name, nnx.data(value) if data else value)
    attributes.clear()
    attributes.update(vars(group_norm))
    object.__setattr__(batch_norm, "__class__", GroupNorm)
