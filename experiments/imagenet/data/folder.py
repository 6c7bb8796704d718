"""A folder with a folder of images for each class, as ImageNet is unpacked."""

import os
import pathlib

from experiments.imagenet.data.source import BadExampleError, Example

ENDINGS = (".jpeg", ".jpg", ".png", ".webp")


class Folder:
    """The images of one split: ``path/<class>/*.JPEG``.

    Classes are numbered in the order of their names, and images likewise, so that all
    hosts agree.

    Raises:
      ValueError: there are no folders, or no images in them.
    """

    def __init__(self, path: pathlib.Path):
        self.name = str(path)
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
        self._paths: list[str] = []
        self._labels: list[int] = []
        for label, name in enumerate(names):
            with os.scandir(path / name) as entries:
                files = sorted(
                    entry.name
                    for entry in entries
                    if entry.name.lower().endswith(ENDINGS)
                )
            self._paths += [f"{name}/{file}" for file in files]
            self._labels += [label] * len(files)
        if not self._paths:
            raise ValueError(
                f"{path}: expected a folder for each class with files that end in "
                f"{', '.join(ENDINGS)}; there are {len(names)} folders and no such file"
            )
        self.classes = len(names)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Example:
        path = pathlib.Path(self.name, self._paths[index])
        try:
            return Example(path.read_bytes(), self._labels[index], str(path))
        except OSError as error:
            raise BadExampleError(str(path), error.strerror or str(error)) from error
