"""What a TPU's chips say to each other: sums, and never rows of x.

tests/test_sharding.py holds programs for CPU devices to the same numbers. Without
--whole-table a few splits stand for the rest.
"""

import pytest

from tests import sharding_cases
from tests.compiled.conftest import devices

SOME = {"batch", "groups", "height", "batch_groups"}


def pytest_generate_tests(metafunc):
    whole = metafunc.config.getoption("whole_table")
    splits = [s for s in sharding_cases.SPLITS if whole or s.name in SOME]
    metafunc.parametrize("split", splits, ids=[split.name for split in splits])


@pytest.mark.parametrize("kind", ["auto", "explicit"])
def test_collectives(split, kind):
    on = sharding_cases.mesh(split, devices("v5e", "v5e:2x4"), kind)
    found = sharding_cases.collectives(split, on)
    allowed = split.explicit() if kind == "explicit" else split.automatic()
    for counted, sizes in zip(found, allowed, strict=True):
        assert bool(counted) == bool(sizes)
        assert all(name == "all-reduce" for name, _ in counted)
        # How they are put together into messages is the compiler's affair.
        assert sum(size * times for (_, size), times in counted.items()) <= sum(sizes)
