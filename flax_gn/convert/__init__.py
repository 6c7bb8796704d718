"""Turns a batch-norm network into a group-norm network, and loads trained ones."""

from flax_gn.convert._groups import choose_groups as choose_groups
from flax_gn.convert._linen import linen_variables as linen_variables
from flax_gn.convert._linen_norm import linen_norm as linen_norm
from flax_gn.convert._nnx import nnx_model as nnx_model
from flax_gn.convert._nnx_norm import nnx_norm as nnx_norm
from flax_gn.convert._report import Change as Change
from flax_gn.convert._report import Left as Left
from flax_gn.convert._report import Report as Report
from flax_gn.convert._trained import trained_variables as trained_variables

__all__ = [
    "Change",
    "Left",
    "Report",
    "choose_groups",
    "linen_norm",
    "linen_variables",
    "nnx_model",
    "nnx_norm",
    "trained_variables",
]
