"""Films with a class each, in files: an index of them, and the pictures of a clip.

Films are decoded by PyAV, which the dependency group ``video`` brings, when a clip of
them is asked for.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

SUFFIXES = (".avi", ".mkv", ".mov", ".mp4", ".webm")
INSTALL = "pip install -e . --group video"


class Film(NamedTuple):
    """path: of the file; label: position of its class."""

    path: pathlib.Path
    label: int


class Films(NamedTuple):
    """The names of the classes, and the films of both parts in the order of names."""

    classes: tuple[str, ...]
    train: list[Film]
    test: list[Film]


class DamagedFilmError(ValueError):
    """A film that cannot be decoded."""


def checked(name: str, found: Films) -> Films:
    """The same films, none of them missing or empty.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a part holds no films, or a file is empty.
    """
    for part, films in (("train", found.train), ("test", found.test)):
        if not films:
            raise ValueError(
                f"{name}: expected films to {part} on, got none; the folder is another "
                "one, or was not unpacked"
            )
        for film in films:
            if not film.path.is_file():
                raise FileNotFoundError(
                    f"{name}: expected {film.path}, which does not exist; unpack the "
                    "set again, or take the film out of the lists"
                )
            if film.path.stat().st_size == 0:
                raise ValueError(
                    f"{film.path}: expected a film, got an empty file; delete it or "
                    "fetch it again"
                )
    return found


def summary(found: Films) -> str:
    """How many films and classes there are."""
    return (
        f"{len(found.train)} films to train on, {len(found.test)} to test on\n"
        f"{len(found.classes)} classes: {', '.join(found.classes)}"
    )


def frames(
    path: str | os.PathLike,
    number: int,
    stride: int,
    short: int,
    *,
    part: float = 0.5,
) -> np.ndarray:
    """Pictures of a film: ``number`` of them, every ``stride``-th.

    What is decoded starts with the film's first picture, so that the same pictures come
    out whatever the file says of its times. Where the film ends too early its last
    picture is repeated.

    Args:
      path: of the film.
      number: of pictures.
      stride: 1 for each picture, 2 for every other one, and so on.
      short: pixels of the shorter side, to which the pictures are scaled.
      part: where in the film, from 0, its start, to 1, as late as the clip fits.

    Returns:
      uint8, (number, H, W, 3), of which the smaller of H and W is ``short``.

    Raises:
      DamagedFilmError: the film cannot be decoded, or holds no picture.
      ModuleNotFoundError: PyAV is missing.
    """
    av = _av()
    span = (number - 1) * stride + 1
    found: list[np.ndarray] = []
    try:
        with av.open(os.fspath(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            start = int(part * max(0, _length(container, stream) - span))
            last = None
            for index, frame in enumerate(container.decode(stream)):
                last = frame
                if index >= start and (index - start) % stride == 0:
                    found.append(_pixels(frame, short))
                    if len(found) == number:
                        break
            if not found and last is not None:  # shorter than the file says
                found.append(_pixels(last, short))
    except (av.FFmpegError, IndexError, ValueError) as error:
        raise DamagedFilmError(
            f"{path}: expected a film, got a file that cannot be decoded ({error}); "
            "delete it or fetch it again"
        ) from error
    if not found:
        raise DamagedFilmError(
            f"{path}: expected a film, got a file without pictures; delete it or fetch "
            "it again"
        )
    return np.stack(found + found[-1:] * (number - len(found)))


def listed(folder: pathlib.Path, classes: Sequence[str]) -> list[Film]:
    """The films in the folders of the classes, by name."""
    return [
        Film(path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def _length(container: Any, stream: Any) -> int:
    """Pictures, as the file says; some formats give a duration alone."""
    if stream.frames:
        return stream.frames
    if container.duration is None or stream.average_rate is None:
        return 0
    return round(container.duration / _av().time_base * stream.average_rate)


def _pixels(frame: Any, short: int) -> np.ndarray:
    scale = short / min(frame.width, frame.height)
    width, height = (round(side * scale) for side in (frame.width, frame.height))
    return frame.to_ndarray(width=width, height=height, format="rgb24")


def _av() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"films are decoded by PyAV, which is not installed; run: {INSTALL}"
        ) from error
    return av
