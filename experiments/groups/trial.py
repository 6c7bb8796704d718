"""What the search for the rate and the pilot train."""

import pathlib

from experiments.groups import recipe
from experiments.lab import search


def trial(norm: str, folder: pathlib.Path) -> search.Trial:
    """Three convolutions, at 32 examples on one device."""
    del folder
    return search.on_images(recipe.network, norm)
