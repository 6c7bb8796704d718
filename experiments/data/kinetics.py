"""Kinetics: films of ten seconds, one human action in each.

W. Kay and others, "The Kinetics Human Action Video Dataset", arXiv:1705.06950. The
authors publish lists of films and times; the films are their makers'. Copies are kept
by the CVD Foundation, https://github.com/cvdfoundation/kinetics-dataset, for the user
to fetch. This reads the form that all tools prepare: a folder for each class, in::

    train/CLASS/*.mp4    val/CLASS/*.mp4
"""

import os
import pathlib

from experiments.data import files, films
from experiments.data.films import Films, summary

__all__ = ["NAME", "load", "summary"]

NAME = "kinetics"
HOME = "https://github.com/cvdfoundation/kinetics-dataset"


def load(folder: str | os.PathLike | None = None, *, download: bool = False) -> Films:
    """The index of the set. The films of ``val`` are tested on.

    Args:
      folder: holds ``train`` and ``val``. By default ``flax_gn/kinetics`` in the user's
        cache.
      download: changes nothing: hundreds of GB are not fetched unasked.

    Raises:
      FileNotFoundError: a folder is missing.
      ValueError: the classes of the two parts differ, a part holds no films, or a file
        is empty.
    """
    del download
    root = files.cache_folder(NAME) if folder is None else pathlib.Path(folder)
    root = root.expanduser()
    train, val = (_classes(root / part) for part in ("train", "val"))
    if train != val:
        odd = sorted(set(train) ^ set(val))
        raise ValueError(
            f"{root}: expected the same classes in train and val, got {len(odd)} that "
            f"are in one alone, {odd[0]!r} among them; the parts are of different sets"
        )
    found = Films(
        train, *(films.listed(root / part, train) for part in ("train", "val"))
    )
    return films.checked(NAME, found)


def _classes(folder: pathlib.Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{NAME}: expected the folder {folder}, with a folder of films for each "
            f"class; fetch the films as {HOME} says, or name the folder that holds "
            "train and val"
        )
    return tuple(
        sorted(
            path.name
            for path in folder.iterdir()
            if path.is_dir() and not path.name.startswith(".")
        )
    )
