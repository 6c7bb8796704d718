"""The IDX format of MNIST and its likes: a header of sizes, then the raw bytes.

Two zero bytes, one for the type (8 is uint8), one for the rank, each axis' length as a
big-endian uint32, then the values in row-major order. Described under "File formats" at
http://yann.lecun.com/exdb/mnist.
"""

import math
import struct

import numpy as np

_UINT8 = 8


def parse(content: bytes, name: str) -> np.ndarray:
    """The array in the bytes of an uncompressed IDX file of type uint8.

    Args:
      content: the whole file.
      name: what to call it in errors.

    Returns:
      A read-only view of ``content`` as uint8.

    Raises:
      ValueError: not IDX, not uint8, or shorter or longer than its header says.

    Example:
      >>> parse(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), "labels")
      array([7, 8, 9], dtype=uint8)
    """
    if len(content) < 4 or content[:3] != bytes([0, 0, _UINT8]):
        raise ValueError(
            f"{name}: expected an IDX file of uint8, which begins with the bytes "
            f"00 00 08, got {content[:4].hex(' ') or 'nothing'}; fetch it again"
        )
    rank = content[3]
    begin = 4 + 4 * rank
    if len(content) < begin:
        raise ValueError(
            f"{name}: expected a header of {begin} bytes for rank {rank}, got "
            f"{len(content)}; it is cut off, so fetch it again"
        )
    shape = struct.unpack(f">{rank}I", content[4:begin])
    if len(content) != begin + math.prod(shape):
        raise ValueError(
            f"{name}: expected {begin + math.prod(shape)} bytes for the shape "
            f"{shape} in its header, got {len(content)}; it is cut off or damaged, so "
            "fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)
