"""A network in the manner of VGG: convolutions one after another, no shortcuts."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from flax_gn.models.resnet import he_normal


class VGG(nn.Module):
    """3x3 convolutions with a norm after each, and a maximum between stages.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.linen import GroupNorm
    >>> model = VGG(stages=((32,), (64, 64)), norm=GroupNorm, classes=10)
    >>> variables = jax.eval_shape(
    ...     model.init, jax.random.key(0), jnp.ones((1, 28, 28, 1))
    ... )
    >>> sorted(variables["params"])
    ['conv1', 'conv2', 'conv3', 'head', 'norm1', 'norm2', 'norm3']

    Attributes:
      stages: the channels of each convolution of each stage.
      norm: makes each norm layer, as in `flax_gn.models.ResNet`.
      conv: makes each convolution, likewise.
      classes: number of outputs.
      stride: of the first convolution, whose window is 2 wider than a step at least.

    Source: Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale
    Image Recognition", ICLR 2015; with a norm after every convolution in Wu & He,
    "Group Normalization", ECCV 2018, section 4.1. An average takes the place of the
    fully connected layers.
    """

    stages: Sequence[Sequence[int]]
    norm: Callable[..., Any]
    conv: Callable[..., Any] = nn.Conv
    classes: int = 10
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits, (N, classes), of images, (N, H, W, C).

        What the last convolution gives, before its norm, is sown as "last" into the
        collection "intermediates".
        """
        layer = 0
        for index, widths in enumerate(self.stages):
            if index:
                x = nn.max_pool(x, (2, 2), strides=(2, 2))
            for features in widths:
                layer += 1
                x = self._conv(x, features, self.stride if layer == 1 else 1, layer)
                if layer == sum(map(len, self.stages)):
                    self.sow("intermediates", "last", x)
                x = self.norm(
                    name=f"norm{layer}",
                    dtype=jnp.float32,
                    scale_init=nn.initializers.ones,
                )(x)
                x = nn.relu(x)
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(
            self.classes, kernel_init=nn.initializers.normal(0.01), name="head"
        )(x)

    def _conv(self, x: jax.Array, features: int, stride: int, layer: int) -> jax.Array:
        size = 3 if stride == 1 else stride + 1 + stride % 2
        return self.conv(
            features,
            (size, size),
            strides=stride,
            padding=[(size // 2, size // 2)] * 2,
            use_bias=False,
            kernel_init=he_normal,
            name=f"conv{layer}",
        )(x)
