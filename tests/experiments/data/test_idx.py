import re

import numpy as np
import pytest

from experiments.data import idx
from tests.experiments.data import formats


@pytest.mark.parametrize("shape", [(), (7,), (3, 2), (300, 5, 4)])
def test_parse_returns_what_was_written(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    parsed = idx.parse(formats.idx(array), "file")
    assert parsed.dtype == np.uint8
    np.testing.assert_array_equal(parsed, array, strict=True)


whole = formats.idx(np.zeros((3, 5), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with the bytes 00 00 08, got nothing"),
        (b"<html>", "begins with the bytes 00 00 08, got 3c 68 74 6d"),
        (whole.replace(b"\x08", b"\x0d", 1), "00 00 08, got 00 00 0d 02"),
        (whole[:9], "expected a header of 12 bytes for rank 2, got 9"),
        (whole[:-1], "expected 27 bytes for the shape (3, 5) in its header, got 26"),
        (
            whole + b"\x00",
            "expected 27 bytes for the shape (3, 5) in its header, got 28",
        ),
    ],
)
def test_parse_refuses_what_is_not_a_whole_file(content, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        idx.parse(content, "labels.gz")
    assert str(caught.value).startswith("labels.gz: ")
