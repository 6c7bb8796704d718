"""Pre-activation residual networks, as Big Transfer (BiT) trains them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from flax_gn.linen import GroupNorm, WSConv
from flax_gn.models.resnet import MakeNorm, conv_without_bias

_ones = nn.initializers.ones
_EXPANSION = 4


class PreActivationBlock(nn.Module):
    """Three convolutions, each after a norm and a ReLU, and a shortcut.

    The stride is in the 3x3. The first block of a stage projects its shortcut, from
    what the first ReLU gives and without a norm.

    Attributes:
      features: channels of the output; the middle is four times narrower.
      stride: 1, or 2 to halve both sides.
      project: whether the shortcut is a 1x1 convolution.
      norm: makes each norm layer, as in `ResNet`.
      conv: makes each convolution, as in `ResNet`.
      dtype: dtype of the computation.
    """

    features: int
    stride: int
    project: bool
    norm: MakeNorm
    conv: Callable[..., Callable[[jax.Array], jax.Array]]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (N, H, W, C) to (N, H / stride, W / stride, features)."""
        conv = partial(conv_without_bias, self)
        norm = partial(self.norm, dtype=self.dtype, scale_init=_ones)
        middle = self.features // _EXPANSION
        y = nn.relu(norm(name="norm1")(x))
        if self.project:
            x = conv(self.features, 1, self.stride, name="shortcut_conv")(y)
        y = conv(middle, 1, 1, name="conv1")(y)
        y = nn.relu(norm(name="norm2")(y))
        y = conv(middle, 3, self.stride, name="conv2")(y)
        y = nn.relu(norm(name="norm3")(y))
        return x + conv(self.features, 1, 1, name="conv3")(y)


class ResNetV2(nn.Module):
    """A residual network whose norms come before its convolutions.

    Its kernels are standardised, which with group norm took the place of batch norm in
    Big Transfer. Otherwise the practices are those of `ResNet`: fan-out He
    initialisation, the stride in the 3x3 convolution, no bias in convolutions, and a
    last layer drawn from N(0, 0.01^2). No scale starts at zero, since a residual branch
    ends in a convolution.

    A network has no training mode, as `ResNet` says.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.models import resnetv2_50x1_bit
    >>> model = resnetv2_50x1_bit(classes=10)
    >>> x = jnp.ones((2, 64, 64, 3))
    >>> logits, variables = jax.eval_shape(
    ...     model.init_with_output, jax.random.key(0), x
    ... )
    >>> logits.shape, list(variables)
    ((2, 10), ['params'])

    Attributes:
      stages: number of blocks in each stage. Every stage but the first halves the
        sides and doubles the channels.
      block: `PreActivationBlock`, or what one makes of it.
      norm: makes each norm layer, as in `ResNet`.
      conv: makes each convolution, as in `ResNet`.
      classes: number of outputs.
      width: channels of the stem, 64 times the factor in the name of a BiT network. The
        first stage gives ``4 * width``.
      dtype: dtype of the computation, such as bfloat16. Parameters stay float32, and
        so do the last layer and the logits.

    Source: Kolesnikov and others, "Big Transfer (BiT)", ECCV 2020, section 3; He,
    Zhang, Ren & Sun, "Identity Mappings in Deep Residual Networks", ECCV 2016, figure
    4e.
    """

    stages: Sequence[int]
    block: type[PreActivationBlock] = PreActivationBlock
    norm: MakeNorm = GroupNorm
    conv: Callable[..., Callable[[jax.Array], jax.Array]] = WSConv
    classes: int = 1000
    width: int = 64
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of images.

        Args:
          x: shape (N, H, W, C), floating-point, standardised.

        Returns:
          float32, shape (N, classes).
        """
        x = conv_without_bias(self, self.width, 7, 2, "stem_conv")(x.astype(self.dtype))
        # Zeros around the maximum: it is taken before a ReLU, so they can win.
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        x = nn.max_pool(x, (3, 3), strides=(2, 2))
        for stage, blocks in enumerate(self.stages):
            for index in range(blocks):
                x = self.block(
                    features=self.width * 2**stage * _EXPANSION,
                    stride=2 if stage > 0 and index == 0 else 1,
                    project=index == 0,
                    norm=self.norm,
                    conv=self.conv,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = self.norm(name="head_norm", dtype=self.dtype, scale_init=_ones)(x)
        x = jnp.mean(nn.relu(x).astype(jnp.float32), axis=(1, 2))
        return nn.Dense(
            self.classes, kernel_init=nn.initializers.normal(0.01), name="head"
        )(x)


def _bit(stages: Sequence[int], factor: int) -> Callable[..., ResNetV2]:
    """A network as timm has it, with timm's epsilons; those of others: `WSConv`."""
    defaults: dict[str, Any] = {
        "stages": stages,
        "width": 64 * factor,
        "norm": partial(GroupNorm, epsilon=1e-5),
        "conv": partial(WSConv, epsilon=1e-8),
    }
    return partial(ResNetV2, **defaults)


resnetv2_50x1_bit = _bit((3, 4, 6, 3), 1)
resnetv2_50x3_bit = _bit((3, 4, 6, 3), 3)
resnetv2_101x1_bit = _bit((3, 4, 23, 3), 1)
resnetv2_101x3_bit = _bit((3, 4, 23, 3), 3)
resnetv2_152x2_bit = _bit((3, 8, 36, 3), 2)
resnetv2_152x4_bit = _bit((3, 8, 36, 3), 4)
