"""What the search for the rates and the pilots train."""

import pathlib

from experiments.depth import recipe
from experiments.lab import search


def trial(norm: str, folder: pathlib.Path) -> search.Trial:
    """The network and the norm of a name such as "vgg-bn", at 32 per device."""
    del folder
    network, norm = norm.split("-")
    return search.on_images(recipe.NETWORKS[network], norm, name=network)
