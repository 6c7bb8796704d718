"""COCO, so small that a run on it compiles and trains in seconds."""

import dataclasses
import functools
import pathlib

import numpy as np

from experiments.detection import photographs, recipe, tiles
from tests.experiments.data import coco_files
from tests.experiments.detection import tiny

SHAPE = tiles.Shape(side=32, most=2)


def drawings(n: int, seed: int) -> list[coco_files.Drawing]:
    """Pictures of one to four boxes side by side, of one class each, some a crowd."""
    rng = np.random.default_rng(seed)
    found = []
    for index in range(n):
        boxes = []
        for place in range(int(rng.integers(1, 5))):
            category = int(rng.choice(list(coco_files.COLOURS)))
            top, height = (int(number) for number in rng.integers((2, 9), (12, 20)))
            crowd = int(rng.random() < 0.1)
            boxes.append((category, [16 * place + 2, top, 9, height], crowd))
        found.append(coco_files.Drawing(100 + index, 64, 40, boxes))
    return found


def install(monkeypatch, folder: pathlib.Path) -> pathlib.Path:
    """Writes the set, shrinks what is trained, and returns the set's folder."""
    small = dataclasses.replace(
        recipe.SETS["coco"],
        sites=functools.partial(photographs.read, shape=SHAPE),
        network=tiny.Network,
        shape=SHAPE,
        epoch=16,
        first_batch=8,
        evaluation_batch=4,
        rates=dict.fromkeys(recipe.NORMS, 0.1),
        rate_first=0.1,
    )
    monkeypatch.setitem(recipe.SETS, "coco", small)
    empty = coco_files.Drawing(99, 20, 20, [])
    return coco_files.write(folder, [empty, *drawings(9, 0)], drawings(6, 1))
