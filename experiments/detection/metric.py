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
    """Precision averaged over recall, for one class of objects.

    Args:
      truth: the boxes (n, 4) in each picture.
      found: boxes and scores (m, 5) in each; the 100 of highest score count.

    Returns:
      "ap", averaged over intersections over union of 0.5, 0.55, ..., 0.95, and "ap50",
      at 0.5 alone, from 0 to 1.

    Raises:
      ValueError: there is no box in any picture.
    """
    boxes = [
        {"image_id": i, "bbox": _corner_and_sides(box), "area": _area(box)}
        for i, picture in enumerate(truth)
        for box in picture.tolist()
    ]
    if not boxes:
        raise ValueError("expected pictures with boxes in them, got none; test on more")
    detections = [
        {"image_id": i, "bbox": _corner_and_sides(box), "score": box[4]}
        for i, picture in enumerate(found)
        for box in picture.tolist()
    ]
    if not detections:  # which the program refuses
        return {"ap": 0.0, "ap50": 0.0}
    known: Any = COCO()  # its annotations want what its program does without
    known.dataset = {
        "images": [{"id": i} for i in range(len(truth))],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": i, "category_id": 1, "iscrowd": 0, **box}
            for i, box in enumerate(boxes, start=1)
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):  # it talks
        known.createIndex()
        seen = known.loadRes([{"category_id": 1, **box} for box in detections])
        evaluation = COCOeval(known, seen, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"ap": float(evaluation.stats[0]), "ap50": float(evaluation.stats[1])}


def _corner_and_sides(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _area(box: list[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
