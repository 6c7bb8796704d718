"""COCO's published form, in small: annotations with outlines, and JPEG pictures."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

# Ids have gaps, and are in no order, as the published ones.
CATEGORIES = [
    {"supercategory": "animal", "id": 90, "name": "zebra"},
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "vehicle", "id": 13, "name": "bus"},
]
COLOURS = {1: (220, 40, 40), 13: (40, 220, 40), 90: (40, 40, 220)}


class Drawing(NamedTuple):
    """A picture of one-coloured boxes (left, top, width, height) on grey ground."""

    id: int
    width: int
    height: int
    boxes: Sequence[tuple[int, Sequence[float], int]]  # category, box, crowd
    mode: str = "RGB"


def name(drawing: Drawing) -> str:
    return f"{drawing.id:012d}.jpg"


def image(drawing: Drawing) -> PIL.Image.Image:
    pixels = np.full((drawing.height, drawing.width, 3), 100, np.uint8)
    for category, (left, top, width, height), _ in drawing.boxes:
        rows = slice(round(top), round(top + height))
        pixels[rows, round(left) : round(left + width)] = COLOURS[category]
    return PIL.Image.fromarray(pixels).convert(drawing.mode)


def annotations(drawings: Sequence[Drawing]) -> dict[str, Any]:
    rows = []
    for drawing in drawings:
        for category, box, crowd in drawing.boxes:
            left, top, width, height = box
            outline = [left, top, left + width, top, left + width, top + height]
            rows.append(
                {
                    "segmentation": {"counts": [9], "size": [3, 3]}
                    if crowd
                    else [outline],
                    "area": width * height,
                    "iscrowd": crowd,
                    "image_id": drawing.id,
                    "bbox": list(box),
                    "category_id": category,
                    "id": 1000 + len(rows),
                }
            )
    pictures = [
        {
            "license": 3,
            "file_name": name(drawing),
            "coco_url": f"http://images.cocodataset.org/{name(drawing)}",
            "height": drawing.height,
            "width": drawing.width,
            "date_captured": "2013-11-14 17:02:52",
            "id": drawing.id,
        }
        for drawing in drawings
    ]
    return {
        "info": {"year": 2017},
        "licenses": [],
        "images": pictures,
        "annotations": rows,
        "categories": CATEGORIES,
    }


def write(
    root: pathlib.Path, train: Sequence[Drawing], val: Sequence[Drawing]
) -> pathlib.Path:
    """Writes both parts of the set, and returns the folder."""
    (root / "annotations").mkdir(parents=True)
    for part, drawings in (("train2017", train), ("val2017", val)):
        (root / part).mkdir()
        for drawing in drawings:
            path = root / part / name(drawing)
            image(drawing).save(path, "JPEG", quality=95, subsampling=0)
        path = root / "annotations" / f"instances_{part}.json"
        path.write_text(json.dumps(annotations(drawings)))
    return root
