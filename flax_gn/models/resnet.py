"""Residual networks that take their norm as an argument."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype, Initializer

from flax_gn.linen import GroupNorm


class MakeNorm(Protocol):
    """What a network asks of its norm: a layer class, or a partial of one."""

    def __call__(
        self, *, name: str, dtype: Dtype, scale_init: Initializer
    ) -> Callable[[jax.Array], jax.Array]:
        """The layer of that name in the network that is being built."""
        ...


# He et al. 2015, for the fan-out: gradients keep their variance from layer to layer.
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_ones, _zeros = nn.initializers.ones, nn.initializers.zeros


class MakesConv(Protocol):
    """A network, or a block of one, that `conv_without_bias` makes convolutions of."""

    @property
    def conv(self) -> Callable[..., Callable[[jax.Array], jax.Array]]:
        """What makes them."""
        ...

    @property
    def dtype(self) -> Dtype:
        """Of the computation."""
        ...


def conv_without_bias(
    network: MakesConv,
    features: int,
    size: int,
    stride: int,
    name: str,
) -> Callable[[jax.Array], jax.Array]:
    """A convolution without bias, since a norm follows and has one.

    The padding is spelled out: with a stride of 2, "SAME" would shift the window by one
    position against the torch networks whose checkpoints people load.
    """
    return network.conv(
        features,
        (size, size),
        strides=stride,
        padding=[(size // 2, size // 2)] * 2,
        use_bias=False,
        kernel_init=he_normal,
        dtype=network.dtype,
        name=name,
    )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; the stride is in the first.

    Attributes:
      features: channels of the output.
      stride: 1, or 2 to halve both sides.
      norm: makes each norm layer, as in `ResNet`.
      conv: makes each convolution, as in `ResNet`.
      dtype: dtype of the computation.
    """

    features: int
    stride: int
    norm: MakeNorm
    conv: Callable[..., Callable[[jax.Array], jax.Array]] = nn.Conv
    dtype: Dtype = jnp.float32

    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (N, H, W, C) to (N, H / stride, W / stride, features)."""
        conv = partial(conv_without_bias, self, self.features)
        norm = partial(self.norm, dtype=self.dtype)
        y = conv(3, self.stride, name="conv1")(x)
        y = nn.relu(norm(name="norm1", scale_init=_ones)(y))
        y = conv(3, 1, name="conv2")(y)
        # Zero: each block starts as its shortcut alone.
        y = norm(name="norm2", scale_init=_zeros)(y)
        return nn.relu(y + _shortcut(self, x))


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the stride is in the 3x3.

    The attributes are those of `BasicBlock`; the middle is four times narrower than
    the output.
    """

    features: int
    stride: int
    norm: MakeNorm
    conv: Callable[..., Callable[[jax.Array], jax.Array]] = nn.Conv
    dtype: Dtype = jnp.float32

    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps (N, H, W, C) to (N, H / stride, W / stride, features)."""
        conv = partial(conv_without_bias, self)
        norm = partial(self.norm, dtype=self.dtype)
        middle = self.features // self.expansion
        y = conv(middle, 1, 1, name="conv1")(x)
        y = nn.relu(norm(name="norm1", scale_init=_ones)(y))
        y = conv(middle, 3, self.stride, name="conv2")(y)
        y = nn.relu(norm(name="norm2", scale_init=_ones)(y))
        y = conv(self.features, 1, 1, name="conv3")(y)
        y = norm(name="norm3", scale_init=_zeros)(y)
        return nn.relu(y + _shortcut(self, x))


def _shortcut(block: BasicBlock | BottleneckBlock, x: jax.Array) -> jax.Array:
    """The input itself, or a 1x1 convolution and a norm where the shape changes."""
    if x.shape[-1] == block.features and block.stride == 1:
        return x
    x = conv_without_bias(block, block.features, 1, block.stride, "shortcut_conv")(x)
    return block.norm(name="shortcut_norm", dtype=block.dtype, scale_init=_ones)(x)


class ResNet(nn.Module):
    """A residual network, with the practices of the group norm paper.

    Those are: fan-out He initialisation, a zero scale in the last norm of each block,
    the stride in the 3x3 convolution, no bias in convolutions, and a last layer drawn
    from N(0, 0.01^2).

    A network has no training mode. A norm that behaves differently in training, such
    as batch norm, says so in its own arguments: make one network with
    ``norm=partial(BatchNorm, use_running_average=False)`` and one with True. They share
    their variables.

    >>> import jax, jax.numpy as jnp
    >>> from functools import partial
    >>> from flax_gn.linen import GroupNorm
    >>> from flax_gn.models import resnet20
    >>> model = resnet20(norm=partial(GroupNorm, num_groups=None, group_size=8))
    >>> x = jnp.ones((2, 32, 32, 3))
    >>> logits, variables = jax.eval_shape(
    ...     model.init_with_output, jax.random.key(0), x
    ... )
    >>> logits.shape, list(variables)
    ((2, 10), ['params'])

    Attributes:
      stages: number of blocks in each stage. Every stage but the first halves the
        sides and doubles the channels.
      block: `BasicBlock` or `BottleneckBlock`.
      norm: called with ``name``, ``dtype`` and ``scale_init`` to make each norm layer:
        a layer class or a partial of one.
      conv: called with the arguments of `flax.linen.Conv` to make each convolution;
        `flax_gn.linen.WSConv` gives weight standardisation.
      classes: number of outputs.
      width: channels of the stem. The first stage gives ``width * block.expansion``.
      stem: "imagenet", a 7x7 convolution of stride 2 and a 3x3 maximum of stride 2;
        "cifar", a 3x3 convolution; "quartering", a 7x7 convolution of stride 4.
      dtype: dtype of the computation, such as bfloat16. Parameters stay float32, and
        so do the last layer and the logits.

    Source: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR
    2016, tables 1 and 6; Wu & He, "Group Normalization", ECCV 2018, section 4.1.
    """

    stages: Sequence[int]
    block: type[BasicBlock | BottleneckBlock]
    norm: MakeNorm = GroupNorm
    conv: Callable[..., Callable[[jax.Array], jax.Array]] = nn.Conv
    classes: int = 1000
    width: int = 64
    stem: str = "imagenet"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of images.

        Args:
          x: shape (N, H, W, C), floating-point, standardised.

        Returns:
          float32, shape (N, classes).

        Raises:
          ValueError: the stem is unknown.
        """
        x = self._stem(x.astype(self.dtype))
        for stage, blocks in enumerate(self.stages):
            for index in range(blocks):
                x = self.block(
                    features=self.width * 2**stage * self.block.expansion,
                    stride=2 if stage > 0 and index == 0 else 1,
                    norm=self.norm,
                    conv=self.conv,
                    dtype=self.dtype,
                    name=f"stage{stage + 1}_block{index + 1}",
                )(x)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        return nn.Dense(
            self.classes, kernel_init=nn.initializers.normal(0.01), name="head"
        )(x)

    def _stem(self, x: jax.Array) -> jax.Array:
        sizes = {"imagenet": (7, 2), "cifar": (3, 1), "quartering": (7, 4)}
        if self.stem not in sizes:
            raise ValueError(
                f"ResNet: stem must be one of {sorted(sizes)}; got {self.stem!r}."
            )
        size, stride = sizes[self.stem]
        x = conv_without_bias(self, self.width, size, stride, "stem_conv")(x)
        x = self.norm(name="stem_norm", dtype=self.dtype, scale_init=_ones)(x)
        x = nn.relu(x)
        if self.stem == "imagenet":
            padding: Any = ((1, 1), (1, 1))  # Flax annotates str, and takes pairs
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=padding)
        return x


def _named(**defaults: Any) -> Callable[..., ResNet]:
    return partial(ResNet, **defaults)


# For ImageNet: He et al., table 1.
resnet18 = _named(stages=(2, 2, 2, 2), block=BasicBlock)
resnet34 = _named(stages=(3, 4, 6, 3), block=BasicBlock)
resnet50 = _named(stages=(3, 4, 6, 3), block=BottleneckBlock)
resnet101 = _named(stages=(3, 4, 23, 3), block=BottleneckBlock)
# As timm has it, with torch's epsilon.
resnet50_gn = partial(resnet50, norm=partial(GroupNorm, epsilon=1e-5))

# For images of about 32x32: He et al., table 6. 16 channels are too few for 32 groups,
# so the norm has to be chosen.
_small = partial(_named, block=BasicBlock, classes=10, width=16, stem="cifar")
resnet8 = _small(stages=(1, 1, 1))
resnet20 = _small(stages=(3, 3, 3))
