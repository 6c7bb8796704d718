"""Weight standardisation: the normalisation of kernels that goes with group norm."""

import operator

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from flax_gn.functional import group_norm


def weight_standardize(
    kernel: ArrayLike,
    *,
    eps: float = 1e-10,
    output_axis: int = -1,
    mask: ArrayLike | None = None,
) -> jax.Array:
    """Gives each output channel of a kernel mean 0 and variance 1.

    With S(o) all weights of output channel o, and m their number::

        mean[o] = sum over S(o) of kernel / m
        var[o]  = sum over S(o) of (kernel - mean)^2 / m
        result  = (kernel - mean) / sqrt(var + eps)

    This is `flax_gn.instance_norm` of the kernel, and has its accuracy, its small
    residuals and its transformations. Use it on convolutions that a norm follows;
    `flax_gn.linen.WSConv` and `flax_gn.nnx.WSConv` do.

    The epsilon belongs to a checkpoint. BiT's code for JAX (big_vision, bit_paper.py)
    and torch has 1e-10, the default here; timm has 1e-6 in its layer and 1e-8 for BiT;
    TransUNet has 1e-5. The paper, its authors' code and big_vision's bit.py divide by
    sqrt(var) + 1e-5 instead, which no eps here reproduces: with eps=1e-10 each filter
    is larger by the factor 1 + 1e-5 / sqrt(var).

    Args:
      kernel: shape (*spatial, C_in, C_out) as Flax has it, of rank 2 or more;
        floating-point.
      eps: added to the variance; positive.
      output_axis: the axis of the output channels: -1 for Flax's kernels, 0 for
        torch's.
      mask: boolean, broadcastable to the kernel, True where a weight is in use (the
        masked convolutions of Flax). The statistics are those of the weights in use;
        the others become 0.

    Returns:
      An array of the kernel's shape and dtype; the arithmetic is float32 or wider. An
      output channel that has one weight, or equal weights, becomes 0.

    Raises:
      TypeError: kernel is no floating-point array, or mask no boolean array.
      ValueError: kernel has fewer than two axes, output_axis is none of them, mask
        does not fit, or eps is not positive.

    >>> import jax.numpy as jnp
    >>> from flax_gn import weight_standardize
    >>> weight_standardize(jnp.array([[1.0, 5.0], [3.0, 5.0]]))
    Array([[-1.,  0.],
           [ 1.,  0.]], dtype=float32)

    Source: Qiao, Wang, Liu, Shen & Yuille, "Micro-Batch Training with Batch-Channel
    Normalization and Weight Standardization", arXiv:1903.10520, section 3.
    """
    rank = jnp.ndim(kernel)
    axis = operator.index(output_axis)
    if rank < 2 or not -rank <= axis < rank:
        raise ValueError(
            "weight_standardize: kernel must have an input and an output axis, and "
            f"output_axis must be one of its axes; got shape {jnp.shape(kernel)} and "
            f"output_axis={axis}."
        )
    if axis % rank != rank - 1:
        kernel = jnp.moveaxis(jnp.asarray(kernel), axis, -1)
        mask = None if mask is None else jnp.moveaxis(jnp.asarray(mask), axis, -1)
    standardized = group_norm(
        kernel, group_size=1, eps=eps, mask=mask, reduction_axes=range(rank)
    )
    return jnp.moveaxis(standardized, -1, axis)
