"""linen: the model gets another norm argument, its variables another tree."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util
from flax.core import unfreeze
from flax.typing import Dtype, Initializer

from flax_gn import linen as layers
from flax_gn.convert._fold import fold as fold_statistics
from flax_gn.convert._groups import choose_groups
from flax_gn.convert._report import Change, Report


class GroupNorm(layers.GroupNorm):
    """`flax_gn.linen.GroupNorm` that may be called as a batch norm."""

    def __call__(self, x: jax.Array, use_running_average: Any = None, **options: Any):
        """Normalises x; there is no running average to use or not to use."""
        del use_running_average
        return super().__call__(x, **options)


def linen_norm(
    use_running_average: bool | None = None,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-5,
    dtype: Dtype | None = None,
    param_dtype: Dtype = jnp.float32,
    use_bias: bool = True,
    use_scale: bool = True,
    bias_init: Initializer = nn.initializers.zeros,
    scale_init: Initializer = nn.initializers.ones,
    axis_name: str | None = None,
    axis_index_groups: Any = None,
    use_fast_variance: bool = True,
    force_float32_reductions: bool = True,
    *,
    groups: Callable[[int], int] = choose_groups,
    **module: Any,
) -> layers.GroupNorm:
    """Group norm for a model that was written for `flax.linen.BatchNorm`.

    It takes BatchNorm's arguments, so it goes where a model takes its norm:
    ``ResNet(norm=linen_norm)``. The number of groups is chosen by the number of
    channels. Nothing is done with use_running_average, momentum, axis_name and
    axis_index_groups: there is no running average, and no batch to share.

    Args:
      use_running_average: accepted and ignored, here and in the call.
      axis: the channel axis; only -1, the last.
      momentum: accepted and ignored.
      epsilon: as in `flax_gn.linen.GroupNorm`, with BatchNorm's default.
      dtype: as in `flax_gn.linen.GroupNorm`.
      param_dtype: as in `flax_gn.linen.GroupNorm`.
      use_bias: as in `flax_gn.linen.GroupNorm`.
      use_scale: as in `flax_gn.linen.GroupNorm`.
      bias_init: as in `flax_gn.linen.GroupNorm`.
      scale_init: as in `flax_gn.linen.GroupNorm`.
      axis_name: accepted and ignored.
      axis_index_groups: accepted and ignored.
      use_fast_variance: accepted and ignored.
      force_float32_reductions: accepted and ignored.
      groups: a function from the number of channels to the number of groups.
      **module: ``name`` and ``parent``, as every linen module takes.

    Returns:
      A layer, whose default name in its parent is ``GroupNorm_0`` and so on.

    Raises:
      ValueError: axis is not -1.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.convert import linen_norm
    >>> norm = linen_norm(use_running_average=False, momentum=0.9)
    >>> variables = norm.init(jax.random.key(0), jnp.ones((2, 8, 8, 48)))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'bias': (48,), 'scale': (48,)}}
    """
    del use_running_average, momentum, axis_name, axis_index_groups
    if axis != -1:
        raise ValueError(
            f"linen_norm: axis must be -1, channels last; got {axis}. Move the "
            "channels with jnp.moveaxis."
        )
    return GroupNorm(
        num_groups=groups,
        epsilon=epsilon,
        dtype=dtype,
        param_dtype=param_dtype,
        use_bias=use_bias,
        use_scale=use_scale,
        bias_init=bias_init,
        scale_init=scale_init,
        use_fast_variance=use_fast_variance,
        force_float32_reductions=force_float32_reductions,
        **module,
    )


def group_norm_name(name: str) -> str:
    """BatchNorm_3 becomes GroupNorm_3, as linen will call it; other names stay."""
    return re.sub(r"^BatchNorm_(\d+)$", r"GroupNorm_\1", name)


def linen_variables(
    variables: Mapping[str, Any],
    *,
    groups: Callable[[int], int] = choose_groups,
    epsilon: float = 1e-5,
    fold: bool = False,
    rename: Callable[[str], str] = group_norm_name,
) -> tuple[dict[str, Any], Report]:
    """Turns the variables of a batch-norm model into those of its group-norm twin.

    The twin is the same model with another norm argument, `linen_norm` or
    `flax_gn.linen.GroupNorm`. Scale and bias carry over, boxes of sharding metadata
    included; the batch statistics of the batch norms leave; everything else stays.

    Args:
      variables: the collections ``params`` and ``batch_stats``, and any others.
      groups: a function from the number of channels to the number of groups; the same
        as the model's.
      epsilon: the batch norms' epsilon.
      fold: whether to fold the running statistics into scale and bias, as
        `nnx_model` does.
      rename: a function from a batch norm's name to the group norm's.

    Returns:
      New variables, a plain dict, and a report of what was changed.

    Raises:
      ValueError: the collections are not there, a new name is already taken, or
        ``fold`` is asked for a layer that has no scale or no bias.

    >>> import jax, jax.numpy as jnp
    >>> from flax import linen as nn
    >>> from flax_gn import convert
    >>> class Net(nn.Module):
    ...     norm: type[nn.Module] = nn.BatchNorm
    ...     @nn.compact
    ...     def __call__(self, x):
    ...         return self.norm(use_running_average=True)(nn.Dense(48)(x))
    >>> x = jnp.ones((2, 3))
    >>> variables = Net().init(jax.random.key(0), x)
    >>> variables, report = convert.linen_variables(variables)
    >>> print(report)
    path         channels  groups  epsilon  folded
    BatchNorm_0        48      24    1e-05   False
    1 batch norm became group norm.
    >>> Net(norm=convert.linen_norm).apply(variables, x).shape
    (2, 48)
    """
    if not {"params", "batch_stats"} <= set(variables):
        raise ValueError(
            "linen_variables: variables must hold the collections 'params' and "
            f"'batch_stats' of a batch-norm model; got {sorted(variables)}."
        )
    rest = dict(unfreeze(dict(variables)))
    params: dict[Any, Any] = traverse_util.flatten_dict(rest.pop("params"))
    stats: dict[Any, Any] = traverse_util.flatten_dict(rest.pop("batch_stats"))
    changes = []
    for path in [key[:-1] for key in stats if key[-1] == "mean"]:
        if (*path, "var") not in stats:
            continue
        mean, var = stats.pop((*path, "mean")), stats.pop((*path, "var"))
        scale, bias = (params.pop((*path, name), None) for name in ("scale", "bias"))
        channels = jax.tree.leaves(mean)[0].shape[-1]
        number = groups(channels)
        if fold:
            scale, bias = _folded(path, scale, bias, mean, var, number, epsilon)
        new_path = (*path[:-1], rename(path[-1])) if path else path
        for name, value in (("scale", scale), ("bias", bias)):
            if value is None:
                continue
            if (*new_path, name) in params:
                raise ValueError(
                    f"linen_variables: {'.'.join(path)} cannot become "
                    f"{'.'.join(new_path)}, which is already there. Pass rename, a "
                    "function that gives it the name that the new model uses."
                )
            params[*new_path, name] = value
        changes.append(Change(".".join(path), channels, number, epsilon, fold))
    rest["params"] = traverse_util.unflatten_dict(params)
    if stats:
        rest["batch_stats"] = traverse_util.unflatten_dict(stats)
    return rest, Report(tuple(changes))


def _folded(path, scale, bias, mean, var, groups, epsilon):
    if scale is None or bias is None:
        raise ValueError(
            f"linen_variables: fold needs a scale and a bias, and {'.'.join(path)} has "
            f"{'no bias' if scale is not None else 'no scale'}. Give the model's norms "
            "use_scale=True and use_bias=True and add the missing ones and zeros to "
            "the variables first."
        )
    old_scale, old_bias, mean, var = (
        jax.tree.leaves(value)[0] for value in (scale, bias, mean, var)
    )
    folded = fold_statistics(old_scale, old_bias, mean, var, groups, epsilon)
    return tuple(
        jax.tree.map(lambda _, new=new: new, old)
        for old, new in zip((scale, bias), folded, strict=True)
    )
