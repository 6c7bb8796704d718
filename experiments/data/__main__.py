"""Fetches a dataset, if it is not here yet, and says what is in it.

python -m experiments.data fashion-mnist
python -m experiments.data cifar10 --folder ~/data
python -m experiments.data trees
python -m experiments.data brain
python -m experiments.data coco --folder ~/data/coco
python -m experiments.data decathlon --folder ~/data/Task04_Hippocampus
python -m experiments.data ucf101 --folder ~/data/UCF101

The last three, and kinetics, are never fetched: the command says where they come from.
"""

import argparse

from experiments.data.dataset import Dataset
from experiments.data.registry import NAMES, OTHERS, load


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.data",
        description="Fetches a dataset, if it is not here yet, and says what is in it.",
    )
    parser.add_argument("name", choices=(*NAMES, *OTHERS))
    parser.add_argument(
        "--folder", help="to look in and to download to (default: the user's cache)"
    )
    args = parser.parse_args(argv)
    try:
        if args.name in OTHERS:
            other = OTHERS[args.name]
            lines = other.summary(other.load(args.folder, download=True))
        else:
            lines = _summary(load(args.name, args.folder, download=True))
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    print(lines)


def _summary(dataset: Dataset) -> str:
    lines = [
        f"{part}: {len(images)} images of {'x'.join(map(str, images.shape[1:]))}"
        for part, images in (
            ("training", dataset.train_images),
            ("test", dataset.test_images),
        )
    ]
    lines.append(f"classes: {', '.join(dataset.classes)}")
    lines.append(
        f"mean: {dataset.mean.round(4)}, standard deviation: {dataset.std.round(4)}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
