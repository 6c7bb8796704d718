"""Trees seen from the air: pictures at 0.1 m per pixel, and a box around each crown.

The pictures are of the National Ecological Observatory Network (NEON), the boxes were
drawn by the authors of DeepForest (B. G. Weinstein and others, "DeepForest: A Python
package for RGB deep learning tree crown delineation", Methods in Ecology and Evolution
11, 2020), and both lie in its wheel, under the MIT licence. The wheel is read as the
archive that it is and never installed. Two of its pictures are of Yellowstone and have
all their trees boxed; these are taken. Boxes are in the XML of Pascal VOC.
"""

import io
import os
import xml.etree.ElementTree as ET
import zipfile
from collections.abc import Sequence

import numpy as np

from experiments.data import files
from experiments.data.boxed import Picture

NAME = "trees"
# The address on the Python Package Index is made of the file's own BLAKE2b.
FILE = files.File(
    "https://files.pythonhosted.org/packages/b7/a8/"
    "67e66685c81ec070372db546f933312c6d7401f845e200e5d900107ff51e/"
    "deepforest-2.1.0-py3-none-any.whl",
    "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
)
# 2299x2472 pixels with 574 trees, and 1249x1035 with 279.
PICTURES = (
    "2019_YELL_2_528000_4978000_image_crop2",
    "2019_YELL_2_541000_4977000_image_crop",
)
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def load(
    folder: str | os.PathLike | None = None,
    *,
    download: bool = False,
    file: files.File = FILE,
    pictures: Sequence[str] = PICTURES,
) -> list[Picture]:
    """The pictures, in the order of ``pictures``.

    Args:
      folder: holds the wheel. By default ``flax_gn/trees`` in the user's cache.
      download: whether to fetch it if it is missing.
      file: the wheel.
      pictures: names without extension of a PNG and an XML in it.

    Raises:
      FileNotFoundError: the file is missing, and ``download`` is false.
      ValueError: the file is damaged or another one.
      ConnectionError: the download failed.
    """
    import PIL.Image

    [path] = files.locate(NAME, [file], folder, download=download)
    found = []
    with zipfile.ZipFile(io.BytesIO(file.read(path))) as wheel:
        for name in pictures:
            content = wheel.read(f"deepforest/data/{name}.png")
            image = np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB"))
            boxes = parse(wheel.read(f"deepforest/data/{name}.xml"), name, image.shape)
            found.append(Picture(image, boxes))
    return found


def parse(content: bytes, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The boxes in an annotation of Pascal VOC.

    Args:
      content: the XML.
      name: what to call it in errors.
      shape: of the picture: height, width and so on.

    Returns:
      float32, (n, 4): left, top, right, bottom.

    Raises:
      ValueError: no XML, for a picture of another size, or a box that lacks a side, has
        no area or leaves the picture.
    """
    try:
        root = ET.fromstring(content)
        size = [int(root.findtext(f"size/{side}") or 0) for side in ("height", "width")]
        boxes = np.array(
            [
                [float(box.findtext(side) or "nan") for side in _SIDES]
                for box in root.iterfind("object/bndbox")
            ],
            np.float32,
        ).reshape(-1, 4)
    except (ET.ParseError, ValueError) as error:
        raise ValueError(
            f"{name}: expected an annotation in the XML of Pascal VOC, got something "
            f"else ({error})"
        ) from error
    height, width = shape[:2]
    if size != [height, width]:
        raise ValueError(
            f"{name}: expected an annotation of a picture of {width}x{height} pixels, "
            f"got one of {size[1]}x{size[0]}; it belongs to another picture"
        )
    left, top, right, bottom = boxes.T
    inside = (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)
    good = inside & (left < right) & (top < bottom)
    if not good.all():
        raise ValueError(
            f"{name}: expected boxes with an area, inside {width}x{height} pixels; got "
            f"{boxes[~good][0].tolist()} among them"
        )
    return boxes


def summary(pictures: Sequence[Picture]) -> str:
    """A line for each picture."""
    return "\n".join(
        f"{p.image.shape[1]}x{p.image.shape[0]} pixels with {len(p.boxes)} trees"
        for p in pictures
    )
