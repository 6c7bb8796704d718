"""What TPUs say to each other where arrays are split over them: kind, count, numbers.

The compiler pads arrays to whole tiles; the numbers are those without padding.
"""

import pytest

from tests import sharding_cases
from tests.compiled.conftest import devices
from tests.sharding_cases import SPLITS, all_reduces, collectives

TOPOLOGIES = {
    "v5e:2x2": ("v5e", None),
    "v5e:16x16": ("v5e", "v5e:16x16"),
    "tpu7x:2x2x1": ("7x", None),
}


@pytest.mark.parametrize("kind", sharding_cases.AXIS_TYPES)
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("split", SPLITS, ids=[split.name for split in SPLITS])
def test_collectives(split, topology, kind):
    found = devices(*TOPOLOGIES[topology])
    split = split.over(len(found))
    forward, backward = (
        split.explicit() if kind == "explicit" else split.automatic(at_once=True)
    )
    on = sharding_cases.mesh(split, found, kind)
    # One program of both passes: compiling is what takes the time.
    step = all_reduces(*forward, *backward)
    assert collectives(split, on, gradients=True) == step


def test_topologies_differ_in_size():
    sizes = [len(devices(*topology)) for topology in TOPOLOGIES.values()]
    assert sizes == [4, 256, 8]
