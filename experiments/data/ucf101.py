"""UCF101: 13,320 films of 101 human actions.

K. Soomro, A. R. Zamir and M. Shah, "UCF101: A Dataset of 101 Human Actions Classes From
Videos in The Wild", arXiv:1212.0402. Its home, https://www.crcv.ucf.edu/data/UCF101.php,
offers UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip, 7 GB; unpacked into one
folder they are::

    UCF-101/CLASS/v_CLASS_g01_c01.avi
    ucfTrainTestlist/classInd.txt, trainlist01.txt, testlist01.txt

Of the three splits the first is taken.
"""

import os
import pathlib

from experiments.data import files, films
from experiments.data.films import Film, Films, summary

__all__ = ["NAME", "load", "summary"]

NAME = "ucf101"
HOME = "https://www.crcv.ucf.edu/data/UCF101.php"
_FILMS, _LISTS = "UCF-101", "ucfTrainTestlist"


def load(folder: str | os.PathLike | None = None, *, download: bool = False) -> Films:
    """The index of the set, in its first split.

    Args:
      folder: holds the two unpacked folders. By default ``flax_gn/ucf101`` in the
        user's cache.
      download: changes nothing: the films come in an archive that Python cannot read.

    Raises:
      FileNotFoundError: a list or a film is missing.
      ValueError: a list is of another form, or a film is empty.
    """
    del download
    root = files.cache_folder(NAME) if folder is None else pathlib.Path(folder)
    root = root.expanduser()
    numbers = {}
    for line in _lines(root, "classInd.txt"):
        number, _, name = line.partition(" ")
        if not number.isdecimal() or not name:
            raise _wrong(root, "classInd.txt", "lines of a number and a class", line)
        numbers[name] = int(number)
    classes = tuple(sorted(numbers, key=numbers.__getitem__))
    train, test = (
        _listed(root, name, classes) for name in ("trainlist01.txt", "testlist01.txt")
    )
    return films.checked(NAME, Films(classes, train, test))


def _listed(root: pathlib.Path, name: str, classes: tuple[str, ...]) -> list[Film]:
    """The films of a list. Those to train on have the number of their class behind."""
    labels = {each: label for label, each in enumerate(classes)}
    found = []
    for line in _lines(root, name):
        path = line.split(" ")[0]
        of, _, _ = path.partition("/")
        if of not in labels:
            raise _wrong(root, name, "lines of CLASS/FILM, of the classes listed", line)
        found.append(Film(root / _FILMS / path, labels[of]))
    return found


def _lines(root: pathlib.Path, name: str) -> list[str]:
    path = root / _LISTS / name
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{NAME}: expected {path}, which does not exist; unpack the films and the "
            f"splits of {HOME} into {root}, or name the folder that holds them"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _wrong(root: pathlib.Path, name: str, expected: str, line: str) -> ValueError:
    return ValueError(
        f"{root / _LISTS / name}: expected {expected}, got {line!r}; unpack the splits "
        f"of {HOME} again"
    )
