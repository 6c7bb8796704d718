"""What the nnx layers share: their variables, their channels, and their kernel."""

import math
from typing import Any

import jax
from flax import nnx
from flax.nnx.nn import dtypes

from flax_gn import _layers
from flax_gn._versions import of_flax
from flax_gn._words import said


def attribute(activation: Any) -> Any:
    """An activation as an attribute; the arrays of a foreign module are data."""
    arrays = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(activation))
    own = isinstance(activation, nnx.Module)
    return nnx.data(activation) if arrays and not own else activation


def check_channels(x: Any, channels: int, axes: tuple[int, ...]) -> None:
    """Refuses an x whose feature axes hold other than the channels of the layer."""
    shape = _layers.shape_of(x)
    if math.prod(shape[axis] for axis in axes) != channels:
        raise ValueError(
            said(
                f"`x` must have num_features={channels} channels in "
                f"{'its last axis' if axes == (-1,) else f'its axes {axes}'}; got "
                f"shape {shape}. `x` is channels-last; move a channels-first axis "
                "with jnp.moveaxis(x, 1, -1)."
            )
        )


def promoted(
    layer: nnx.GroupNorm | of_flax.InstanceNorm, x: jax.Array
) -> tuple[jax.Array, jax.Array | None, jax.Array | None, Any]:
    """X, scale and bias of a layer, and the dtype of the result."""
    gamma = None if layer.scale is None else layer.scale[...]
    beta = None if layer.bias is None else layer.bias[...]
    promote_dtype = of_flax.promote_dtype(layer)
    if promote_dtype is not dtypes.promote_dtype:
        x, gamma, beta = promote_dtype((x, gamma, beta), dtype=layer.dtype)
    x, dtype = _layers.floating(
        x, (gamma, beta), layer.dtype, dtypes.canonicalize_dtype
    )
    return x, gamma, beta, dtype


class WithKernel:
    """A convolution as it is, but for its kernel.

    A copy of the layer would be a layer of the trace that the layer is of, and could
    not be given a kernel under a transformation that it is closed over in.
    """

    def __init__(self, layer: nnx.Conv, kernel: jax.Array):
        self._layer = layer
        self.kernel = nnx.Param(kernel)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)
