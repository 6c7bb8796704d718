"""linen: the variables of a model become those of its group-norm twin."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import traverse_util
from flax.core import unfreeze

from flax_gn.convert._fold import fold as fold_statistics
from flax_gn.convert._groups import Groups, choose_groups, number_of_groups
from flax_gn.convert._report import Change, Left, Report


def group_norm_name(name: str) -> str:
    """BatchNorm_3 becomes GroupNorm_3, as linen will call it; other names stay."""
    return re.sub(r"^BatchNorm_(\d+)$", r"GroupNorm_\1", name)


def linen_variables(
    variables: Mapping[str, Any],
    *,
    groups: Groups = choose_groups,
    epsilon: float = 1e-5,
    fold: bool = False,
    rename: Callable[[str], str] = group_norm_name,
) -> tuple[dict[str, Any], Report]:
    """Turns the variables of a batch-norm model into those of its group-norm twin.

    The twin is the same model with another norm argument, `linen_norm` or
    `flax_gn.linen.GroupNorm`. Scale and bias carry over, boxes of sharding metadata
    included; the batch statistics of the batch norms leave; everything else stays. The
    report names what stays in ``batch_stats``: a layer of another kind, such as
    spectral norm or a batch norm of one's own.

    Args:
      variables: the collections ``params`` and ``batch_stats``, and any others.
      groups: the number of groups, or a function from the number of channels to it; the
        same as the model's.
      epsilon: the batch norms' epsilon.
      fold: whether to fold the running statistics into scale and bias, as
        `nnx_model` does.
      rename: a function from a batch norm's name to the group norm's.

    Returns:
      New variables, a plain dict, and a report of what was changed and what was left.

    Raises:
      TypeError: groups is, or gives, no int.
      ValueError: the collections are not there, a new name is already taken, the number
        of groups does not divide a layer's channels, or ``fold`` is asked for a layer
        that has no scale or no bias.

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
    parameters = _by_module(params)
    changes, left = [], []
    for path, kept in _by_module(stats).items():
        dotted = ".".join(map(str, path))
        if reason := _obstacle(kept, parameters.get(path, set())):
            left.append(Left(dotted, reason))
            continue
        mean, var = stats.pop((*path, "mean")), stats.pop((*path, "var"))
        scale, bias = (params.pop((*path, name), None) for name in ("scale", "bias"))
        channels = jax.tree.leaves(mean)[0].shape[-1]
        number = number_of_groups("linen_variables", groups, channels, dotted)
        if fold:
            scale, bias = _folded(dotted, scale, bias, mean, var, number, epsilon)
        new_path = (*path[:-1], rename(path[-1])) if path else path
        for name, value in (("scale", scale), ("bias", bias)):
            if value is None:
                continue
            if (*new_path, name) in params:
                raise ValueError(
                    f"linen_variables: {dotted} cannot become "
                    f"{'.'.join(new_path)}, which is already there. Pass rename, a "
                    "function that gives it the name that the new model uses."
                )
            params[*new_path, name] = value
        changes.append(Change(dotted, channels, number, epsilon, fold))
    rest["params"] = traverse_util.unflatten_dict(params)
    if stats:
        rest["batch_stats"] = traverse_util.unflatten_dict(stats)
    return rest, Report(tuple(changes), tuple(left))


def _by_module(flat: Mapping[Any, Any]) -> dict[tuple[Any, ...], set[str]]:
    """The names that each path holds."""
    modules: dict[tuple[Any, ...], set[str]] = {}
    for *path, name in flat:
        modules.setdefault(tuple(path), set()).add(name)
    return modules


def _obstacle(stats: set[str], params: set[str]) -> str | None:
    """Why what holds these statistics and parameters is no batch norm, if so."""
    if stats != {"mean", "var"}:
        names = ", ".join(sorted(stats))
        return f"it keeps {names}, and a batch norm keeps mean and var alone."
    if not params <= {"scale", "bias"}:
        names = ", ".join(sorted(params))
        return f"its parameters are {names}, and a batch norm's are scale and bias."
    return None


def _folded(path, scale, bias, mean, var, groups, epsilon):
    if scale is None or bias is None:
        raise ValueError(
            f"linen_variables: fold needs a scale and a bias, and {path} has "
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
