"""Group normalisation for JAX and Flax: accurate, lean, and whole under sharding."""

from flax_gn.functional import group_norm as group_norm
from flax_gn.functional import group_stats as group_stats
from flax_gn.functional import instance_norm as instance_norm
from flax_gn.functional import layer_norm as layer_norm
from flax_gn.weight_standardization import weight_standardize as weight_standardize

__all__ = [
    "group_norm",
    "group_stats",
    "instance_norm",
    "layer_norm",
    "weight_standardize",
]
