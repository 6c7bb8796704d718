"""The ways to split x over devices, and what the devices may then say to each other.

With n samples, c channels and g groups, or parts of groups, on each device, an explicit
mesh needs

- forward, where groups are split: one all-reduce of 4 numbers (pilot, shift, variance,
  count) per sample, group and sharing device, for each device has a row of its own;
- backward, where groups are split: one all-reduce of 2 * n sums per group;
- backward, where samples or positions are split: 2 * c numbers, for dgamma and dbeta,
  in the same all-reduce if the devices are the same.

With automatic axes XLA splits the program for one device. There the pilot comes before
the sums, so an all-reduce more fetches nine values to pick it from; the sums of each
channel are reduced before they are added up to groups; and along several mesh axes XLA
reduces at once for a TPU, but one axis after the other for a CPU.
"""

import contextlib
import dataclasses
import functools
import math
from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from experiments.benchmark import program
from tests.cases import Case, Inputs, function, inputs

AXIS_TYPES = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}


@dataclasses.dataclass(frozen=True)
class Split:
    """A call, and how its x lies on the devices.

    Attributes:
      case: the call; its name says what is split.
      mesh: the size of each mesh axis. The axes are named after the axes of x they
        split: "n" samples, "d", "h" and "w" positions, "c" channels.
      spec: for each axis of x, the mesh axis that splits it, or None.
      parameters: the mesh axis that gamma and beta are split along, or None.
    """

    case: Case
    mesh: tuple[tuple[str, int], ...]
    spec: tuple[str | None, ...]
    parameters: str | None = None

    @property
    def name(self) -> str:
        return self.case.name

    def shards(self, axis: int) -> int:
        """How many devices an axis of x is split over."""
        return dict(self.mesh).get(self.spec[axis] or "", 1)

    @property
    def samples(self) -> int:
        return self.case.shape[0] // self.shards(0)

    @property
    def channels(self) -> int:
        return self.case.shape[-1] // self.shards(-1)

    @property
    def cut(self) -> bool:
        """Whether channels cut through groups."""
        return self.channels % (self.case.shape[-1] // self.case.groups) != 0

    @property
    def spatial(self) -> tuple[str, ...]:
        """The mesh axes that split positions."""
        return tuple(name for name in self.spec[1:-1] if name is not None)

    def over(self, devices: int) -> "Split":
        """The same split over another number of devices, each of which holds as much.

        A power of 2. Two mesh axes are equal, or the first is the larger one.
        """
        second = 2 ** ((devices.bit_length() - 1) // 2) if len(self.mesh) == 2 else 1
        sizes = (devices // second, second)[: len(self.mesh)]
        mesh = {name: size for (name, _), size in zip(self.mesh, sizes, strict=True)}
        old = dict(self.mesh)
        grown = [
            n if name is None else n // old[name] * mesh[name]
            for n, name in zip(self.case.shape, self.spec, strict=True)
        ]
        groups = self.case.groups * grown[-1] // self.case.shape[-1]
        case = dataclasses.replace(self.case, shape=tuple(grown), groups=max(1, groups))
        return dataclasses.replace(self, case=case, mesh=tuple(mesh.items()))

    def explicit(self) -> tuple[list[int], list[int]]:
        """Numbers in each all-reduce, forward and backward, on an explicit mesh."""
        size = self.case.shape[-1] // self.case.groups
        part = math.gcd(size, self.channels)
        sharing = {*self.spatial, *("c" if self.cut else "")}
        sharers = math.prod(dict(self.mesh)[name] for name in sharing)
        rows = 4 * sharers * self.samples * (self.channels // part)
        groups = self.case.groups if self.cut else self.channels // size
        sums = {frozenset(sharing): 2 * self.samples * groups} if sharing else {}
        of_parameters = frozenset(a for a in self.spec if a not in (None, "c"))
        messages = Counter[frozenset[str]](sums)
        if of_parameters:
            messages[of_parameters] += 2 * self.channels
        forward = [rows] if sharing else []
        return forward, [*messages.values()]

    def automatic(self, *, at_once: bool = False) -> tuple[list[int], list[int]]:
        """The same with automatic axes.

        Args:
          at_once: whether XLA reduces along all axes that split positions at once.
        """
        groups = max(1, self.case.groups // self.shards(-1))
        axes = min(1, len(self.spatial)) if at_once else len(self.spatial)
        per_value = [self.samples * self.channels] * axes
        per_value += [self.samples * groups] * self.cut
        sums = [2 * numbers for numbers in per_value]
        forward = [9 * numbers for numbers in per_value] + sums
        batch = [2 * self.channels] if "n" in self.spec else []
        return forward, sums + batch


def _split(name, mesh, shape, groups, spec, parameters=None, **options):
    spec += (None,) * (len(shape) - len(spec))
    mesh = tuple(mesh.items())
    return Split(Case(name, shape, groups, **options), mesh, spec, parameters)


SPLITS = [
    _split("batch", {"n": 8}, (8, 8, 8, 16), 4, ("n",)),
    _split("height", {"h": 8}, (2, 32, 8, 16), 4, (None, "h")),
    _split("height_width", {"h": 4, "w": 2}, (2, 16, 8, 16), 4, (None, "h", "w")),
    _split("depth", {"d": 8}, (2, 32, 4, 4, 16), 4, (None, "d")),
    _split("depth_height", {"d": 2, "h": 4}, (2, 8, 8, 4, 16), 4, (None, "d", "h")),
    _split("groups", {"c": 8}, (2, 8, 8, 64), 8, (None, None, None, "c"), "c"),
    _split("cut", {"c": 8}, (2, 8, 8, 64), 4, (None, None, None, "c"), "c"),
    _split("one_group", {"c": 8}, (2, 8, 8, 64), 1, (None, None, None, "c"), "c"),
    _split("batch_height", {"n": 2, "h": 4}, (4, 16, 8, 16), 4, ("n", "h")),
    _split(
        "batch_groups", {"n": 2, "c": 4}, (4, 8, 8, 32), 4, ("n", None, None, "c"), "c"
    ),
    _split(
        "batch_cut", {"n": 2, "c": 4}, (4, 8, 8, 32), 2, ("n", None, None, "c"), "c"
    ),
    _split(
        "height_groups", {"h": 2, "c": 4}, (4, 8, 8, 32), 4, (None, "h", None, "c"), "c"
    ),
    _split(
        "height_cut", {"h": 2, "c": 4}, (4, 8, 8, 32), 2, (None, "h", None, "c"), "c"
    ),
]

MORE = [
    _split("silu", {"n": 2, "h": 4}, (4, 8, 4, 8), 2, ("n", "h"), activation="silu"),
    _split("mask", {"n": 2, "h": 4}, (4, 8, 4, 8), 2, ("n", "h"), mask="column"),
    _split(
        "empty",
        {"h": 2, "c": 4},
        (2, 8, 4, 16),
        2,
        (None, "h", None, "c"),
        mask="empty",
    ),
    _split("bfloat16", {"h": 8}, (2, 16, 4, 8), 2, (None, "h"), dtype="bfloat16"),
    _split(
        "per_sample",
        {"n": 2, "c": 4},
        (4, 9, 16),
        2,
        ("n", None, "c"),
        "c",
        gamma="sample",
        beta="sample",
    ),
    _split(
        "no_affine",
        {"n": 2, "c": 4},
        (4, 9, 16),
        2,
        ("n", None, "c"),
        gamma="none",
        beta="none",
    ),
    # The devices' parts, of 6 channels, and the groups, of 8, end at different places.
    _split("uneven_cut", {"c": 8}, (2, 5, 48), 6, (None, None, "c"), "c"),
    _split(
        "uneven_cut_mask",
        {"h": 2, "c": 4},
        (2, 4, 24),
        3,
        (None, "h", "c"),
        mask="full",
    ),
    _split("no_position", {"n": 2, "c": 4}, (4, 16), 2, ("n", "c"), "c"),
    _split("instance", {"h": 4, "c": 2}, (2, 8, 3, 8), 8, (None, "h", None, "c"), "c"),
    _split(
        "kept_height",
        {"h": 4, "w": 2},
        (2, 8, 6, 8),
        2,
        (None, "h", "w"),
        reduction_axes=(2, 3),
    ),
    _split("replicated_parameters", {"h": 2, "c": 4}, (2, 4, 32), 4, (None, "h", "c")),
    _split("parameters_alone", {"c": 8}, (2, 5, 16), 4, (), "c"),
    _split("parameters_over_batch", {"n": 4, "h": 2}, (4, 4, 8), 2, ("n", "h"), "n"),
]
"""Other calls, of which only the results are held to the case."""


def mesh(split: Split, devices: Any, kind: str) -> Mesh:
    """The split's mesh, made of the first of the devices."""
    names, sizes = zip(*split.mesh, strict=True)
    chosen = np.array(devices[: math.prod(sizes)]).reshape(sizes)
    return Mesh(chosen, names, axis_types=(AXIS_TYPES[kind],) * len(names))


def arguments(data: Inputs) -> tuple[np.ndarray | None, ...]:
    """x, gamma, beta, mask and dy."""
    return *data.primals, data.mask, data.dy


def shardings(split: Split, on: Mesh) -> tuple[NamedSharding | None, ...]:
    """How the arguments lie on a mesh."""
    x = split.spec

    def sharding(array):
        if array is None:
            return None
        if array.ndim < len(x):  # gamma or beta, per sample or not
            axes = (*x[:1], split.parameters)[-array.ndim :]
        else:
            axes = (a if n > 1 else None for a, n in zip(x, array.shape, strict=True))
        return NamedSharding(on, PartitionSpec(*axes))

    return tuple(map(sharding, arguments(inputs(split.case))))


def place(split: Split, data: Inputs, on: Mesh) -> tuple[jax.Array | None, ...]:
    """The arguments on the devices of a mesh."""
    return tuple(
        None if array is None else jax.device_put(array, sharding)
        for array, sharding in zip(arguments(data), shardings(split, on), strict=True)
    )


@functools.cache
def compiled(split: Split, on: Mesh, gradients: bool) -> jax.stages.Compiled:
    """The forward pass, or forward and backward pass in one program."""
    f = function(split.case, None)

    def forward(x, gamma, beta, mask, dy):
        del dy
        return f(x, gamma, beta, mask)

    def step(x, gamma, beta, mask, dy):
        y, pullback = jax.vjp(lambda *a: f(*a, mask), x, gamma, beta)
        # After y, as in any network; else sums of both passes would be sent together.
        return y, pullback(jnp.where(jnp.isnan(y), y, dy))

    given = zip(arguments(inputs(split.case)), shardings(split, on), strict=True)
    shapes = [
        None if a is None else jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s)
        for a, s in given
    ]
    explicit = AxisType.Explicit in on.axis_types
    with jax.set_mesh(on) if explicit else contextlib.nullcontext():
        return jax.jit(step if gradients else forward).lower(*shapes).compile()


def collectives(split: Split, on: Mesh, gradients: bool) -> Counter[tuple[str, int]]:
    """How many collectives of each (kind, numbers) there are."""
    made = program.read(compiled(split, on, gradients))
    return Counter((c.kind, c.elements) for c in made.collectives)


def all_reduces(*numbers: int) -> Counter[tuple[str, int]]:
    """All-reduces of so many numbers each, as `collectives` counts them."""
    return Counter(("all-reduce", n) for n in numbers)


def table() -> str:
    """The numbers in each all-reduce, for docs/sharding.md."""

    def listed(numbers):
        return ", ".join(map(str, numbers)) or "none"

    heads = "x", "groups", "devices along each axis", "explicit: forward", "backward"
    heads += "automatic: forward", "backward"
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for split in SPLITS:
        mesh_axes = (str(split.shards(axis)) for axis in range(len(split.spec)))
        cells = [*split.explicit(), *split.automatic(at_once=True)]
        lines.append(
            f"| {split.case.shape} | {split.case.groups} | {', '.join(mesh_axes)} | "
            + " | ".join(map(listed, cells))
            + " |"
        )
    return "\n".join(lines) + "\n"
