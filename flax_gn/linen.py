"""Group normalisation as flax.linen layers, and the paper's other norms."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import BatchNorm
from flax.linen.dtypes import canonicalize_dtype
from jax.typing import ArrayLike

from flax_gn import _layers
from flax_gn._problem import Activation
from flax_gn.weight_standardization import weight_standardize

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "WSConv"]


class GroupNorm(nn.GroupNorm):
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
      group_size: channels per group, instead of ``num_groups``, whose default of 32
        stands aside.
      epsilon: added to the variance. Flax's default, 1e-6; the paper's is 1e-5. With 0,
        a group of equal values gives NaN.
      dtype: dtype of the result. None follows Flax: the promotion of x, scale and
        bias, which turns bfloat16 input into float32 output since the parameters are
        float32. Pass ``dtype=jnp.bfloat16`` to keep bfloat16. With float64 the
        statistics are float64 too.
      param_dtype: dtype of scale and bias.
      use_bias: whether to learn beta.
      use_scale: whether to learn gamma.
      bias_init: initialiser of beta.
      scale_init: initialiser of gamma.
      reduction_axes: axes that share statistics; it must include the channel axis,
        the last. None means all but the first.
      axis_name: mapped axes (pmap, shard_map) whose devices hold parts of one sample
        and share its statistics. Unequal masks are weighted by their counts. As for
        Flax's BatchNorm the axes need not be there for ``init``.
      axis_index_groups: which devices along ``axis_name`` share statistics.
      use_fast_variance: accepted and ignored. The variance here is accurate and costs
        one read of x; Flax's fast variance, E[x^2] - E[x]^2, is never used.
      force_float32_reductions: accepted and ignored. Statistics are always float32
        or wider.
      activation: None, "relu", "silu", "gelu", "mish" or an elementwise callable,
        applied to the result; the backward pass rebuilds its input instead of storing
        it. A module, such as `flax.linen.PReLU`, is a submodule like any other that is
        an attribute, and is applied after the norm, as is a function that holds arrays.
      implementation: as in `flax_gn.group_norm`.

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equations 1, 2,
    6 and 7.
    """

    num_groups: _layers.NumGroups = 32  # pyright: ignore[reportIncompatibleVariableOverride]
    activation: str | Activation | None = None
    implementation: str | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        scale: ArrayLike | None = None,
        shift: ArrayLike | None = None,
    ) -> jax.Array:
        """Normalises x.

        Args:
          x: shape (N, *spatial, C) or (C,), floating-point or of integers.
          mask: boolean or of zeros and ones, broadcastable to x with or without its
            channel axis; only what it keeps enters the statistics, and the others give
            the bias.
          scale: conditioning, a number or of shape (C,) or (N, C), with or without axes
            of size 1 between: the result is multiplied by ``1 + scale``, as in adaptive
            group norm.
          shift: conditioning, as scale, added to the result.

        Returns:
          An array of x's shape.

        Raises:
          TypeError: an argument has the wrong type or dtype.
          ValueError: an argument has the wrong shape or value.
        """
        with _layers.speaking(self):
            shape = _layers.shape_of(x)
            gamma, beta = _parameters(self, shape[-1:])
            x, dtype = _layers.floating(
                x, (gamma, beta), self.dtype, canonicalize_dtype
            )
            groups = _layers.number_of_groups(
                self.num_groups, self.group_size, shape[-1]
            )
            return _layers.call(
                self,
                x,
                gamma,
                beta,
                groups=groups,
                reduction_axes=self.reduction_axes,
                mask=mask,
                scale=scale,
                shift=shift,
                dtype=dtype,
                axis_name=_axis_name(self),
            )


def _parameters(
    layer: nn.GroupNorm | nn.InstanceNorm, shape: tuple[int, ...]
) -> tuple[Any, Any]:
    """Scale and bias of a layer, or None for what it does not use."""

    def parameter(name, initialiser):
        stored = shape
        if layer.has_variable("params", name):
            # Checkpoints of before linen, and of others, have (1, 1, 1, C).
            value = nn.unbox(layer.get_variable("params", name))
            if jnp.shape(value)[-1:] == shape and jnp.size(value) == shape[0]:
                stored = jnp.shape(value)
        return layer.param(name, initialiser, stored, layer.param_dtype)

    return (
        parameter("scale", layer.scale_init) if layer.use_scale else None,
        parameter("bias", layer.bias_init) if layer.use_bias else None,
    )


def _axis_name(layer: nn.GroupNorm | nn.InstanceNorm) -> Any:
    """The mapped axes of a layer, which need not be there when it is initialised."""
    return None if layer.is_initializing() else layer.axis_name


class LayerNorm(GroupNorm):
    """The paper's layer norm, which is another norm than `flax.linen.LayerNorm`.

    It has one group, so its statistics are over space and all channels. Flax's, that of
    transformers, leaves the spatial axes out, as ``reduction_axes=-1`` does here: this
    is no drop-in for it. With mean and var per sample::

        y = activation(scale * (x - mean) / sqrt(var + epsilon) + bias)

    The other arguments, the call and the errors are those of `GroupNorm`.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.linen import LayerNorm
    >>> x = jnp.array([[[1.0, 1.0], [-1.0, -1.0]]])
    >>> LayerNorm(epsilon=1e-12).init_with_output(jax.random.key(0), x)[0]
    Array([[[ 1.,  1.],
            [-1., -1.]]], dtype=float32)

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equation 4.
    """

    num_groups: _layers.NumGroups = 1


class InstanceNorm(nn.InstanceNorm):
    """The paper's instance norm: one channel per group, statistics over space alone.

    With mean and var per sample and channel::

        y = activation(scale * (x - mean) / sqrt(var + epsilon) + bias)

    It drops in for `flax.linen.InstanceNorm`, as `GroupNorm` does for its own: the
    arguments, the parameters and the defaults are Flax's.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.linen import InstanceNorm
    >>> x = jnp.array([[[1.0, 3.0], [5.0, 7.0]]])
    >>> InstanceNorm(epsilon=1e-12).init_with_output(jax.random.key(0), x)[0]
    Array([[[-1., -1.],
            [ 1.,  1.]]], dtype=float32)

    Attributes:
      feature_axes: axes with features, which have statistics and parameters of their
        own. All other axes but the first, the batch, share statistics.
      reduction_axes: the axes that share statistics, with the channel axis, the last,
        instead of ``feature_axes``: ``(-3, -2, -1)`` takes one image, (H, W, C).

    The other attributes, the call and the errors are those of `GroupNorm`.

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equation 5.
    """

    reduction_axes: int | Sequence[int] | None = None
    activation: str | Activation | None = None
    implementation: str | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        mask: jax.Array | None = None,
        scale: ArrayLike | None = None,
        shift: ArrayLike | None = None,
    ) -> jax.Array:
        """Normalises x, with the arguments of `GroupNorm`."""
        with _layers.speaking(self):
            shape = _layers.shape_of(x)
            features, groups, reduction_axes = _layers.instance_axes(
                shape, self.feature_axes, self.reduction_axes
            )
            parameters = _parameters(self, tuple(shape[axis] for axis in features))
            x, dtype = _layers.floating(x, parameters, self.dtype, canonicalize_dtype)
            gamma, beta = (
                _layers.over_features(each, shape, features) for each in parameters
            )
            return _layers.call(
                self,
                x,
                gamma,
                beta,
                groups=groups,
                reduction_axes=reduction_axes,
                mask=mask,
                scale=scale,
                shift=shift,
                dtype=dtype,
                axis_name=_axis_name(self),
            )


class WSConv(nn.Conv):
    """`flax.linen.Conv` with a standardised kernel, to be followed by a norm.

    With mean and var over all weights of an output channel::

        y = conv(x, (kernel - mean) / sqrt(var + epsilon)) + bias

    or, with ``outside_root``, divided by ``sqrt(var) + epsilon``.

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
      outside_root: whether epsilon is added to the root of the variance instead. The
        layer of big_vision's bit.py, of vision_transformer and of Octo is, with the
        name that it has in their checkpoints::

            class StdConv(WSConv):
                epsilon: float = 1e-5
                outside_root: bool = True

    The other attributes, the call and the errors are those of `flax.linen.Conv`. With
    ``mask`` the statistics are those of the weights in use.

    Source: Qiao, Wang, Liu, Shen & Yuille, "Micro-Batch Training with Batch-Channel
    Normalization and Weight Standardization", arXiv:1903.10520, section 3.
    """

    epsilon: float = 1e-10
    outside_root: bool = False

    @nn.nowrap
    def param(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """The parameter, standardised if it is the kernel."""
        value: Any = super().param(name, *args, **kwargs)
        if name != "kernel":
            return value
        with _layers.speaking(self):
            return weight_standardize(
                value, eps=self.epsilon, mask=self.mask, outside_root=self.outside_root
            )
