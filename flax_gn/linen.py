"""Group normalisation as flax.linen layers, and the paper's other norms."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import BatchNorm
from flax.linen.dtypes import canonicalize_dtype
from flax.typing import Dtype, Initializer

from flax_gn import _layers
from flax_gn._problem import Activation
from flax_gn.weight_standardization import weight_standardize

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "WSConv"]


class GroupNorm(nn.Module):
    """Group normalisation with the arguments and parameters of `flax.linen.GroupNorm`.

    With mean and var per sample and group, as `flax_gn.group_norm` takes them::

        y = activation(scale * (x - mean) / sqrt(var + epsilon) + bias)

    Changing the import is the whole migration: the constructor, the parameter names
    (``scale`` and ``bias``), their shapes ``(C,)`` and the defaults are Flax's, so a
    checkpoint loads as it is.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.linen import GroupNorm
    >>> layer = GroupNorm(num_groups=8, activation="silu")
    >>> x = jnp.ones((2, 16, 16, 64))
    >>> variables = layer.init(jax.random.key(0), x)
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'bias': (64,), 'scale': (64,)}}
    >>> layer.apply(variables, x).shape
    (2, 16, 16, 64)

    Attributes:
      num_groups: number of groups, G. It must divide the number of channels. A function
        of the number of channels, such as `flax_gn.convert.choose_groups`, picks it.
      group_size: channels per group, instead of ``num_groups`` (then pass None there).
      epsilon: added to the variance. Flax's default, 1e-6; the paper's is 1e-5.
      dtype: dtype of the result. None follows Flax: the promotion of x, scale and
        bias, which turns bfloat16 input into float32 output since the parameters are
        float32. Pass ``dtype=jnp.bfloat16`` to keep bfloat16.
      param_dtype: dtype of scale and bias.
      use_bias: whether to learn beta.
      use_scale: whether to learn gamma.
      bias_init: initialiser of beta.
      scale_init: initialiser of gamma.
      reduction_axes: axes that share statistics; it must include the channel axis,
        the last. None means all but the first.
      axis_name: mapped axes (pmap, shard_map) whose devices hold parts of one sample
        and share its statistics. Unequal masks are weighted by their counts.
      axis_index_groups: which devices along ``axis_name`` share statistics.
      use_fast_variance: accepted and ignored. The variance here is accurate and costs
        one read of x; Flax's fast variance, E[x^2] - E[x]^2, is never used.
      force_float32_reductions: accepted and ignored. Statistics are always float32
        or wider.
      activation: None, "relu", "silu", "gelu", "mish" or an elementwise callable,
        applied to the result; the backward pass rebuilds its input instead of storing
        it.

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equations 1, 2,
    6 and 7.
    """

    num_groups: _layers.NumGroups = 32
    group_size: int | None = None
    epsilon: float = 1e-6
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32
    use_bias: bool = True
    use_scale: bool = True
    bias_init: Initializer = nn.initializers.zeros
    scale_init: Initializer = nn.initializers.ones
    reduction_axes: int | Sequence[int] | None = None
    axis_name: Any = None
    axis_index_groups: Any = None
    use_fast_variance: bool = True
    force_float32_reductions: bool = True
    activation: str | Activation | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        scale: jax.Array | None = None,
        shift: jax.Array | None = None,
    ) -> jax.Array:
        """Normalises x.

        Args:
          x: shape (N, *spatial, C), floating-point.
          mask: boolean, broadcastable to x with or without its channel axis; only
            True positions enter the statistics, and the others give the bias.
          scale: conditioning, shape (C,) or (N, C): the result is multiplied by
            ``1 + scale``, as in adaptive group norm.
          shift: conditioning, shape (C,) or (N, C), added to the result.

        Returns:
          An array of x's shape.

        Raises:
          TypeError: an argument has the wrong type or dtype.
          ValueError: an argument has the wrong shape or value.
        """
        shape = (x.shape[-1],) if jnp.ndim(x) else ()
        gamma = beta = None
        if self.use_scale:
            gamma = self.param("scale", self.scale_init, shape, self.param_dtype)
        if self.use_bias:
            beta = self.param("bias", self.bias_init, shape, self.param_dtype)
        return _layers.call(
            self,
            x,
            gamma,
            beta,
            num_groups=self.num_groups,
            group_size=self.group_size,
            mask=mask,
            scale=scale,
            shift=shift,
            dtype=canonicalize_dtype(x, gamma, beta, dtype=self.dtype),
        )


class LayerNorm(GroupNorm):
    """The paper's layer norm: one group, so statistics over space and all channels.

    With mean and var per sample::

        y = activation(scale * (x - mean) / sqrt(var + epsilon) + bias)

    This is not `flax.linen.LayerNorm`, which by default leaves the spatial axes out;
    ``reduction_axes=-1`` does so here. The other arguments, the call and the errors are
    those of `GroupNorm`.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.linen import LayerNorm
    >>> x = jnp.array([[[1.0, 1.0], [-1.0, -1.0]]])
    >>> LayerNorm(epsilon=1e-12).init_with_output(jax.random.key(0), x)[0]
    Array([[[ 1.,  1.],
            [-1., -1.]]], dtype=float32)

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equation 4.
    """

    num_groups: _layers.NumGroups = 1


class InstanceNorm(GroupNorm):
    """The paper's instance norm: one channel per group, statistics over space alone.

    With mean and var per sample and channel::

        y = activation(scale * (x - mean) / sqrt(var + epsilon) + bias)

    The other arguments, the call and the errors are those of `GroupNorm`.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.linen import InstanceNorm
    >>> x = jnp.array([[[1.0, 3.0], [5.0, 7.0]]])
    >>> InstanceNorm(epsilon=1e-12).init_with_output(jax.random.key(0), x)[0]
    Array([[[-1., -1.],
            [ 1.,  1.]]], dtype=float32)

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equation 5.
    """

    num_groups: _layers.NumGroups = None
    group_size: int | None = 1


class WSConv(nn.Conv):
    """`flax.linen.Conv` with a standardised kernel, to be followed by a norm.

    With mean and var over all weights of an output channel::

        y = conv(x, (kernel - mean) / sqrt(var + epsilon)) + bias

    The stored kernel is the raw one, under Flax's names and shapes, so a checkpoint of
    a standardised convolution loads as it is. `flax_gn.weight_standardize` says which
    checkpoints want which epsilon.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.linen import WSConv
    >>> layer = WSConv(features=8, kernel_size=(3, 3), use_bias=False)
    >>> variables = layer.init(jax.random.key(0), jnp.ones((1, 16, 16, 3)))
    >>> jax.tree.map(jnp.shape, variables)
    {'params': {'kernel': (3, 3, 3, 8)}}

    Attributes:
      epsilon: added to the variance of each output channel's weights.

    The other attributes, the call and the errors are those of `flax.linen.Conv`. With
    ``mask`` the statistics are those of the weights in use.

    Source: Qiao, Wang, Liu, Shen & Yuille, "Micro-Batch Training with Batch-Channel
    Normalization and Weight Standardization", arXiv:1903.10520, section 3.
    """

    epsilon: float = 1e-10

    @nn.nowrap
    def param(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The parameter, standardised if it is the kernel."""
        value: Any = super().param(name, *args, **kwargs)
        if name != "kernel":
            return value
        used = None if self.mask is None else self.mask != 0
        return weight_standardize(value, eps=self.epsilon, mask=used)
