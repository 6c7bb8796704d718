"""Average precision as COCO defines it, by its own program."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def average_precision(
    truth: Sequence[np.ndarray], found: Sequence[np.ndarray]
) -> dict[str, float]:
    """Precision averaged over recall, and over the classes that are there.

    Args:
      truth: for each picture rows of a box, its class, and whether it holds a crowd,
        (n, 6). What is found in a crowd is neither right nor wrong.
      found: for each picture rows of a box, its score and its class, (m, 6). Of each
        class the 100 of highest score count.

    Returns:
      "ap", averaged over intersections over union of 0.5, 0.55, ..., 0.95, and "ap50",
      at 0.5 alone, from 0 to 1.

    Raises:
      ValueError: there is no box in any picture.
    """
    boxes = [
        {
            "image_id": i,
            "category_id": int(box[4]),
            "iscrowd": int(box[5]),
            "bbox": _corner_and_sides(box),
            "area": _area(box),
        }
        for i, picture in enumerate(truth)
        for box in picture.tolist()
    ]
    if all(box["iscrowd"] for box in boxes):
        raise ValueError("expected pictures with boxes in them, got none; test on more")
    detections = [
        {
            "image_id": i,
            "category_id": int(box[5]),
            "bbox": _corner_and_sides(box),
            "score": box[4],
        }
        for i, picture in enumerate(found)
        for box in picture.tolist()
    ]
    if not detections:  # which the program refuses
        return {"ap": 0.0, "ap50": 0.0}
    known: Any = COCO()  # its annotations want what its program does without
    known.dataset = {
        "images": [{"id": i} for i in range(len(truth))],
        "categories": [{"id": i} for i in {box["category_id"] for box in boxes}],
        "annotations": [{"id": i, **box} for i, box in enumerate(boxes, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it talks
        known.createIndex()
        seen = known.loadRes(detections)
        evaluation = COCOeval(known, seen, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"ap": float(evaluation.stats[0]), "ap50": float(evaluation.stats[1])}


def _corner_and_sides(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
