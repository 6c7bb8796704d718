"""An encoder and decoder for dense prediction that takes its norm as an argument."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from flax_gn.linen import GroupNorm
from flax_gn.models.resnet import MakeNorm, he_normal


class UNet(nn.Module):
    """Halves its input again and again, then doubles it back with what it saw before.

    It has as many spatial axes as its input: two for images, three for volumes, over
    all of which a norm takes its statistics. Unlike the first U-Net its convolutions
    keep the size, the halving is a convolution of stride 2, as in V-Net (Milletari,
    Navab & Ahmadi, 3DV 2016), and the doubling repeats each position, which leaves no
    checkerboard (Odena, Dumoulin & Olah, "Deconvolution and Checkerboard Artifacts",
    Distill 2016).

    A network has no training mode, as `ResNet` says.

    >>> import jax, jax.numpy as jnp
    >>> from functools import partial
    >>> from flax_gn.linen import GroupNorm
    >>> from flax_gn.models import UNet
    >>> norm = partial(GroupNorm, num_groups=None, group_size=8)
    >>> model = UNet(norm=norm, classes=3, width=8)
    >>> for shape in [(2, 32, 48, 1), (1, 16, 16, 8, 1)]:
    ...     logits, variables = jax.eval_shape(
    ...         model.init_with_output, jax.random.key(0), jnp.ones(shape)
    ...     )
    ...     print(logits.shape)
    (2, 32, 48, 3)
    (1, 16, 16, 8, 3)

    Attributes:
      norm: makes each norm layer, as in `ResNet`.
      conv: makes each convolution, as in `ResNet`.
      classes: number of outputs at each position.
      width: channels at full resolution; each halving doubles them.
      levels: how often it halves.
      dtype: dtype of the computation, such as bfloat16. Parameters stay float32, and
        so do the last layer and the logits.

    Source: Ronneberger, Fischer & Brox, "U-Net", MICCAI 2015, figure 1; Cicek and
    others, "3D U-Net", MICCAI 2016, figure 2.
    """

    norm: MakeNorm = GroupNorm
    conv: Callable[..., Callable[[jax.Array], jax.Array]] = nn.Conv
    classes: int = 2
    width: int = 64
    levels: int = 2
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits at each position.

        Args:
          x: shape (N, *spatial, C), floating-point, standardised.

        Returns:
          float32, shape (N, *spatial, classes).

        Raises:
          ValueError: x has no spatial axis, or one that cannot be halved ``levels``
            times.
        """
        multiple = 2**self.levels
        if x.ndim < 3 or any(side % multiple for side in x.shape[1:-1]):
            raise ValueError(
                "UNet: expected x of shape (N, *spatial, C) with spatial sides that "
                f"are multiples of {multiple}, to be halved {self.levels} times; got "
                f"{x.shape}: pad or crop it, or take fewer levels."
            )
        x = self._twice(x.astype(self.dtype), self.width, "encoder0")
        seen = []
        for level in range(1, self.levels + 1):
            seen.append(x)
            features = self.width * 2**level
            x = self._normed(x, features, f"encoder{level}_down", stride=2)
            x = self._normed(x, features, f"encoder{level}_conv")
        for level in reversed(range(self.levels)):
            features = self.width * 2**level
            # Fewer channels first: a 1x1 convolution and the repetition commute.
            x = doubled(self._conv(x, features, f"decoder{level}_up", size=1))
            x = jnp.concatenate([seen[level], x], axis=-1)
            x = self._twice(x, features, f"decoder{level}")
        return nn.Dense(
            self.classes, kernel_init=nn.initializers.normal(0.01), name="head"
        )(x.astype(jnp.float32))

    def _twice(self, x: jax.Array, features: int, name: str) -> jax.Array:
        for index in (1, 2):
            x = self._normed(x, features, f"{name}_conv{index}")
        return x

    def _normed(
        self, x: jax.Array, features: int, name: str, stride: int = 1
    ) -> jax.Array:
        x = self._conv(x, features, name, stride=stride)
        norm = self.norm(
            name=f"{name}_norm", dtype=self.dtype, scale_init=nn.initializers.ones
        )
        return nn.relu(norm(x))

    def _conv(
        self, x: jax.Array, features: int, name: str, *, size: int = 3, stride: int = 1
    ) -> jax.Array:
        """Without bias: a norm follows, if not at once, and has one."""
        axes = x.ndim - 2
        return self.conv(
            features,
            (size,) * axes,
            strides=(stride,) * axes,
            padding=[(size // 2, size // 2)] * axes,
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            name=name,
        )(x)


def doubled(x: jax.Array) -> jax.Array:
    """Every position twice along each spatial axis.

    As one broadcast and one reshape: the gradient of `jnp.repeat` is a scatter.
    """
    n, *sides, channels = x.shape
    apart = x.reshape(n, *(part for side in sides for part in (side, 1)), channels)
    twice = (n, *(part for side in sides for part in (side, 2)), channels)
    return jnp.broadcast_to(apart, twice).reshape(
        n, *(2 * side for side in sides), channels
    )
