"""linen: group norm for a model that takes its norm as an argument."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

from flax_gn import linen as layers
from flax_gn.convert._groups import Groups, choose_groups, number_of_groups


class GroupNorm(layers.GroupNorm):
    """`flax_gn.linen.GroupNorm` that may be called as a batch norm."""

    def __call__(self, x: jax.Array, use_running_average: Any = None, **options: Any):
        """Normalises x; there is no running average to use or not to use."""
        del use_running_average
        if jnp.ndim(x):
            path = ".".join(self.path)
            number_of_groups("linen_norm", self.num_groups, x.shape[-1], path)
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
    groups: Groups = choose_groups,
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
      groups: the number of groups, or a function from the number of channels to it.
      **module: ``name`` and ``parent``, as every linen module takes.

    Returns:
      A layer, whose default name in its parent is ``GroupNorm_0`` and so on.

    Raises:
      ValueError: axis is not -1; or, at the call and with the layer's path, the number
        of groups does not divide the channels.

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
