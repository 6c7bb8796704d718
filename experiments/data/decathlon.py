"""The Medical Segmentation Decathlon: ten tasks of volumes with organs and tumours.

M. Antonelli and others, "The Medical Segmentation Decathlon", Nature Communications 13,
2022. Its home, http://medicaldecathlon.com, offers a tar file for each task, of 27 MB
(Task04_Hippocampus) to 100 GB, under CC-BY-SA 4.0; so the user fetches and unpacks one.
The folder of a task then holds::

    dataset.json    imagesTr/*.nii.gz    labelsTr/*.nii.gz

The labels of ``imagesTs`` are not published: of the cases with labels every fifth, by
name, is tested on. Images of several modalities have them as a fourth axis.
"""

import json
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from experiments.data import files, nifti
from experiments.data.nifti import Volume

NAME = "decathlon"
HOME = "http://medicaldecathlon.com"
# Intensities beyond these are noise, as nnU-Net takes them to be (F. Isensee and
# others, Nature Methods 18, 2021).
PERCENTILES = 0.5, 99.5


class Case(NamedTuple):
    """Where the image and the labels of a case are."""

    image: pathlib.Path
    labels: pathlib.Path


class Decathlon(NamedTuple):
    """A task: its name, its classes, how cases are imaged, and the cases by name."""

    name: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    train: list[Case]
    test: list[Case]


def load(
    folder: str | os.PathLike | None = None, *, download: bool = False
) -> Decathlon:
    """The index of a task.

    Args:
      folder: of the task, such as ``Task04_Hippocampus``. By default
        ``flax_gn/decathlon`` in the user's cache.
      download: changes nothing: which of ten tasks, nobody knows.

    Raises:
      FileNotFoundError: ``dataset.json`` or a volume is missing.
      ValueError: ``dataset.json`` is of another form, or lists too few cases.
    """
    del download
    root = files.cache_folder(NAME) if folder is None else pathlib.Path(folder)
    root = root.expanduser()
    path = root / "dataset.json"
    try:
        content = json.loads(path.read_bytes())
        name = str(content["name"])
        classes = _ordered(content["labels"])
        modalities = _ordered(content["modality"])
        cases = [
            Case(root / each["image"], root / each["label"])
            for each in content["training"]
        ]
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{NAME}: expected {path}, which does not exist; unpack a task of {HOME} "
            "and name its folder, such as Task04_Hippocampus"
        ) from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the description of a task as {HOME} has it, with name, "
            f"labels, modality and training, got another form ({error!r}); unpack the "
            "task again"
        ) from error
    cases.sort()
    for file in (file for case in cases for file in case):
        if not file.is_file():
            raise FileNotFoundError(
                f"{NAME}: expected {file}, which does not exist; unpack the task again"
            )
    if len(cases) < 2 or len(classes) < 2:
        raise ValueError(
            f"{path}: expected a case to train on and one to test on, of two classes "
            f"at the least; got {len(cases)} cases of {len(classes)} classes"
        )
    train = [case for index, case in enumerate(cases) if index % 5]
    return Decathlon(name, classes, modalities, train, cases[::5])


def read(case: Case, of: Decathlon) -> Volume:
    """A case: its image in bytes, from `PERCENTILES` of each modality, and its labels.

    Returns:
      The image as uint8, (X, Y, Z, C), and the labels.

    Raises:
      ValueError: a file is damaged, image and labels are of different shapes, there are
        more or fewer modalities than the task has, or labels without a class.
    """
    image, labels = (
        np.asarray(nifti.read(path.read_bytes(), str(path)).dataobj) for path in case
    )
    image = image if image.ndim == 4 else image[..., None]
    channels, classes = len(of.modalities), len(of.classes)
    if image.ndim != 4 or image.shape[3] != channels:
        raise ValueError(
            f"{case.image}: expected a volume in {channels} modalities, as "
            f"dataset.json says, got shape {image.shape}"
        )
    if labels.shape != image.shape[:3]:
        raise ValueError(
            f"{case.labels}: expected labels for {image.shape[:3]} voxels, as the "
            f"image has, got {labels.shape}; they are of another case"
        )
    if labels.min() < 0 or labels.max() >= classes or (labels % 1).any():
        raise ValueError(
            f"{case.labels}: expected labels from 0 to {classes - 1}, got "
            f"{labels.min()} to {labels.max()}; they are of another task"
        )
    return Volume(
        np.stack([_bytes(image[..., c]) for c in range(channels)], axis=-1),
        labels.astype(np.uint8),
    )


def summary(found: Decathlon) -> str:
    """The task, its cases, modalities and classes."""
    return (
        f"{found.name}: {len(found.train)} cases to train on, {len(found.test)} to "
        f"test on\nmodalities: {', '.join(found.modalities)}\n"
        f"classes: {', '.join(found.classes)}"
    )


def _ordered(named: dict[str, Any]) -> tuple[str, ...]:
    """The values of {"0": ..., "1": ...}."""
    return tuple(str(named[str(index)]) for index in range(len(named)))


def _bytes(image: np.ndarray) -> np.ndarray:
    low, high = np.percentile(image, PERCENTILES)
    scaled = (image.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.round(scaled.clip(0, 1) * 255).astype(np.uint8)
