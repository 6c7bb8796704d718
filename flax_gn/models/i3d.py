"""Residual networks for video that take their norm as an argument."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

from flax_gn.linen import GroupNorm
from flax_gn.models.resnet import MakeNorm, he_normal

_ones, _zeros = nn.initializers.ones, nn.initializers.zeros


class I3D(nn.Module):
    """A residual network of basic blocks whose convolutions also look along time.

    The first convolution of every block has a window of three frames, the second of
    one; only the stem skips frames. A norm takes its statistics over time, height and
    width. Each block ends with a norm whose scale starts at zero, as in `ResNet`, and a
    network has no training mode, as is said there.

    >>> import jax, jax.numpy as jnp
    >>> from functools import partial
    >>> from flax_gn.linen import GroupNorm
    >>> from flax_gn.models import I3D
    >>> model = I3D(norm=partial(GroupNorm, num_groups=None, group_size=8), width=16)
    >>> logits, variables = jax.eval_shape(
    ...     model.init_with_output, jax.random.key(0), jnp.ones((2, 8, 32, 32, 1))
    ... )
    >>> logits.shape
    (2, 400)

    Attributes:
      norm: makes each norm layer, as in `ResNet`.
      conv: makes each convolution, as in `ResNet`.
      classes: number of outputs.
      stages: number of blocks in each stage. Every stage but the first halves height
        and width and doubles the channels.
      width: channels of the stem and of the first stage.
      stem: window of the first convolution, in frames and pixels.
      stem_stride: of the first convolution, likewise.
      dtype: dtype of the computation, such as bfloat16. Parameters stay float32, and
        so do the last layer and the logits.

    Source: Carreira & Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, for the
    inflation of image networks; Wang, Girshick, Gupta & He, "Non-local Neural
    Networks", CVPR 2018, section 4, which inflates one convolution of a residual block
    and is what Wu & He, "Group Normalization", ECCV 2018, section 4.3, train.
    """

    norm: MakeNorm = GroupNorm
    conv: Callable[..., Callable[[jax.Array], jax.Array]] = nn.Conv
    classes: int = 400
    stages: Sequence[int] = (1, 1)
    width: int = 64
    stem: tuple[int, int] = (3, 5)
    stem_stride: tuple[int, int] = (1, 2)
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of clips.

        Args:
          x: shape (N, T, H, W, C), floating-point, standardised.

        Returns:
          float32, shape (N, classes).

        Raises:
          ValueError: x is no batch of clips.
        """
        if x.ndim != 5:
            raise ValueError(
                f"I3D: expected clips of shape (N, T, H, W, C); got x of shape "
                f"{x.shape}: one clip needs a leading axis of 1, one picture a time "
                "axis of 1."
            )
        x = x.astype(self.dtype)
        x = self._conv(x, self.width, "stem_conv", self.stem, self.stem_stride)
        x = nn.relu(self._norm(x, "stem_norm"))
        for stage, blocks in enumerate(self.stages):
            for index in range(blocks):
                x = self._block(
                    x,
                    self.width * 2**stage,
                    2 if stage > 0 and index == 0 else 1,
                    f"stage{stage + 1}_block{index + 1}",
                )
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2, 3))
        return nn.Dense(
            self.classes, kernel_init=nn.initializers.normal(0.01), name="head"
        )(x)

    def _block(self, x: jax.Array, features: int, stride: int, name: str) -> jax.Array:
        """A basic block, the first of its convolutions inflated."""
        y = self._conv(x, features, f"{name}_conv1", (3, 3), (1, stride))
        y = nn.relu(self._norm(y, f"{name}_norm1"))
        y = self._conv(y, features, f"{name}_conv2", (1, 3))
        y = self._norm(y, f"{name}_norm2", _zeros)
        if x.shape != y.shape:
            x = self._conv(x, features, f"{name}_shortcut", (1, 1), (1, stride))
            x = self._norm(x, f"{name}_shortcut_norm")
        return nn.relu(y + x)

    def _norm(self, x: jax.Array, name: str, scale: Initializer = _ones) -> jax.Array:
        return self.norm(name=name, dtype=self.dtype, scale_init=scale)(x)

    def _conv(
        self,
        x: jax.Array,
        features: int,
        name: str,
        window: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
    ) -> jax.Array:
        """A convolution without bias; window and stride in frames and pixels."""
        (frames, pixels), (skip, step) = window, stride
        return self.conv(
            features,
            (frames, pixels, pixels),
            strides=(skip, step, step),
            padding=[(frames // 2, frames // 2), *[(pixels // 2, pixels // 2)] * 2],
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            name=name,
        )(x)
