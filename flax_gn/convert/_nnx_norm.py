"""nnx: group norm for a model that takes its norm as an argument."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import Dtype, Initializer, PromoteDtypeFn

from flax_gn import nnx as layers
from flax_gn.convert._groups import Groups, choose_groups, number_of_groups


class GroupNorm(layers.GroupNorm):
    """`flax_gn.nnx.GroupNorm` that may be called, and set, as a batch norm."""

    # Nothing reads it. set_attributes, train(), eval() and nnx.view look for it.
    use_running_average: bool | None = None

    def __call__(self, x: jax.Array, use_running_average: Any = None, **options: Any):
        """Normalises x; there is no running average to use or not to use."""
        del use_running_average
        return super().__call__(x, **options)

    def set_view(self, use_running_average: bool | None = None):
        """Called by `flax.nnx.view`.

        Args:
          use_running_average: kept, and without effect.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average


def nnx_norm(
    num_features: int,
    *,
    use_running_average: bool | None = False,
    axis: int = -1,
    momentum: float = 0.99,
    epsilon: float = 1e-5,
    dtype: Dtype | None = None,
    param_dtype: Dtype = jnp.float32,
    use_bias: bool = True,
    use_scale: bool = True,
    bias_init: Initializer = nnx.initializers.zeros,
    scale_init: Initializer = nnx.initializers.ones,
    axis_name: str | None = None,
    axis_index_groups: Any = None,
    use_fast_variance: bool = True,
    promote_dtype: PromoteDtypeFn = dtypes.promote_dtype,
    rngs: nnx.Rngs,
    bias_metadata: Mapping[str, Any] = MappingProxyType({}),
    scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    groups: Groups = choose_groups,
) -> GroupNorm:
    """Group norm for a model that was written for `flax.nnx.BatchNorm`.

    It takes BatchNorm's arguments, so it goes where a model takes its norm:
    ``ResNet(norm=nnx_norm)``. The number of groups is chosen by the number of
    channels. Nothing is done with momentum, axis_name and axis_index_groups: there is
    no running average, and no batch to share.

    Args:
      num_features: number of channels, C.
      use_running_average: kept, so that ``set_attributes``, ``train()``, ``eval()`` and
        ``nnx.view`` find it, and without effect, here and in the call.
      axis: the channel axis; only -1, the last.
      momentum: accepted and ignored.
      epsilon: as in `flax_gn.nnx.GroupNorm`, with BatchNorm's default.
      dtype: as in `flax_gn.nnx.GroupNorm`.
      param_dtype: as in `flax_gn.nnx.GroupNorm`.
      use_bias: as in `flax_gn.nnx.GroupNorm`.
      use_scale: as in `flax_gn.nnx.GroupNorm`.
      bias_init: as in `flax_gn.nnx.GroupNorm`.
      scale_init: as in `flax_gn.nnx.GroupNorm`.
      axis_name: accepted and ignored.
      axis_index_groups: accepted and ignored.
      use_fast_variance: accepted and ignored.
      promote_dtype: as in `flax_gn.nnx.GroupNorm`.
      rngs: as in `flax_gn.nnx.GroupNorm`.
      bias_metadata: as in `flax_gn.nnx.GroupNorm`.
      scale_metadata: as in `flax_gn.nnx.GroupNorm`.
      groups: the number of groups, or a function from the number of channels to it.

    Returns:
      A layer.

    Raises:
      TypeError: groups is, or gives, no int.
      ValueError: axis is not -1, or the number of groups does not divide num_features.

    >>> from flax import nnx
    >>> from flax_gn.convert import nnx_norm
    >>> norm = nnx_norm(48, momentum=0.9, rngs=nnx.Rngs(0))
    >>> norm.num_groups, norm.epsilon
    (24, 1e-05)
    """
    del momentum, axis_name, axis_index_groups
    if axis != -1:
        raise ValueError(
            f"nnx_norm: axis must be -1, channels last; got {axis}. Move the channels "
            "with jnp.moveaxis."
        )
    norm = GroupNorm(
        num_features,
        number_of_groups("nnx_norm", groups, num_features),
        epsilon=epsilon,
        dtype=dtype,
        param_dtype=param_dtype,
        use_bias=use_bias,
        use_scale=use_scale,
        bias_init=bias_init,
        scale_init=scale_init,
        use_fast_variance=use_fast_variance,
        promote_dtype=promote_dtype,
        rngs=rngs,
        bias_metadata=bias_metadata,
        scale_metadata=scale_metadata,
    )
    norm.use_running_average = use_running_average
    return norm
