"""What the search for the rates trains."""

import pathlib

from experiments.lab import search
from experiments.small_batch import recipe


def trial(norm: str, folder: pathlib.Path) -> search.Trial:
    """ResNet-14, at 32 examples per device."""
    del folder
    return search.on_images(recipe.network, norm)
