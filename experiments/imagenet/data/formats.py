"""Which kind of data lies at a path."""

import pathlib
from collections.abc import Callable

from experiments.imagenet.data import records
from experiments.imagenet.data.builtin import Embedded, Synthetic
from experiments.imagenet.data.folder import Folder
from experiments.imagenet.data.parquet import Parquet
from experiments.imagenet.data.source import Source

NAMES = ("synthetic", "fashion-mnist-subset")
# Names of a split, in the order in which they are looked for.
_SPLITS = {"train": ("train",), "validation": ("validation", "val", "valid", "test")}


def open_split(
    data: str, split: str, *, image_size: int, examples: int = 1024
) -> Source:
    """The examples of one split.

    Args:
      data: one of `NAMES`, or a folder.
      split: "train" or "validation".
      image_size: of synthetic data.
      examples: how many synthetic ones there are; a quarter of them in validation.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it holds nothing of a known kind, or a damaged file.
      ModuleNotFoundError: it holds Parquet files, and pyarrow is not installed.
    """
    if data == "synthetic":
        return Synthetic(
            split, image_size, examples if split == "train" else examples // 4
        )
    if data == "fashion-mnist-subset":
        return Embedded(split)
    path = pathlib.Path(data).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"--data {data}: there is no such folder; give one with train/ and val/ in "
            f"it, or one of {', '.join(NAMES)}"
        )
    if path.is_dir():
        for name in _SPLITS[split]:
            if (path / name).is_dir():
                return Folder(path / name)
            for folder in (path, path / "data"):
                if source := _files(folder, name):
                    return source
        names = sorted(entry.name for entry in path.iterdir())
        held = f"a folder with {', '.join(names[:10]) or 'nothing'} in it"
    else:
        held = "a file"
    raise ValueError(
        f"--data {data}: expected {split} data: a folder "
        f"{' or '.join(_SPLITS[split])} with a folder of images for each class, or "
        f"files {split}*.parquet, *{split}*.array_record* or *{split}*.tfrecord*; got "
        f"{held}"
    )


def _files(folder: pathlib.Path, split: str) -> Source | None:
    """The records of files whose names name the split, if there are any."""
    for ending, make in _RECORDS.items():
        # TFDS: set-train.array_record-00-of-01; Hugging Face: train-00-of-01.parquet
        paths = sorted(
            path
            for path in folder.glob(f"*{ending}*")
            if split in path.name.partition(ending)[0].split("-")
        )
        if paths:
            return make(paths)
    return None


_RECORDS: dict[str, Callable[[list[pathlib.Path]], Source]] = {
    ".array_record": lambda p: records.ArrayRecords(p, records.classes(p[0].parent)),
    ".tfrecord": lambda p: records.TfRecords(p, records.classes(p[0].parent)),
    ".parquet": Parquet,
}
