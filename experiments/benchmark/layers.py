"""The layers that the benchmark and the compiled tests share.

`layer_shapes.csv` lists group norms of published networks, each with its source.
"""

import csv
import dataclasses
from collections.abc import Callable
from importlib import resources

import jax

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array] | None] = {
    "none": None,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "mish": jax.nn.mish,
}


@dataclasses.dataclass(frozen=True)
class Layer:
    """One group norm of a published network.

    Attributes:
      id: short name, unique in the table.
      model: the network, and the size of its input where that decides the shape.
      layer: which of its layers.
      shape: (N, *spatial, C).
      groups: number of groups.
      activation_name: what follows the norm, or "none".
      source: the file the shape was read from.
    """

    id: str
    model: str
    layer: str
    shape: tuple[int, ...]
    groups: int
    activation_name: str
    source: str

    @property
    def activation(self) -> Callable[[jax.Array], jax.Array] | None:
        """The function of that name in `jax.nn`, or None."""
        return _ACTIVATIONS[self.activation_name]

    @property
    def named_activation(self) -> str | None:
        """As `flax_gn.group_norm` takes it."""
        return None if self.activation_name == "none" else self.activation_name


def load() -> dict[str, Layer]:
    """All layers of the table by id, in its order.

    >>> layer = load()["sd15_64_320"]
    >>> layer.shape, layer.groups, layer.activation_name
    ((2, 64, 64, 320), 32, 'silu')
    """
    text = (
        resources.files("experiments.benchmark")
        .joinpath("layer_shapes.csv")
        .read_text()
    )
    return {row["id"]: _layer(row) for row in csv.DictReader(text.splitlines())}


def _layer(row: dict[str, str]) -> Layer:
    spatial = tuple(map(int, row["spatial"].split("x")))
    return Layer(
        id=row["id"],
        model=row["model"],
        layer=row["layer"],
        shape=(int(row["batch"]), *spatial, int(row["channels"])),
        groups=int(row["groups"]),
        activation_name=row["activation"],
        source=row["source"],
    )
