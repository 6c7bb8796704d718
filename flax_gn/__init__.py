"""Group normalisation for JAX and Flax."""

from flax_gn.functional import group_norm as group_norm

__all__ = ["group_norm"]
