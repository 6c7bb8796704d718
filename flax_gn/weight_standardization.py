"""Weight standardisation: the normalisation of kernels that goes with group norm."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from flax_gn import _arguments, _operands
from flax_gn._words import said, spoken_by
from flax_gn.functional import group_norm, group_stats


@spoken_by("weight_standardize", x="kernel")
def weight_standardize(
    kernel: ArrayLike,
    *,
    eps: float = 1e-10,
    output_axis: int = -1,
    mask: ArrayLike | None = None,
    outside_root: bool = False,
) -> jax.Array:
    """Gives each output channel of a kernel mean 0 and variance 1.

    With S(o) all weights of output channel o, and m their number::

        mean[o] = sum over S(o) of kernel / m
        var[o]  = sum over S(o) of (kernel - mean)^2 / m
        result  = (kernel - mean) / sqrt(var + eps)

    or, with ``outside_root``, ``(kernel - mean) / (sqrt(var) + eps)``.

    This is `flax_gn.instance_norm` of the kernel, and has its accuracy, its small
    residuals and its transformations. Use it on convolutions that a norm follows;
    `flax_gn.linen.WSConv` and `flax_gn.nnx.WSConv` do.

    The epsilon belongs to a checkpoint. BiT's code for JAX (big_vision, bit_paper.py)
    and torch has 1e-10, the default here; timm has 1e-6 in its layer and 1e-8 for BiT;
    TransUNet has 1e-5. The paper, its authors' code, big_vision's bit.py,
    vision_transformer and Octo divide by sqrt(var) + 1e-5: ``eps=1e-5,
    outside_root=True``.

    Args:
      kernel: shape (*spatial, C_in, C_out) as Flax has it, of rank 2 or more;
        floating-point.
      eps: added to the variance, or to its root.
      output_axis: the axis of the output channels: -1 for Flax's kernels, 0 for
        torch's.
      mask: boolean or of zeros and ones, broadcastable to the kernel, where a weight
        is in use (the masked convolutions of Flax). The statistics are those of the
        weights in use; the others become 0.
      outside_root: whether eps is added to the standard deviation, not the variance.

    Returns:
      An array of the kernel's shape and dtype; the arithmetic is float32 or wider. An
      output channel that has one weight, or equal weights, becomes 0.

    Raises:
      TypeError: kernel is no floating-point array, or mask no array of truth values.
      ValueError: kernel has fewer than two axes, output_axis is none of them, mask
        does not fit, or eps is negative.

    >>> import jax.numpy as jnp
    >>> from flax_gn import weight_standardize
    >>> weight_standardize(jnp.array([[1.0, 5.0], [3.0, 5.0]]))
    Array([[-1.,  0.],
           [ 1.,  0.]], dtype=float32)

    Source: Qiao, Wang, Liu, Shen & Yuille, "Micro-Batch Training with Batch-Channel
    Normalization and Weight Standardization", arXiv:1903.10520, section 3.
    """
    kernel = _operands.floating_array("x", kernel)
    rank, axis = kernel.ndim, _arguments.integer("output_axis", output_axis)
    if rank < 2 or not -rank <= axis < rank:
        raise ValueError(
            said(
                "`kernel` must have an input and an output axis, and `output_axis` "
                f"must be one of its axes; got shape {kernel.shape} and "
                f"output_axis={axis}."
            )
        )
    if axis % rank != rank - 1:
        kernel = jnp.moveaxis(kernel, axis, -1)
        mask = None if mask is None else jnp.moveaxis(jnp.asarray(mask), axis, -1)
    axes, gamma = range(rank), None
    if outside_root:
        gamma, eps = _outside_root(kernel, mask, eps)
    standardized = group_norm(
        kernel, gamma, group_size=1, eps=eps, mask=mask, reduction_axes=axes
    )
    return jnp.moveaxis(standardized, -1, axis)


def _outside_root(kernel, mask, eps) -> tuple[jax.Array, float]:
    """The gamma and eps of an instance norm that divides by sqrt(var) + eps.

    With the square of eps in its root, which is of the root's own size, gamma lies
    between 0.7 and 1, whatever the variance.
    """
    _, var = group_stats(
        kernel, group_size=1, mask=mask, reduction_axes=range(kernel.ndim)
    )
    eps = _arguments.eps(eps, var.dtype)
    inside = max(eps**2, float(jnp.finfo(var.dtype).tiny)) if eps else 0.0
    # The root has no derivative at 0, where equal weights are 0 whatever gamma is.
    varies = var > 0
    var = jnp.where(varies, var, 1)
    return jnp.where(varies, jnp.sqrt(var + inside) / (jnp.sqrt(var) + eps), 1), inside
