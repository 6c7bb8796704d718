"""Volumes in NIfTI files, the form of medical images."""

import gzip
import zlib
from typing import Any, NamedTuple

import numpy as np


class Volume(NamedTuple):
    """A volume and the class of each voxel.

    Attributes:
      image: uint8, (X, Y, Z), from left to right, back to front and bottom to top; 0
        outside of what was imaged. Or (X, Y, Z, C), imaged in several ways.
      labels: uint8, (X, Y, Z), positions in a list of classes.
    """

    image: np.ndarray
    labels: np.ndarray


def read(content: bytes, name: str) -> Any:
    """The image in the bytes of a NIfTI file, compressed or not.

    Args:
      content: of the file.
      name: what to call it in errors.

    Returns:
      A `nibabel.Nifti1Image` whose first axes point to the right, the front and up. Its
      voxels are ``np.asarray(image.dataobj)``.

    Raises:
      ValueError: no such file, or one that is cut off.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    try:
        plain = gzip.decompress(content) if content[348:352] != b"n+1\0" else content
        image = nibabel.Nifti1Image.from_bytes(plain)
        voxels = np.asarray(image.dataobj)  # here it shows that there are all
    except (
        EOFError,
        OSError,
        HeaderDataError,
        ImageFileError,
        WrapStructError,
        gzip.BadGzipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{name}: expected a compressed NIfTI file, got something else ({error})"
        ) from error
    del voxels
    return nibabel.as_closest_canonical(image)
