"""Group normalisation as flax.nnx layers, and the paper's other norms."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import BatchNorm
from flax.nnx.nn import dtypes
from flax.typing import Dtype, Initializer, PromoteDtypeFn
from jax.typing import ArrayLike

from flax_gn import _layers, _nnx
from flax_gn._problem import Activation
from flax_gn._versions import of_flax
from flax_gn.weight_standardization import weight_standardize

__all__ = ["BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm", "WSConv"]


class GroupNorm(nnx.GroupNorm):
    """Group normalisation with the arguments and state of `flax.nnx.GroupNorm`.

    With mean and var per sample and group, as `flax_gn.group_norm` takes them::

        y = activation(scale * (x - mean) / sqrt(var + epsilon) + bias)

    Changing the import is the whole migration: the constructor, the state (``scale``
    and ``bias`` of shape ``(C,)``) and the defaults are Flax's, so a checkpoint loads
    as it is, and it is a subclass, so filters by type still find it. The output is
    that of `flax_gn.linen.GroupNorm`, bit for bit.

    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> from flax_gn.nnx import GroupNorm
    >>> layer = GroupNorm(64, num_groups=8, activation="silu", rngs=nnx.Rngs(0))
    >>> jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(layer)))
    {'bias': (64,), 'scale': (64,)}
    >>> layer(jnp.ones((2, 16, 16, 64))).shape
    (2, 16, 16, 64)

    Args:
      num_features: number of channels, C.
      num_groups: number of groups, G. It must divide C. A function of C, such as
        `flax_gn.convert.choose_groups`, picks it.
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
        and share its statistics. Unequal masks are weighted by their counts.
      axis_index_groups: which devices along ``axis_name`` share statistics.
      use_fast_variance: accepted and ignored. The variance here is accurate and costs
        one read of x; Flax's fast variance, E[x^2] - E[x]^2, is never used.
      promote_dtype: Flax's own only decides the dtype of the result, and nothing is
        rounded before that. A function of the caller's is applied to
        ``(x, scale, bias)`` with ``dtype=dtype``, and what it returns is used.
      activation: None, "relu", "silu", "gelu", "mish" or an elementwise callable,
        applied to the result; the backward pass rebuilds its input instead of storing
        it. A module, such as `flax.nnx.PReLU`, is a child like any other and is applied
        after the norm, as is a function that holds arrays.
      implementation: as in `flax_gn.group_norm`.
      rngs: the keys of the initialisers, as in every nnx layer.
      bias_metadata: metadata of the bias variable, such as sharding.
      scale_metadata: metadata of the scale variable.

    Raises:
      TypeError: num_groups or group_size is no int.
      ValueError: both or neither are given, or one does not divide num_features.

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equations 1, 2,
    6 and 7.
    """

    def __init__(
        self,
        num_features: int,
        num_groups: _layers.NumGroups = 32,
        group_size: int | None = None,
        *,
        epsilon: float = 1e-6,
        dtype: Dtype | None = None,
        param_dtype: Dtype = jnp.float32,
        use_bias: bool = True,
        use_scale: bool = True,
        bias_init: Initializer = nnx.initializers.zeros,
        scale_init: Initializer = nnx.initializers.ones,
        reduction_axes: int | Sequence[int] | None = None,
        axis_name: Any = None,
        axis_index_groups: Any = None,
        use_fast_variance: bool = True,
        promote_dtype: PromoteDtypeFn = dtypes.promote_dtype,
        activation: str | Activation | None = None,
        implementation: str | None = None,
        rngs: nnx.Rngs,
        bias_metadata: Mapping[str, Any] = MappingProxyType({}),
        scale_metadata: Mapping[str, Any] = MappingProxyType({}),
    ):
        with _layers.speaking(self):
            number = _layers.number_of_groups(num_groups, group_size, num_features)
            metadata = of_flax.metadata(bias_metadata, scale_metadata)
        super().__init__(
            num_features,
            number,
            epsilon=epsilon,
            dtype=dtype,
            param_dtype=param_dtype,
            use_bias=use_bias,
            use_scale=use_scale,
            bias_init=bias_init,
            scale_init=scale_init,
            reduction_axes=reduction_axes,
            axis_name=axis_name,
            axis_index_groups=axis_index_groups,
            use_fast_variance=use_fast_variance,
            rngs=rngs,
            **metadata,
        )
        self.promote_dtype = promote_dtype
        self.activation = _nnx.attribute(activation)
        self.implementation = implementation

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
            _nnx.check_channels(x, self.num_groups * self.group_size, (-1,))
            x, gamma, beta, dtype = _nnx.promoted(self, x)
            return _layers.call(
                self,
                x,
                gamma,
                beta,
                groups=self.num_groups,
                reduction_axes=self.reduction_axes,
                mask=mask,
                scale=scale,
                shift=shift,
                dtype=dtype,
                axis_name=self.axis_name,
            )


class LayerNorm(GroupNorm):
    """The paper's layer norm, which is another norm than `flax.nnx.LayerNorm`.

    It has one group, so its statistics are over space and all channels. Flax's, that of
    transformers, leaves the spatial axes out, as ``reduction_axes=-1`` does here: this
    is no drop-in for it. With mean and var per sample::

        y = activation(scale * (x - mean) / sqrt(var + epsilon) + bias)

    The call and the errors are those of `GroupNorm`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from flax_gn.nnx import LayerNorm
    >>> x = jnp.array([[[1.0, 1.0], [-1.0, -1.0]]])
    >>> LayerNorm(2, epsilon=1e-12, rngs=nnx.Rngs(0))(x)
    Array([[[ 1.,  1.],
            [-1., -1.]]], dtype=float32)

    Args:
      num_features: number of channels, C.
      **options: the keyword arguments of `GroupNorm`, but for the groups.

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equation 4.
    """

    def __init__(self, num_features: int, **options: Any):
        super().__init__(num_features, 1, **options)


class InstanceNorm(of_flax.InstanceNorm):
    """The paper's instance norm: one channel per group, statistics over space alone.

    With mean and var per sample and channel::

        y = activation(scale * (x - mean) / sqrt(var + epsilon) + bias)

    It drops in for `flax.nnx.InstanceNorm`, as `GroupNorm` does for its own: the
    arguments, the state and the defaults are Flax's. The call and the errors are those
    of `GroupNorm`.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from flax_gn.nnx import InstanceNorm
    >>> x = jnp.array([[[1.0, 3.0], [5.0, 7.0]]])
    >>> InstanceNorm(2, epsilon=1e-12, rngs=nnx.Rngs(0))(x)
    Array([[[-1., -1.],
            [ 1.,  1.]]], dtype=float32)

    Args:
      num_features: number of channels, C; of several feature axes, the product of
        their sizes.
      reduction_axes: the axes that share statistics, with the channel axis, the last,
        instead of ``feature_axes``: ``(-3, -2, -1)`` takes one image, (H, W, C).
      activation: as in `GroupNorm`.
      implementation: as in `flax_gn.group_norm`.
      **options: the other keyword arguments of `flax.nnx.InstanceNorm`, such as
        ``feature_axes``: axes with features, which have statistics and parameters of
        their own. All other axes but the first, the batch, share statistics.

    Source: Wu & He, "Group Normalization", ECCV 2018, arXiv:1803.08494, equation 5.
    """

    def __init__(
        self,
        num_features: int,
        *,
        reduction_axes: int | Sequence[int] | None = None,
        activation: str | Activation | None = None,
        implementation: str | None = None,
        **options: Any,
    ):
        with _layers.speaking(self):
            super().__init__(num_features, **options)
        self.reduction_axes = reduction_axes
        self.activation = _nnx.attribute(activation)
        self.implementation = implementation

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
            last = features == (len(shape) - 1,)
            _nnx.check_channels(x, self.num_features, (-1,) if last else features)
            x, gamma, beta, dtype = _nnx.promoted(self, x)
            return _layers.call(
                self,
                x,
                _layers.over_features(gamma, shape, features),
                _layers.over_features(beta, shape, features),
                groups=groups,
                reduction_axes=reduction_axes,
                mask=mask,
                scale=scale,
                shift=shift,
                dtype=dtype,
                axis_name=self.axis_name,
            )


class WSConv(nnx.Conv):
    """`flax.nnx.Conv` with a standardised kernel, to be followed by a norm.

    With mean and var over all weights of an output channel::

        y = conv(x, (kernel - mean) / sqrt(var + epsilon)) + bias

    or, with ``outside_root``, divided by ``sqrt(var) + epsilon``.

    The stored kernel is the raw one, under Flax's names and shapes, so a checkpoint of
    a standardised convolution loads as it is. `flax_gn.weight_standardize` says which
    checkpoints want which epsilon.

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from flax_gn.nnx import WSConv
    >>> layer = WSConv(3, 8, kernel_size=(3, 3), use_bias=False, rngs=nnx.Rngs(0))
    >>> layer(jnp.ones((1, 16, 16, 3))).shape
    (1, 16, 16, 8)

    Args:
      *args: the positional arguments of `flax.nnx.Conv`.
      epsilon: added to the variance of each output channel's weights.
      outside_root: whether epsilon is added to the root of the variance instead. With
        ``epsilon=1e-5`` it is the layer of big_vision's bit.py.
      **kwargs: the keyword arguments of `flax.nnx.Conv`. With ``mask`` the statistics
        are those of the weights in use.

    Raises:
      ValueError: epsilon is negative, at the call.

    Source: Qiao, Wang, Liu, Shen & Yuille, "Micro-Batch Training with Batch-Channel
    Normalization and Weight Standardization", arXiv:1903.10520, section 3.
    """

    def __init__(
        self,
        *args: Any,
        epsilon: float = 1e-10,
        outside_root: bool = False,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.epsilon = epsilon
        self.outside_root = outside_root

    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """Convolves ``inputs``, shape (*batch, *spatial, C_in), as `flax.nnx.Conv`."""
        with _layers.speaking(self):
            kernel = weight_standardize(
                self.kernel[...],
                eps=self.epsilon,
                mask=self.mask,
                outside_root=self.outside_root,
            )
            options = of_flax.out_sharding(out_sharding)
        convolve: Any = super().__call__
        options = {} if out_sharding is None else {"out_sharding": out_sharding}
        return convolve.__func__(_nnx.WithKernel(self, kernel), inputs, **options)
