"""A one-stage detector without anchors that takes its norm as an argument."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from flax_gn.linen import GroupNorm
from flax_gn.models.resnet import BasicBlock, MakeNorm, he_normal


class Level(NamedTuple):
    """What a detector says at each position of one level of its pyramid, in float32.

    Position (i, j) stands for the point ((j + 1/2) stride, (i + 1/2) stride).

    Attributes:
      classes: logits, (N, H / stride, W / stride, classes).
      centerness: logits, (N, H / stride, W / stride).
      distances: from the point to the left, top, right and bottom edge of its box, in
        pixels, (N, H / stride, W / stride, 4); all are positive.
    """

    classes: jax.Array
    centerness: jax.Array
    distances: jax.Array


class FCOS(nn.Module):
    """A residual backbone, a feature pyramid, and heads that its levels share.

    Each stage of the backbone halves the sides and gives a level of the pyramid; the
    first has stride 4. The convolutions of the heads are shared by all levels, their
    norms are not: batch norm's running averages would otherwise be those of no level
    (Tan, Pang & Le, "EfficientDet", CVPR 2020, and Wu & Johnson, "Rethinking 'Batch' in
    BatchNorm", 2021, section 5.1). Group norm alike has parameters for each level, so
    that networks differ in nothing but their norm.

    A network has no training mode, as `ResNet` says.

    >>> import jax, jax.numpy as jnp
    >>> from functools import partial
    >>> from flax_gn.linen import GroupNorm
    >>> from flax_gn.models import FCOS
    >>> model = FCOS(norm=partial(GroupNorm, num_groups=None, group_size=8))
    >>> x = jnp.ones((2, 64, 96, 3))
    >>> levels, variables = jax.eval_shape(
    ...     model.init_with_output, jax.random.key(0), x
    ... )
    >>> [level.distances.shape for level in levels]
    [(2, 16, 24, 4), (2, 8, 12, 4), (2, 4, 6, 4)]

    Attributes:
      norm: makes each norm layer, as in `ResNet`.
      conv: makes each convolution, as in `ResNet`.
      classes: of objects.
      stages: number of blocks in each stage of the backbone.
      width: channels of the stem; each stage doubles them.
      features: channels of the pyramid and of the heads.
      tower: convolutions in each of the two heads.
      prior: probability that the untrained network gives to each class everywhere, so
        that the many positions without an object do not swamp the first steps (Lin and
        others, "Focal Loss for Dense Object Detection", ICCV 2017, section 3.3).
      dtype: dtype of the computation, such as bfloat16. What the heads return, and what
        makes it, is float32.

    Source: Tian, Shen, Chen & He, "FCOS: Fully Convolutional One-Stage Object
    Detection", ICCV 2019, section 3, at a size to be chosen.
    """

    norm: MakeNorm = GroupNorm
    conv: Callable[..., Callable[[jax.Array], jax.Array]] = nn.Conv
    classes: int = 1
    stages: Sequence[int] = (1, 1, 1)
    width: int = 16
    features: int = 32
    tower: int = 2
    prior: float = 0.01
    dtype: Dtype = jnp.float32

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between the positions of each level."""
        return tuple(4 * 2**stage for stage in range(len(self.stages)))

    @nn.compact
    def __call__(self, x: jax.Array) -> list[Level]:
        """What is seen on each level, from the finest to the coarsest.

        Args:
          x: shape (N, H, W, C), floating-point, standardised.

        Raises:
          ValueError: H or W is no multiple of the coarsest stride.
        """
        if any(side % self.strides[-1] for side in x.shape[1:3]):
            raise ValueError(
                "FCOS: H and W must be multiples of the coarsest stride, "
                f"{self.strides[-1]}; got x of shape {x.shape}: pad or crop it."
            )
        pyramid = self._pyramid(self._backbone(x.astype(self.dtype)))
        logits = self._output(self.classes, "logits", -math.log(1 / self.prior - 1))
        centerness = self._output(1, "centerness")
        distances = self._output(4, "distances")
        levels = []
        for stride, named, boxed in zip(
            self.strides,
            self._tower("classes", pyramid),
            self._tower("boxes", pyramid),
            strict=True,
        ):
            scale = self.param(f"scale_{stride}", nn.initializers.ones, ())
            levels.append(
                Level(
                    logits(named),
                    centerness(boxed)[..., 0],
                    stride * jnp.exp(scale * distances(boxed)),
                )
            )
        return levels

    def _backbone(self, x: jax.Array) -> list[jax.Array]:
        x = nn.relu(self._normed(x, self.width, "stem", size=3, stride=2))
        found = []
        for stage, blocks in enumerate(self.stages):
            for index in range(blocks):
                x = BasicBlock(
                    features=2 * self.width * 2**stage,
                    stride=2 if index == 0 else 1,
                    norm=self.norm,
                    conv=self.conv,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
            found.append(x)
        return found

    def _pyramid(self, found: list[jax.Array]) -> list[jax.Array]:
        """Adds to each level what the coarser ones know."""
        levels, above = [], None
        for stride, x in reversed(list(zip(self.strides, found, strict=True))):
            x = self._normed(x, self.features, f"lateral_{stride}", size=1)
            if above is not None:
                x = x + jnp.repeat(jnp.repeat(above, 2, axis=1), 2, axis=2)
            above = x
            levels.append(self._normed(x, self.features, f"merged_{stride}", size=3))
        return levels[::-1]

    def _tower(self, name: str, levels: list[jax.Array]) -> list[jax.Array]:
        """Applies the convolutions of a head to every level."""
        for index in range(1, self.tower + 1):
            conv = self._conv(self.features, f"{name}_conv{index}", size=3)
            levels = [
                nn.relu(self._norm(f"{name}_norm{index}_{stride}")(conv(level)))
                for stride, level in zip(self.strides, levels, strict=True)
            ]
        return levels

    def _output(
        self, features: int, name: str, bias: float = 0.0
    ) -> Callable[[jax.Array], jax.Array]:
        """The last convolution of a head. No norm follows, so it has a bias."""
        return self.conv(
            features,
            (3, 3),
            strides=1,
            padding=[(1, 1)] * 2,
            kernel_init=nn.initializers.normal(0.01),
            bias_init=nn.initializers.constant(bias),
            dtype=jnp.float32,
            name=name,
        )

    def _normed(
        self, x: jax.Array, features: int, name: str, *, size: int, stride: int = 1
    ) -> jax.Array:
        x = self._conv(features, f"{name}_conv", size=size, stride=stride)(x)
        return self._norm(f"{name}_norm")(x)

    def _conv(
        self, features: int, name: str, *, size: int, stride: int = 1
    ) -> Callable[[jax.Array], jax.Array]:
        return self.conv(
            features,
            (size, size),
            strides=stride,
            padding=[(size // 2, size // 2)] * 2,
            use_bias=False,
            kernel_init=he_normal,
            dtype=self.dtype,
            name=name,
        )

    def _norm(self, name: str) -> Callable[[jax.Array], jax.Array]:
        return self.norm(name=name, dtype=self.dtype, scale_init=nn.initializers.ones)
