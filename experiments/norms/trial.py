"""What the search for the rates and the pilot train."""

import pathlib

from experiments.lab import search
from experiments.small_batch import recipe


def trial(norm: str, folder: pathlib.Path) -> search.Trial:
    """That of `small_batch`, on one device."""
    del folder
    return search.on_images(recipe.network, norm)
