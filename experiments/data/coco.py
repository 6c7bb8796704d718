"""COCO 2017: 118,287 training and 5,000 validation photographs, boxes of 80 classes.

T.-Y. Lin and others, "Microsoft COCO: Common Objects in Context", ECCV 2014. The home,
https://cocodataset.org/#download, offers train2017.zip, val2017.zip and
annotations_trainval2017.zip: 20 GB, so the user fetches and unpacks them. The folder
then holds::

    annotations/instances_train2017.json    train2017/*.jpg
    annotations/instances_val2017.json      val2017/*.jpg

Of the annotations the boxes, the classes and the marks of crowds are read, once.
Pictures are read one by one, when they are asked for.
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.data import files
from experiments.data.boxed import Scene

NAME = "coco"
HOME = "https://cocodataset.org/#download"


class Coco(NamedTuple):
    """The set: the names of the classes, and the pictures in the order of their ids."""

    classes: tuple[str, ...]
    train: list[Scene]
    val: list[Scene]


def load(folder: str | os.PathLike | None = None, *, download: bool = False) -> Coco:
    """The index of the set.

    Args:
      folder: holds the unpacked files. By default ``flax_gn/coco`` in the user's cache.
      download: changes nothing: 20 GB are not fetched unasked.

    Raises:
      FileNotFoundError: annotations or pictures are missing.
      ValueError: the annotations are damaged or of another form.
    """
    del download
    root = files.cache_folder(NAME) if folder is None else pathlib.Path(folder)
    root = root.expanduser()
    classes, train = _split(root, "train2017")
    named, val = _split(root, "val2017")
    if named != classes:
        raise ValueError(
            f"{root}: expected the same categories in both annotations, got "
            f"{len(classes)} and {len(named)} of other names; they are of different "
            "sets"
        )
    return Coco(classes, train, val)


def summary(found: Coco) -> str:
    """A line for each part, and one for the classes."""
    lines = []
    for name, scenes in (("train2017", found.train), ("val2017", found.val)):
        crowds = sum(int(scene.crowd.sum()) for scene in scenes)
        boxes = sum(len(scene.boxes) for scene in scenes) - crowds
        lines.append(
            f"{name}: {len(scenes)} pictures, {boxes} boxes around objects, {crowds} "
            "around crowds"
        )
    lines.append(f"{len(found.classes)} classes: {', '.join(found.classes)}")
    return "\n".join(lines)


def _split(root: pathlib.Path, name: str) -> tuple[tuple[str, ...], list[Scene]]:
    """The names of the classes, and the pictures, of one part of the set."""
    path, folder = root / "annotations" / f"instances_{name}.json", root / name
    for wanted, there in ((path, path.is_file()), (folder, folder.is_dir())):
        if not there:
            raise FileNotFoundError(
                f"{NAME}: expected {wanted}, which does not exist. Unpack "
                f"{name}.zip and annotations_trainval2017.zip from {HOME} into "
                f"{root}, or name the folder that holds them"
            )
    content = _json(path)
    try:
        names = {each["id"]: str(each["name"]) for each in content["categories"]}
        pictures = {each["id"]: each for each in content["images"]}
        rows: dict[Any, list[Any]] = {key: [] for key in pictures}
        for each in content["annotations"]:
            if each["image_id"] not in rows or each["category_id"] not in names:
                raise ValueError(
                    f"{path}: expected annotations of the pictures and the categories "
                    f"listed, got annotation {each['id']} of picture "
                    f"{each['image_id']} and category {each['category_id']}; the file "
                    "is of another form or was cut down"
                )
            rows[each["image_id"]].append(each)
        classes = {key: index for index, key in enumerate(sorted(names))}
        scenes = [
            _scene(path, folder, pictures[key], rows[key], classes)
            for key in sorted(pictures)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: expected annotations as {HOME} has them, with images, "
            f"annotations and categories, got another form ({error!r})"
        ) from error
    with os.scandir(folder) as entries:
        there = {entry.name for entry in entries}
    missing = [scene.path for scene in scenes if scene.path.name not in there]
    if missing or not scenes:
        raise FileNotFoundError(
            f"{folder}: expected the {len(scenes)} pictures of {path}, got "
            f"{len(scenes) - len(missing)}; {missing[0].name if missing else 'any'} is "
            f"missing. Unpack {name}.zip from {HOME} again"
        )
    return tuple(names[key] for key in classes), scenes


def _json(path: pathlib.Path) -> Any:
    def slim(part: dict[str, Any]) -> dict[str, Any]:
        part.pop("segmentation", None)  # outlines: nine tenths of the memory
        return part

    try:
        return json.loads(path.read_bytes(), object_hook=slim)
    except ValueError as error:
        raise ValueError(
            f"{path}: expected a whole JSON file, got one that is cut off or damaged "
            f"({error}); unpack it again from {HOME}"
        ) from error


def _scene(
    path: pathlib.Path,
    folder: pathlib.Path,
    picture: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    classes: dict[Any, int],
) -> Scene:
    """One picture. Boxes without area are left out: the published set has some."""
    width, height = int(picture["width"]), int(picture["height"])
    try:
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    except ValueError:
        boxes = np.full((1, 4), np.nan)
    boxes[:, 2:] += boxes[:, :2]
    inside = boxes.clip(0, [width, height, width, height]).astype(np.float32)
    area = (inside[:, 2:] > inside[:, :2]).all(1)
    outside = ~area & (boxes[:, 2:] > boxes[:, :2]).all(1)
    if outside.any() or not np.isfinite(boxes).all():
        raise ValueError(
            f"{path}: expected boxes [left, top, width, height] that meet their "
            f"picture of {width}x{height} pixels, got "
            f"{[row['bbox'] for row in rows]} for {picture['file_name']}"
        )
    return Scene(
        folder / picture["file_name"],
        width,
        height,
        inside[area],
        np.array([classes[row["category_id"]] for row in rows], np.int32)[area],
        np.array([bool(row.get("iscrowd", 0)) for row in rows], bool)[area],
    )
