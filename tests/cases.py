"""The table of cases that every test of the op draws from, and its implementations."""

import contextlib
import dataclasses
import zlib

import jax
import ml_dtypes
import numpy as np

from experiments.benchmark import layers
from flax_gn import group_norm
from tests import oracle

IMPLEMENTATIONS = ("xla", "reference")
"""Every implementation runs every case; a new one is added here."""

LITERAL = frozenset({"reference"})
"""Implementations that round the mean, as the equations do when taken literally."""

_CALLABLES = {"mish": jax.nn.mish}


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of the op.

    Attributes:
      name: the test's id.
      shape: of x.
      groups: G.
      dtype: of x.
      gamma: "channel" (C,), "sample" (*kept, C) or "none".
      beta: as gamma.
      mask: None; "positions", without the channel axis; "column", the same with a
        channel axis of size 1; "full", of x's shape; "shared", one for all samples;
        "empty", with a sample and a group in which nothing is kept.
      reduction_axes: as the op's.
      activation: as the op's, or "mish" for a callable.
      eps: as the op's.
      mean: added to unit-variance data.
      parameter_dtype: of gamma and beta.
      out: the argument ``dtype``.
    """

    name: str
    shape: tuple[int, ...]
    groups: int
    dtype: str = "float32"
    gamma: str = "channel"
    beta: str = "channel"
    mask: str | None = None
    reduction_axes: int | tuple[int, ...] | None = None
    activation: str | None = None
    eps: float = 1e-5
    mean: float = 0.0
    parameter_dtype: str = "float32"
    out: str | None = None

    @property
    def reduced(self) -> list[int]:
        return oracle.reduced_axes(len(self.shape), self.reduction_axes)

    @property
    def kept_shape(self) -> tuple[int, ...]:
        return tuple(
            n for axis, n in enumerate(self.shape[:-1]) if axis not in self.reduced
        )

    @property
    def m(self) -> int:
        return oracle.group_values(self.shape, self.groups, self.reduction_axes)

    @property
    def result_dtype(self) -> np.dtype:
        return np.dtype(self.out or self.dtype)

    def oracle_options(self, mask) -> dict:
        return {
            "eps": self.eps,
            "mask": mask,
            "reduction_axes": self.reduction_axes,
            "activation": self.activation,
        }


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Arrays of a case. ``dx``, ``d_gamma``, ``d_beta`` are tangents, ``dy`` is a
    cotangent."""

    x: np.ndarray
    gamma: np.ndarray | None
    beta: np.ndarray | None
    mask: np.ndarray | None
    dx: np.ndarray
    d_gamma: np.ndarray | None
    d_beta: np.ndarray | None
    dy: np.ndarray

    @property
    def primals(self):
        return self.x, self.gamma, self.beta

    @property
    def tangents(self):
        return self.dx, self.d_gamma, self.d_beta


def inputs(case: Case, seed: int = 0) -> Inputs:
    """Reproducible data for a case."""
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])

    def normal(shape, dtype, mean=0.0):
        return (rng.standard_normal(shape) + mean).astype(np.dtype(dtype))

    def parameter(kind, mean=0.0):
        shape = {"channel": (case.shape[-1],), "none": None}.get(
            kind, (*case.kept_shape, case.shape[-1])
        )
        return None if shape is None else normal(shape, case.parameter_dtype, mean)

    return Inputs(
        x=normal(case.shape, case.dtype, case.mean),
        gamma=parameter(case.gamma, 1.0),
        beta=parameter(case.beta),
        mask=_mask(case, rng),
        dx=normal(case.shape, case.dtype),
        d_gamma=parameter(case.gamma),
        d_beta=parameter(case.beta),
        dy=normal(case.shape, case.result_dtype),
    )


def _mask(case: Case, rng: np.random.Generator) -> np.ndarray | None:
    if case.mask is None:
        return None
    shape = {
        "positions": case.shape[:-1],
        "column": (*case.shape[:-1], 1),
        "shared": (1, *case.shape[1:-1], 1),
    }.get(case.mask, case.shape)
    mask = rng.random(shape) < 0.6
    if case.mask == "empty":
        mask[0] = False
        mask[1, ..., : case.shape[-1] // case.groups] = False
    return mask


def precision(*dtypes):
    """Enables float64 where a case needs it."""
    wide = any(np.dtype(dtype) == np.float64 for dtype in dtypes)
    return jax.enable_x64(True) if wide else contextlib.nullcontext()


def function(case: Case, implementation: str | None, **options):
    """f(x, gamma, beta, mask) that makes the case's call."""

    def f(x, gamma, beta, mask=None):
        return group_norm(
            x,
            gamma,
            beta,
            case.groups,
            eps=case.eps,
            mask=mask,
            reduction_axes=case.reduction_axes,
            activation=_CALLABLES.get(case.activation, case.activation),
            dtype=case.out,
            implementation=implementation,
            **options,
        )

    return f


def _ends(shape, *groups):
    return [Case(f"{len(shape)}d_{g}_groups", shape, g) for g in groups]


SHAPES = [
    *_ends((3, 12), 1, 4),
    Case("2d_instance", (3, 4), 4),
    *_ends((2, 5, 12), 1, 3, 12),
    *_ends((2, 5, 3, 8), 1, 2, 8),
    Case("4d_square", (2, 8, 8, 16), 4),
    *_ends((2, 3, 2, 4, 6), 1, 3, 6),
    Case("6d", (1, 2, 3, 1, 2, 6), 2),
    Case("odd_channels", (2, 7, 15), 5),
    Case("prime", (1, 13, 7), 7),
    Case("single_position", (4, 1, 1, 8), 2),
    Case("single_value", (1, 1), 1),
    Case("single_example", (1, 17, 8), 2),
    Case("long", (1, 1025, 4), 2),
    Case("wide", (1, 3, 260), 2),
]

DTYPES = [
    Case("bfloat16", (2, 6, 5, 8), 2, "bfloat16"),
    Case("float16", (2, 6, 5, 8), 2, "float16"),
    Case("float64", (2, 6, 5, 8), 2, "float64", parameter_dtype="float64"),
    Case("float64_float32_parameters", (2, 6, 5, 8), 2, "float64"),
    Case("bfloat16_parameters", (2, 6, 5, 8), 2, parameter_dtype="bfloat16"),
    Case("all_bfloat16", (2, 9, 8), 4, "bfloat16", parameter_dtype="bfloat16"),
    Case("bfloat16_to_float32", (2, 9, 8), 4, "bfloat16", out="float32"),
    Case("float32_to_bfloat16", (2, 9, 8), 4, out="bfloat16", activation="silu"),
    Case("float32_to_float16", (2, 9, 8), 4, out="float16"),
]

PARAMETERS = [
    Case("no_affine", (2, 5, 3, 8), 2, gamma="none", beta="none"),
    Case("no_gamma", (2, 5, 3, 8), 2, gamma="none"),
    Case("no_beta", (2, 5, 3, 8), 2, beta="none"),
    Case("per_sample", (3, 5, 8), 2, gamma="sample", beta="sample"),
    Case("per_sample_gamma", (3, 2, 2, 8), 2, gamma="sample"),
    Case("per_sample_beta", (3, 2, 2, 8), 4, beta="sample", activation="silu"),
    Case("per_sample_bfloat16", (3, 5, 8), 4, "bfloat16", "sample", "sample"),
    Case("large_eps", (2, 7, 8), 2, eps=0.5),
    Case("keras_eps", (2, 7, 8), 2, eps=1e-3),
    Case("tiny_eps", (2, 7, 8), 2, eps=1e-12),
]

MASKS = [
    Case("mask_positions", (3, 7, 8), 2, mask="positions"),
    Case("mask_column", (3, 7, 8), 4, mask="column"),
    Case("mask_full", (3, 4, 3, 6), 3, mask="full"),
    Case("mask_shared", (3, 4, 3, 6), 2, mask="shared"),
    Case("mask_empty", (3, 4, 8), 2, mask="empty"),
    Case("mask_2d", (3, 8), 2, mask="full"),
    Case("mask_silu", (3, 7, 8), 2, mask="column", activation="silu"),
    Case("mask_bfloat16", (3, 7, 8), 2, "bfloat16", mask="positions"),
    Case("mask_per_sample", (3, 7, 8), 2, "float32", "sample", "sample", "empty"),
    Case("mask_no_affine", (3, 7, 8), 2, "float32", "none", "none", "empty"),
]

AXES = [
    Case("axes_channel_alone", (2, 4, 4, 8), 2, reduction_axes=-1),
    Case("axes_width", (2, 3, 4, 8), 2, reduction_axes=(2, 3)),
    Case("axes_unbatched", (3, 4, 8), 2, reduction_axes=(0, 1, 2)),
    Case("axes_negative", (3, 4, 8), 4, reduction_axes=(-3, -2, -1)),
    Case("axes_unordered", (2, 3, 4, 8), 2, reduction_axes=(-1, 1, 2)),
    Case("axes_time_apart", (2, 3, 2, 2, 8), 2, reduction_axes=(2, 3, 4)),
    Case("axes_whole_batch", (2, 3, 4), 2, reduction_axes=(0, 1, 2)),
    Case("axes_gap", (2, 3, 4, 8), 2, reduction_axes=(1, 3)),
    Case(
        "axes_per_sample_mask",
        (2, 3, 4, 8),
        2,
        gamma="sample",
        beta="sample",
        mask="full",
        reduction_axes=(2, 3),
        activation="silu",
    ),
]

ACTIVATIONS = [
    Case("relu", (2, 5, 8), 2, activation="relu"),
    Case("silu", (2, 5, 8), 2, activation="silu"),
    Case("gelu", (2, 5, 8), 2, activation="gelu"),
    Case("mish", (2, 5, 8), 2, activation="mish"),
    Case("silu_bfloat16", (2, 5, 8), 2, "bfloat16", activation="silu"),
    Case("silu_no_affine", (2, 5, 8), 2, "float32", "none", "none", activation="silu"),
]


def _layers() -> list[Case]:
    """The layers of real networks, scaled down: structure kept, sizes not."""
    scaled = {}
    for layer in layers.load().values():
        *spatial, channels = layer.shape[1:]
        groups = min(layer.groups, 4)
        size = min(channels // layer.groups, 5)
        activation = None if layer.activation is None else layer.activation_name
        small = (min(n, 3) for n in spatial)
        shape = (min(layer.shape[0], 2), *small, groups * size)
        scaled.setdefault((shape, groups, activation), layer.id)
    return [
        Case(f"layer_{name}", shape, groups, activation=activation)
        for (shape, groups, activation), name in scaled.items()
    ]


LAYERS = _layers()

ALL = [*SHAPES, *DTYPES, *PARAMETERS, *MASKS, *AXES, *ACTIVATIONS, *LAYERS]

BY_NAME = {case.name: case for case in ALL}

FEATURES = [
    BY_NAME[name]
    for name in (
        "4d_2_groups",
        "2d_4_groups",
        "no_affine",
        "per_sample",
        "mask_empty",
        "mask_silu",
        "axes_per_sample_mask",
        "bfloat16",
    )
]
"""One case per feature, for the transformations that compile slowly."""


def named(items: list[Case]):
    """Arguments of pytest.mark.parametrize for a list of cases."""
    return {"argnames": "case", "argvalues": items, "ids": [c.name for c in items]}


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
