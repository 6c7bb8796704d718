"""COCO, the paper's set, at a size for one GPU.

Pictures that have boxes, in the order of their ids, are the first site and the second
by turns, so that neither has seen the other's; val2017 is tested on, whole pictures
scaled to fit a tile. Boxes around crowds are not learnt from, and what is found in them
does not count, as in COCO's own evaluation.

The paper's stages are ImageNet and COCO, with pictures of 800 pixels and a network that
ends in ResNet-50's bottlenecks. Here both stages are detection. No run of this length
has been made: rates are those of the trees, lower for the deeper network.
"""

import functools
import pathlib

from experiments.data import coco
from experiments.detection import tiles
from experiments.detection.scenes import Drawn, Whole
from experiments.detection.sets import NORMS, Set, Sites, Words
from experiments.lab import Size
from flax_gn import models

# The paper's pictures have 800 pixels on the shorter side, these 512 on the longer one:
# less than a third of the memory. There are as many boxes as COCO's evaluation takes.
SHAPE = tiles.Shape(side=512, most=100)


def read(
    folder: pathlib.Path | None, most: int | None, *, shape: tiles.Shape = SHAPE
) -> Sites:
    """The `Set.sites` of COCO."""
    found = coco.load(folder)
    scenes = [scene.objects() for scene in found.train]
    scenes = [scene for scene in scenes if len(scene.boxes)]
    if len(scenes) < 2:
        raise ValueError(
            "coco: expected training pictures with boxes for both sites, got "
            f"{len(scenes)} with any"
        )
    said = [f"Trained on {len(scenes)} pictures, those of train2017 with boxes."]
    crowded = sum(len(scene.boxes) > shape.most for scene in scenes)
    if crowded:
        said.append(f"Only the largest {shape.most} boxes count in {crowded} of them.")
    scenes = [scene.largest(shape.most) for scene in scenes]
    return Sites(
        first=Drawn(scenes[0::2], shape),
        second=Drawn(scenes[1::2], shape),
        test=Whole(found.val[:most], shape),
        classes=len(found.classes),
        said=tuple(said),
    )


COCO = Set(
    sites=read,
    # The blocks of ResNet-34, in number and channels: as many parameters as ResNet-50,
    # 28.8 million with the pyramid and the heads, which are those of FCOS. Sixteen
    # pictures take about 11 GiB.
    network=functools.partial(
        models.FCOS, stages=(3, 4, 6, 3), width=32, features=256, tower=4
    ),
    shape=SHAPE,
    reach=8.0,  # FCOS's own
    candidates=1000,  # before suppression, as FCOS
    devices=1,
    epoch=8192,  # a seventh of a half: a test takes as long as half of it
    first_batch=16,
    evaluation_batch=16,
    rate_first=0.008,  # 0.0005 at 16: Adam's usual rates for networks so deep
    rates=dict.fromkeys(NORMS, 0.016),  # twice the first: 0.00006 at 1
    sizes={
        # 245,760 pictures in each run: four passes over its half.
        "default": Size(epochs=30, batches=(1, 2), seeds=1),
        "quick": Size(epochs=2, batches=(1,), seeds=1, examples=64),
    },
    words=Words(
        tiles="pictures",
        objects="objects",
        test="val2017",
        tested="val2017",
        again="the same pictures",
        first="the other half of train2017",
        pixels="pixels",
    ),
)
