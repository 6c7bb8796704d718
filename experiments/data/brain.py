"""A brain in three dimensions, and which of its voxels are grey and white matter.

The MNI152 template: the mean of magnetic resonance images (T1) of 152 adults brought
into one shape, and with it the probability of grey and of white matter in each voxel of
1 mm (V. Fonov and others, "Unbiased average age-appropriate atlases for pediatric
studies", NeuroImage 54, 2011; ICBM 152, nonlinear, symmetric, 2009a). All three lie in
the wheel of nilearn as NIfTI files. The wheel is read as the archive that it is and
never installed.
"""

import io
import os
import zipfile

import numpy as np

from experiments.data import files, nifti
from experiments.data.nifti import Volume

NAME = "brain"
# The address on the Python Package Index is made of the file's own BLAKE2b.
FILE = files.File(
    "https://files.pythonhosted.org/packages/9e/4f/"
    "6d93620cf4c7f642a8fb85fef8b6e30a24764ef99774026550291dea6fdd/"
    "nilearn-0.14.1-py3-none-any.whl",
    "725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a",
)
MEMBER = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
CLASSES = ("neither", "grey matter", "white matter")


def load(
    folder: str | os.PathLike | None = None,
    *,
    download: bool = False,
    file: files.File = FILE,
    halvings: int = 0,
) -> Volume:
    """The template, each voxel with the class that is most probable in it.

    Args:
      folder: holds the wheel. By default ``flax_gn/brain`` in the user's cache.
      download: whether to fetch it if it is missing.
      file: the wheel.
      halvings: of the resolution. The intensity and the probabilities are averaged over
        blocks of 2 x 2 x 2 voxels; an odd last voxel is lost.

    Raises:
      FileNotFoundError: the file is missing, and ``download`` is false.
      ValueError: the file is damaged or another one, or holds no such volumes.
      ConnectionError: the download failed.
    """
    [path] = files.locate(NAME, [file], folder, download=download)
    with zipfile.ZipFile(io.BytesIO(file.read(path))) as wheel:
        image, grey, white = (
            read(wheel.read(MEMBER.format(kind)), MEMBER.format(kind))
            for kind in ("t1", "gm", "wm")
        )
    if not image.shape == grey.shape == white.shape:
        raise ValueError(
            f"{path}: expected an image and maps of one shape, got {image.shape}, "
            f"{grey.shape} and {white.shape}; use the file at {file.url}"
        )
    for _ in range(halvings):
        image, grey, white = map(_halved, (image, grey, white))
    neither = 255 - grey.astype(np.float32) - white
    labels = np.argmax([neither, grey, white], axis=0)
    return Volume(np.round(image).astype(np.uint8), labels.astype(np.uint8))


def read(content: bytes, name: str) -> np.ndarray:
    """The voxels of a compressed NIfTI file, towards the right, the front and up.

    Args:
      content: of the file.
      name: what to call it in errors.

    Returns:
      uint8, (X, Y, Z).

    Raises:
      ValueError: no such file, or voxels that are no bytes in three dimensions.
    """
    image = nifti.read(content, name)
    dtype = image.get_data_dtype()
    if dtype != np.uint8 or len(image.shape) != 3:
        raise ValueError(
            f"{name}: expected bytes in three dimensions, got {dtype} of shape "
            f"{image.shape}"
        )
    return np.asarray(image.dataobj)


def _halved(volume: np.ndarray) -> np.ndarray:
    """Means over blocks of eight, in float32."""
    x, y, z = (side // 2 for side in volume.shape)
    blocks = volume[: 2 * x, : 2 * y, : 2 * z].reshape(x, 2, y, 2, z, 2)
    return blocks.mean((1, 3, 5), dtype=np.float32)


def summary(volume: Volume) -> str:
    """The shape, and the share of each class."""
    shares = np.bincount(volume.labels.ravel(), minlength=3) / volume.labels.size
    told = ", ".join(
        f"{100 * share:.1f}% {name}"
        for name, share in zip(CLASSES, shares, strict=True)
    )
    return f"{'x'.join(map(str, volume.image.shape))} voxels: {told}"
