"""Weights that others trained, as the variables of the network here."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util
from jax.typing import ArrayLike

from flax_gn.convert._names import named

_CHANNELS = 3


def trained_variables(
    model: nn.Module,
    state: Mapping[str, ArrayLike] | str | os.PathLike[str],
    *,
    without: Sequence[str] = (),
) -> dict[str, Any]:
    """Turns the weights of timm, diffusers or BiT into the variables of a network.

    Every parameter gets one tensor, and every tensor goes to one parameter: kernels
    from torch's (out, in, height, width) to (height, width, in, out), the last layer
    from (out, in) to (in, out). The names are those of timm's ``resnet50_gn`` and its
    like for a `flax_gn.models.ResNet`, of timm's ``resnetv2_50x1_bit`` and its like or
    of BiT's own ``.npz`` for a `ResNetV2`, and of diffusers' ``AutoencoderKL``, also
    from before 2023, for an `AutoencoderKL`.

    The network has to be as the weights were trained, epsilons included, which no file
    holds: `resnet50_gn`, `resnetv2_50x1_bit` and `AutoencoderKL` of `flax_gn.models`
    are.

    Args:
      model: the network, for images of three channels.
      state: tensors by name, such as torch's state dict with a ``.numpy()`` for each,
        or the path of a ``.safetensors`` file (which needs the package safetensors) or
        of BiT's ``.npz``.
      without: parts at the top of the network whose weights are left out, such as
        ``["head"]`` to train another one. They need not be in ``state``.

    Returns:
      The variables of the model: ``{"params": ...}``, as arrays of JAX in the dtypes of
      the model's parameters.

    Raises:
      TypeError: no names are known for such a model.
      ValueError: the file is of another kind, ``without`` names no part, or the
        tensors are not those of the model: the message lists what is missing, what is
        left over and what has the wrong shape.
      ModuleNotFoundError: safetensors is not installed.

    >>> import jax, numpy as np
    >>> from flax_gn import convert, models
    >>> model = models.resnet50_gn(stages=(), classes=10)
    >>> rng = np.random.default_rng(0)
    >>> shapes = {"conv1.weight": (64, 3, 7, 7), "bn1.weight": 64, "bn1.bias": 64}
    >>> shapes |= {"fc.weight": (10, 64), "fc.bias": 10}
    >>> state = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    >>> variables = convert.trained_variables(model, state)
    >>> jax.tree.map(np.shape, variables["params"]["head"])
    {'bias': (10,), 'kernel': (64, 10)}
    >>> model.apply(variables, np.ones((2, 32, 32, 3), np.float32)).shape
    (2, 10)
    """
    shapes = _parameters(model)
    parts = {path[0] for path in shapes}
    if not parts >= set(without):
        raise ValueError(
            f"trained_variables: without takes parts of the network, {sorted(parts)}; "
            f"got {list(without)}."
        )
    left = _read(state) if isinstance(state, str | os.PathLike) else dict(state)
    names = named(model, left)
    missing, wrong, params = [], [], {}
    for path, leaf in shapes.items():
        name = names.of(path)
        value = left.pop(name, None)
        if path[0] in without:
            continue
        if value is None:
            missing.append(name)
            continue
        value = _moved(np.asarray(value), names.order, leaf.ndim)
        if value.shape != leaf.shape:
            wrong.append(f"{name} {value.shape} for {leaf.shape}")
            continue
        params[path] = jnp.asarray(value, leaf.dtype)
    if missing or wrong or left:
        lists = {"missing": missing, "left over": list(left), "of a wrong shape": wrong}
        told = [f"{what}: {', '.join(which)}" for what, which in lists.items() if which]
        raise ValueError(
            f"trained_variables: these are not the tensors of this {_kind(model)}. "
            + "; ".join(told)
            + ". Shapes are in Flax's order. Give the model the attributes of the one "
            "that was trained; without leaves out parts of it."
        )
    return {"params": traverse_util.unflatten_dict(params)}


def _kind(model: nn.Module) -> str:
    return type(model).__name__


def _parameters(model: nn.Module) -> dict[Any, Any]:
    """Shapes and dtypes of the parameters by path."""
    variables: Any = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 64, _CHANNELS)))
    )
    return dict(traverse_util.flatten_dict(variables["params"]))


def _read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tensors of a file."""
    path = pathlib.Path(path)
    if path.suffix == ".npz":
        with np.load(path) as stored:
            return dict(stored)
    if path.suffix == ".safetensors":
        try:
            from safetensors import numpy
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"trained_variables: reading {path.name} needs the package "
                "safetensors: pip install 'flax_gn[weights]'"
            ) from error
        return numpy.load_file(path)
    raise ValueError(
        "trained_variables: expected a .safetensors file or BiT's .npz; got "
        f"{path.name}. Read torch's own files with torch and pass the tensors."
    )


def _moved(value: np.ndarray, order: Mapping[int, tuple[int, ...]], ndim: int):
    """The axes where Flax has them. A 1x1 convolution can be a dense layer here."""
    if value.ndim in order:
        value = value.transpose(order[value.ndim])
    if value.ndim == 4 and ndim == 2 and value.shape[:2] == (1, 1):
        value = value[0, 0]
    return value
