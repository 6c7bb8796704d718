"""The autoencoder of Stable Diffusion, with the norm as an argument."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Dtype

from flax_gn.linen import GroupNorm
from flax_gn.models.unet import doubled


class MakeActivatedNorm(Protocol):
    """What `AutoencoderKL` asks of its norm: a layer, and what to apply after it."""

    def __call__(
        self, *, name: str, dtype: Dtype, activation: Callable[..., jax.Array] | None
    ) -> Callable[[jax.Array], jax.Array]:
        """The layer of that name, activation included, in the network being built."""
        ...


def _conv(
    features: int, size: int, dtype: Dtype, name: str | None = None
) -> Callable[[jax.Array], jax.Array]:
    padding = [(size // 2, size // 2)] * 2
    return nn.Conv(features, (size, size), padding=padding, dtype=dtype, name=name)


class _Block(nn.Module):
    """Norm, SiLU and a 3x3 convolution, twice, and a shortcut."""

    features: int
    norm: MakeActivatedNorm
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = partial(self.norm, dtype=self.dtype, activation=nn.silu)
        y = _conv(self.features, 3, self.dtype, "conv1")(norm(name="norm1")(x))
        y = _conv(self.features, 3, self.dtype, "conv2")(norm(name="norm2")(y))
        if x.shape[-1] != self.features:
            x = _conv(self.features, 1, self.dtype, "shortcut")(x)
        return x + y


class _Attention(nn.Module):
    """One head over all positions, after a norm, and a shortcut."""

    norm: MakeActivatedNorm
    dtype: Dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        n, height, width, channels = x.shape
        dense = partial(nn.Dense, channels, dtype=self.dtype)
        y = self.norm(name="norm", dtype=self.dtype, activation=None)(x)
        y = y.reshape(n, height * width, 1, channels)
        # JAX's own takes the softmax of bfloat16 in float32 without saying so.
        with jax.numpy_dtype_promotion("standard"):
            y = jax.nn.dot_product_attention(
                dense(name="query")(y), dense(name="key")(y), dense(name="value")(y)
            )
        return x + dense(name="out")(y).reshape(x.shape)


class _Coder(nn.Module):
    """What encoder and decoder share: their first convolution and their middle."""

    widths: Sequence[int]
    blocks: int
    outputs: int
    norm: MakeActivatedNorm
    dtype: Dtype

    def _block(self, features: int, name: str) -> _Block:
        return _Block(features, self.norm, self.dtype, name=name)

    def _middle(self, x: jax.Array) -> jax.Array:
        x = self._block(self.widths[-1], "middle_block1")(x)
        x = _Attention(self.norm, self.dtype, name="middle_attention")(x)
        return self._block(self.widths[-1], "middle_block2")(x)

    def _end(self, x: jax.Array) -> jax.Array:
        norm = self.norm(name="norm_out", dtype=self.dtype, activation=nn.silu)
        return _conv(self.outputs, 3, self.dtype, "conv_out")(norm(x))


class _Encoder(_Coder):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = _conv(self.widths[0], 3, self.dtype, "conv_in")(x)
        for level, features in enumerate(self.widths, start=1):
            for index in range(1, self.blocks + 1):
                x = self._block(features, f"down{level}_block{index}")(x)
            if level < len(self.widths):
                # Padded at the far ends alone, whether a side is odd or even.
                x = nn.Conv(
                    features,
                    (3, 3),
                    strides=2,
                    padding=[(0, 1)] * 2,
                    dtype=self.dtype,
                    name=f"down{level}_conv",
                )(x)
        return self._end(self._middle(x))


class _Decoder(_Coder):
    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = _conv(self.widths[-1], 3, self.dtype, "conv_in")(z)
        x = self._middle(x)
        for level, features in enumerate(reversed(self.widths), start=1):
            for index in range(1, self.blocks + 2):
                x = self._block(features, f"up{level}_block{index}")(x)
            if level < len(self.widths):
                x = _conv(features, 3, self.dtype, f"up{level}_conv")(doubled(x))
        return self._end(x)


class AutoencoderKL(nn.Module):
    """The autoencoder of Stable Diffusion, as diffusers has it.

    The encoder gives a mean and the logarithm of a variance for each latent, the
    decoder an image. Every norm has 32 groups and an epsilon of 1e-6, and all but those
    of the attention are followed by a SiLU, which the norm applies.

    >>> import jax, jax.numpy as jnp
    >>> from flax_gn.models import AutoencoderKL
    >>> model = AutoencoderKL(widths=(32, 64), blocks=1)
    >>> images = jnp.ones((2, 32, 48, 3))
    >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
    >>> mean, logvar = jax.eval_shape(
    ...     lambda v, x: model.apply(v, x, method="encode"), variables, images
    ... )
    >>> mean.shape, logvar.shape
    ((2, 16, 24, 4), (2, 16, 24, 4))
    >>> decoded = jax.eval_shape(
    ...     lambda v, z: model.apply(v, z, method="decode"), variables, mean
    ... )
    >>> decoded.shape
    (2, 32, 48, 3)

    Attributes:
      widths: channels of each level. Every level but the last halves the sides.
      blocks: residual blocks of each level of the encoder; the decoder has one more.
      latents: channels of the latents.
      channels: of the image.
      outer_convs: whether there is a 1x1 convolution after the encoder and one before
        the decoder, as for Stable Diffusion 1, 2 and XL; later ones have none.
      norm: called with ``name``, ``dtype`` and ``activation``, a function or None, to
        make each norm layer and what comes after it: a layer class or a partial of one.
      dtype: dtype of the computation, such as bfloat16. Parameters stay float32, and
        so do means, variances and images.

    Source: Rombach, Blattmann, Lorenz, Esser & Ommer, "High-Resolution Image Synthesis
    with Latent Diffusion Models", CVPR 2022, section 3.1 and appendix G.
    """

    widths: Sequence[int] = (128, 256, 512, 512)
    blocks: int = 2
    latents: int = 4
    channels: int = 3
    outer_convs: bool = True
    norm: MakeActivatedNorm = GroupNorm
    dtype: Dtype = jnp.float32

    def setup(self):
        """Makes the encoder and the decoder."""
        coder = {
            "widths": self.widths,
            "blocks": self.blocks,
            "norm": self.norm,
            "dtype": self.dtype,
        }
        self.encoder = _Encoder(outputs=2 * self.latents, **coder)
        self.decoder = _Decoder(outputs=self.channels, **coder)
        if self.outer_convs:
            self.encoder_conv = _conv(2 * self.latents, 1, self.dtype)
            self.decoder_conv = _conv(self.latents, 1, self.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """An image from the mean of its latents.

        Args:
          x: shape (N, H, W, channels), floating-point, from -1 to 1.

        Returns:
          float32, the shape of x where the sides can be halved for each level.
        """
        return self.decode(self.encode(x)[0])

    def encode(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Mean and logarithm of the variance of the latents of an image.

        Args:
          x: shape (N, H, W, channels), floating-point, from -1 to 1.

        Returns:
          Two arrays, float32, of shape (N, H / 8, W / 8, latents) for four levels. The
          logarithm lies between -30 and 20.
        """
        x = self.encoder(x.astype(self.dtype))
        if self.outer_convs:
            x = self.encoder_conv(x)
        mean, logvar = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def decode(self, z: jax.Array) -> jax.Array:
        """An image from latents.

        Args:
          z: shape (N, h, w, latents), floating-point, as the encoder gives it: a
            diffusion model's, once divided by its scaling factor (0.18215 for Stable
            Diffusion 1 and 2, 0.13025 for XL).

        Returns:
          float32, shape (N, 8 h, 8 w, channels) for four levels.
        """
        z = z.astype(self.dtype)
        if self.outer_convs:
            z = self.decoder_conv(z)
        return self.decoder(z).astype(jnp.float32)
