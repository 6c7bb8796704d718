"""What the search for the rates and the pilot train: the trees, at one tile per device.

The strip that is held out for the record is not looked at. The tiles above it take its
place, which are then not trained on.
"""

import dataclasses
import pathlib

from experiments.detection import recipe, session, tiles
from experiments.detection.sources import Aerial, Held
from experiments.lab import Size, search

ROWS = 2  # of tiles that are held out


def trial(norm: str, folder: pathlib.Path) -> search.Trial:
    """A norm, from weights of the first site.

    Raises:
      OSError: the pictures are not here.
    """
    of = recipe.SETS["trees"]
    sites = of.sites(None, None)
    assert isinstance(sites.second, Aerial)
    picture = sites.second.picture
    height, width = picture.image.shape[:2]
    kept = height - ROWS * of.shape.side
    held = tiles.cut(picture, kept, 0, height - kept, width)
    sites = sites._replace(
        second=Aerial(tiles.cut(picture, 0, 0, kept, width), of.shape),
        test=Held(tiles.grid(held, of.shape)),
    )
    _, task = session.tasks(of, sites, of.sizes["default"], folder, resume=True)
    [config] = recipe.configs(of, (norm,), Size(1, (1,), 1))
    config = dataclasses.replace(config, seed=search.SEED)
    return search.Trial(task(config), config)
