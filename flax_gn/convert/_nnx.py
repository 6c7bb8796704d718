"""nnx: the batch norms of a model are replaced where they are."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from flax_gn import nnx as layers
from flax_gn.convert._fold import fold as fold_statistics
from flax_gn.convert._groups import choose_groups
from flax_gn.convert._report import Change, Report


class GroupNorm(layers.GroupNorm):
    """`flax_gn.nnx.GroupNorm` that may be called as a batch norm."""

    def __call__(self, x: jax.Array, use_running_average: Any = None, **options: Any):
        """Normalises x; there is no running average to use or not to use."""
        del use_running_average
        return super().__call__(x, **options)


def nnx_model(
    model: nnx.Module,
    *,
    groups: Callable[[int], int] = choose_groups,
    fold: bool = False,
) -> Report:
    """Replaces every `flax.nnx.BatchNorm` in a model by group norm, in place.

    Scale and bias stay the very same variables, metadata and all (with ``fold``, copies
    with new values), so only the batch statistics leave the state. Epsilon and the
    dtypes carry over. axis_name does not: a batch norm's names the devices that hold
    the rest of the batch, a group norm's those that hold the rest of a sample. A batch
    norm used in two places stays one layer. Calls with ``use_running_average`` still
    work. Make the optimizer anew, since the state has changed.

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
      groups: a function from the number of channels to the number of groups.
      fold: whether to fold the running statistics into scale and bias. A layer that
        lacks either gets it.

    Returns:
      A report of what was changed; it prints as a table.

    Raises:
      TypeError: model is a batch norm itself, so nothing can be replaced in it.
      ValueError: a batch norm's axis is not -1. Nothing is changed then.

    >>> from flax import nnx
    >>> from flax_gn import convert
    >>> rngs = nnx.Rngs(0)
    >>> model = nnx.Sequential(nnx.relu, nnx.BatchNorm(48, rngs=rngs))
    >>> print(convert.nnx_model(model))
    path      channels  groups  epsilon  folded
    layers.1        48      24    1e-05   False
    1 batch norm became group norm.
    """
    if isinstance(model, nnx.BatchNorm):
        raise TypeError(
            "nnx_model: model must hold its batch norms; got a BatchNorm itself, which "
            "cannot be replaced in place. Convert the module that holds it."
        )
    modules = list(nnx.iter_modules(model, graph=True))
    found = [
        (".".join(map(str, path)), module)
        for path, module in modules
        if isinstance(module, nnx.BatchNorm)
    ]
    for path, batch_norm in found:
        if batch_norm.axis != -1:
            raise ValueError(
                f"nnx_model: the batch norm at {path} must have its channels last, "
                f"axis=-1; got axis={batch_norm.axis}. Move the channels with "
                "jnp.moveaxis, or set its axis to -1 if that is the last one."
            )
    replacements = {}
    changes = []
    for path, batch_norm in found:
        channels = batch_norm.num_features
        number = groups(channels)
        replacements[id(batch_norm)] = _group_norm(batch_norm, number, fold)
        changes.append(Change(path, channels, number, batch_norm.epsilon, fold))
    for _, module in modules:
        if id(module) not in replacements:
            _replace_children(module, replacements)
    return Report(tuple(changes))


def _group_norm(batch_norm: nnx.BatchNorm, groups: int, fold: bool) -> GroupNorm:
    group_norm = GroupNorm(
        batch_norm.num_features,
        groups,
        epsilon=batch_norm.epsilon,
        dtype=batch_norm.dtype,
        param_dtype=batch_norm.param_dtype,
        use_bias=fold or batch_norm.use_bias,
        use_scale=fold or batch_norm.use_scale,
        promote_dtype=batch_norm.promote_dtype,
        rngs=nnx.Rngs(0),
    )
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


def _replace_children(module: nnx.Module, replacements: dict[int, GroupNorm]) -> None:
    """Replaces batch norms among the attributes, also within lists and dicts."""

    def is_leaf(value):
        return isinstance(value, (nnx.Module, nnx.Variable))

    for name, value in list(vars(module).items()):
        leaves = jax.tree.leaves(value, is_leaf=is_leaf)
        if any(id(leaf) in replacements for leaf in leaves):
            new = jax.tree.map(
                lambda leaf: replacements.get(id(leaf), leaf), value, is_leaf=is_leaf
            )
            setattr(module, name, new if isinstance(new, nnx.Module) else nnx.data(new))
