"""Fetches a dataset, if it is not here yet, and says what is in it.

python -m experiments.data fashion-mnist
python -m experiments.data cifar10 --folder ~/data
"""

import argparse

from experiments.data.registry import NAMES, load


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.data",
        description="Fetches a dataset, if it is not here yet, and says what is in it.",
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument(
        "--folder", help="to look in and to download to (default: the user's cache)"
    )
    args = parser.parse_args(argv)
    try:
        dataset = load(args.name, args.folder, download=True)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from error
    for part, images in (
        ("training", dataset.train_images),
        ("test", dataset.test_images),
    ):
        print(f"{part}: {len(images)} images of {'x'.join(map(str, images.shape[1:]))}")
    print(f"classes: {', '.join(dataset.classes)}")
    print(f"mean: {dataset.mean.round(4)}, standard deviation: {dataset.std.round(4)}")


if __name__ == "__main__":
    main()
