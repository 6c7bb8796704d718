"""From an image file to the square that the network sees."""

import io
import math

import numpy as np
import PIL.Image

from experiments.imagenet.data.source import BadExampleError, Example

# Of the part of an image that is taken in training, as in Szegedy et al., "Going
# deeper with convolutions", CVPR 2015, section 6.
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# Part of the shorter side that evaluation takes: 224 of 256.
CENTRE = 0.875


def training_view(
    example: Example, size: int, augment: str, rng: np.random.Generator
) -> np.ndarray:
    """A random part of the image, flipped or not, or its middle; uint8 (size, size, 3).

    Raises:
      BadExampleError: it is no image, or cut off.
    """
    if augment == "none":
        return _view(example, size, lambda w, h: _middle(w, h, 1.0))
    view = _view(example, size, lambda w, h: _part(w, h, rng))
    return view[:, ::-1] if rng.random() < 0.5 else view


def evaluation_view(example: Example, size: int, augment: str) -> np.ndarray:
    """The middle of the image, uint8 (size, size, 3).

    Raises:
      BadExampleError: it is no image, or cut off.
    """
    part = 1.0 if augment == "none" else CENTRE
    return _view(example, size, lambda w, h: _middle(w, h, part))


def _view(example: Example, size: int, choose) -> np.ndarray:
    try:
        image = _open(example.image)
        width, height = image.size
        left, top, right, bottom = choose(width, height)
        # A JPEG can be decoded at an eighth, a quarter or half of its size.
        scale = size / min(right - left, bottom - top)
        image.draft("RGB", (math.ceil(width * scale), math.ceil(height * scale)))
        x, y = image.size[0] / width, image.size[1] / height
        box = (left * x, top * y, right * x, bottom * y)
        square = image.convert("RGB").resize(
            (size, size), PIL.Image.Resampling.BILINEAR, box
        )
    # What Pillow raises on damaged files depends on the format.
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as why:
        # An unknown format is told with the address of a buffer.
        unknown = isinstance(why, PIL.UnidentifiedImageError)
        told = "it is no image of a known kind" if unknown else str(why)
        raise BadExampleError(example.name, told) from why
    return np.asarray(square)


def _open(image: bytes | np.ndarray) -> PIL.Image.Image:
    if isinstance(image, bytes):
        return PIL.Image.open(io.BytesIO(image))
    return PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def _part(
    width: int, height: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random part within the bounds of `AREA` and `RATIO`; the middle after all."""
    for _ in range(_ATTEMPTS):
        area = width * height * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
            return left, top, left + w, top + h
    return _middle(width, height, 1.0)


def _middle(width: int, height: int, part: float) -> tuple[float, float, float, float]:
    side = part * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side
