"""A convolution as one matrix product over patches, for CPUs.

XLA's CPU backend runs a small convolution inside a loop, and most of all its gradient
for the kernel, an order of magnitude slower than a matrix product of the same size. On
two cores of an AMD EPYC with jax 0.12, forward and backward of a 3x3 convolution inside
`jax.lax.fori_loop`, milliseconds:

    input           channels out    convolution    patches
    (4, 14, 14, 16)           16           1.72       0.18
    (4,  7,  7, 32)           32           2.17       0.08
    (4,  4,  4, 64)           64           1.45       0.12
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def conv(
    x: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` for channels-last arrays, without its extras.

    It is what ``flax.linen.Conv(..., conv_general_dilated=conv)`` calls.

    Args:
      x: shape (N, *spatial, C), of any number of spatial axes.
      kernel: shape (*window, C, features).
      window_strides: along each spatial axis.
      padding: (before, after) along each spatial axis.
      lhs_dilation: ones.
      rhs_dilation: ones.
      dimension_numbers: those of Flax, channels last.
      feature_group_count: 1.
      precision: of the matrix product.

    Returns:
      Shape (N, *spatial', features).

    Raises:
      NotImplementedError: dilation, groups of features or padding by name.
    """
    del dimension_numbers
    dilations = {*(lhs_dilation or ()), *(rhs_dilation or ()), 1}
    if dilations != {1} or feature_group_count != 1 or isinstance(padding, str):
        raise NotImplementedError(
            "expected a plain convolution with its padding in numbers; got dilations "
            f"{sorted(dilations)}, {feature_group_count} groups of features and "
            f"padding {padding!r}: use jax.lax.conv_general_dilated"
        )
    *window, channels, features = kernel.shape
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    # Of each spatial axis, from where to where a position of the window reads.
    reads = [
        [slice(i, i + length - size + 1, stride) for i in range(size)]
        for length, size, stride in zip(
            x.shape[1:-1], window, window_strides, strict=True
        )
    ]
    patches = [x[:, *read] for read in itertools.product(*reads)]
    return jnp.matmul(
        jnp.concatenate(patches, axis=-1),
        kernel.reshape(math.prod(window) * channels, features),
        precision=precision,
    )
