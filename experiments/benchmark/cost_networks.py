"""The networks that `cost` traces and compiles, with the norm as an argument."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

import flax_gn.linen
from experiments.benchmark import steps
from flax_gn import models

MakeNorm = Callable[..., Callable[[jax.Array], jax.Array]]


def _linen(*, activation: str | None = None, **arguments: Any) -> Any:
    layer = nn.GroupNorm(**arguments)
    if activation is None:
        return layer
    return lambda x: getattr(jax.nn, activation)(layer(x))


NORMS: dict[str, MakeNorm] = {
    "flax_gn": flax_gn.linen.GroupNorm,
    "flax.linen": _linen,
}


class _Block(nn.Module):
    """Norm, SiLU and convolution, twice, with the time step's embedding in between."""

    features: int
    norm: MakeNorm
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        conv = functools.partial(nn.Conv, self.features, dtype=self.dtype)
        norm = functools.partial(self.norm, dtype=self.dtype)
        y = conv((3, 3), name="conv1")(nn.silu(norm(name="norm1")(x)))
        shift = nn.Dense(self.features, dtype=self.dtype)(nn.silu(embedding))
        y = nn.silu(norm(name="norm2")(y + shift[:, None, None]))
        y = conv((3, 3), name="conv2")(y)
        return y + (x if x.shape == y.shape else conv((1, 1), name="shortcut")(x))


class _Transformer(nn.Module):
    """Attention to all positions and to the prompt, and a gated MLP, after a norm."""

    norm: MakeNorm
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array, prompt: jax.Array) -> jax.Array:
        n, height, width, channels = x.shape
        dense = functools.partial(nn.Dense, dtype=self.dtype)
        attention = functools.partial(
            nn.MultiHeadDotProductAttention, 8, dtype=self.dtype
        )
        y = self.norm(dtype=self.dtype, name="norm")(x)
        y = dense(channels)(y.reshape(n, height * width, channels))
        z = nn.LayerNorm(dtype=self.dtype)(y)
        y += attention(name="self")(z)
        z = nn.LayerNorm(dtype=self.dtype)(y)
        y += attention(name="cross")(z, prompt.astype(self.dtype))
        z, gate = jnp.split(
            dense(8 * channels)(nn.LayerNorm(dtype=self.dtype)(y)), 2, axis=-1
        )
        y += dense(channels)(z * nn.gelu(gate))
        return x + dense(channels)(y).reshape(x.shape)


class DiffusionUNet(nn.Module):
    """The U-Net of Stable Diffusion 1.5, at a fifth of its widths by default.

    61 group norms of 14 shapes: two in each of 22 blocks, one in each of 16
    transformers, one at the end. At full width, 320 to 1280 channels, it has as many
    operations, but a TPU's compiler takes long for the convolutions.

    Source: Rombach and others, "High-Resolution Image Synthesis with Latent Diffusion
    Models", CVPR 2022, and diffusers' unet_2d_condition.py.

    Attributes:
      norm: makes each norm, of 32 groups; the activation follows it outside.
      dtype: of the computation.
      widths: channels at each size; all but the last size have transformers.
    """

    norm: MakeNorm
    dtype: Dtype
    widths: tuple[int, ...] = (64, 128, 256, 256)

    @nn.compact
    def __call__(self, inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        """Maps latents, the embedding (N, E) and the prompt (N, T, D) to latents."""
        x, embedding, prompt = inputs
        embedding = embedding.astype(self.dtype)
        conv = functools.partial(nn.Conv, kernel_size=(3, 3), dtype=self.dtype)

        def block(x, features):
            return _Block(features, self.norm, self.dtype)(x, embedding)

        def transformer(x, level=0):
            if level + 1 == len(self.widths):
                return x
            return _Transformer(self.norm, self.dtype)(x, prompt)

        x = conv(self.widths[0])(x)
        seen = [x]
        for level, features in enumerate(self.widths):
            for _ in range(2):
                x = transformer(block(x, features), level)
                seen.append(x)
            if level + 1 < len(self.widths):
                x = conv(features, strides=2)(x)
                seen.append(x)
        x = block(transformer(block(x, self.widths[-1])), self.widths[-1])
        for level, features in reversed([*enumerate(self.widths)]):
            for _ in range(3):
                x = jnp.concatenate([x, seen.pop()], axis=-1)
                x = transformer(block(x, features), level)
            if level:
                n, height, width, channels = x.shape
                x = jax.image.resize(x, (n, 2 * height, 2 * width, channels), "nearest")
                x = conv(features)(x)
        return conv(inputs[0].shape[-1])(
            nn.silu(self.norm(dtype=self.dtype, name="norm_out")(x))
        )


class Stack(nn.Module):
    """Convolution, norm and ReLU, with another shape for every norm.

    Attributes:
      norm: makes each norm, of 32 groups; the activation follows it outside.
      dtype: of the computation.
      widths: channels, one after the other at each size.
      sizes: how many sizes there are, each half of the one before.
    """

    norm: MakeNorm
    dtype: Dtype
    widths: tuple[int, ...] = (32, 64, 96, 128, 160, 192)
    sizes: int = 4

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps x (N, H, W, C) to features."""
        for size in range(self.sizes):
            for index, features in enumerate(self.widths):
                strides = 2 if size and not index else 1
                x = nn.Conv(features, (3, 3), strides, dtype=self.dtype)(x)
                x = nn.relu(self.norm(dtype=self.dtype, name=f"n{size}_{index}")(x))
        return x


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and the shapes of its inputs, all float32.

    Attributes:
      title: in a table.
      make: the module, of a norm and a dtype.
      shapes: of its argument, an array or a tuple of them.
    """

    title: str
    make: Callable[[MakeNorm, Any], nn.Module]
    shapes: Any

    @property
    def inputs(self) -> Any:
        """Its inputs without values."""
        float32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
        if isinstance(self.shapes[0], int):
            return float32(self.shapes)
        return tuple(map(float32, self.shapes))

    def norms(self) -> list[tuple[int, ...]]:
        """The shape of what each norm is given."""
        found = []

        def noted(**arguments):
            def norm(x):
                found.append(x.shape)
                return _linen(**arguments)(x)

            return norm

        model = self.make(noted, jnp.float32)
        jax.eval_shape(model.init, jax.random.key(0), self.inputs)
        return found


def _resnet50(norm: Any, dtype: Any) -> nn.Module:
    return models.resnet50(norm=norm, dtype=dtype)


def _block(norm: Any, dtype: Any) -> nn.Module:
    return steps.UNetBlock(norm=norm, dtype=dtype)


NETWORKS = {
    "resnet50": Network("ResNet-50, 2 images of 64x64", _resnet50, (2, 64, 64, 3)),
    "block": Network(
        "a diffusion U-Net's block, 64x64x320, batch 2",
        _block,
        ((2, 64, 64, 320), (2, 1280)),
    ),
    "unet": Network(
        "Stable Diffusion 1.5's U-Net, 64 to 256 channels",
        DiffusionUNet,
        ((1, 64, 64, 4), (1, 1280), (1, 77, 768)),
    ),
    "stack": Network("convolutions and norms", Stack, (2, 32, 32, 3)),
}
