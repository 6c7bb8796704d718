"""What differs between versions of jax."""

from typing import Any

import jax

# The kernels are written against Pallas as it is from this version on.
KERNELS = (0, 11, 1)


def has_kernels() -> bool:
    """Whether this jax compiles the kernels. Goes with jax 0.11.1."""
    return jax.__version_info__ >= KERNELS


def has_open_masks() -> bool:
    """Whether a mask's tangent can be formed where `jax.export` leaves sizes open.

    jax 0.7.0 forms it at once, of a size that it does not know. Goes with jax 0.7.1.
    """
    return jax.__version_info__ >= (0, 7, 1)


def varying(aval: Any) -> frozenset:
    """The axes of a shard_map along which devices hold values of their own.

    jax 0.10 calls their kind `manual_axis_type`, and lets this go.
    """
    if hasattr(aval, "manual_axis_type"):
        return aval.manual_axis_type.varying
    return aval.vma


def vary(value: jax.Array, axes: tuple[Any, ...]) -> jax.Array:
    """Makes a value that all devices share one of each device.

    jax 0.9 has `jax.lax.pcast`, and lets this go.
    """
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(value, axes, to="varying")
    return jax.lax.pvary(value, axes)  # pyright: ignore[reportAttributeAccessIssue]
