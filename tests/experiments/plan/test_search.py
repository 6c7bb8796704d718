"""The search for the largest batch, with a compiler that only counts."""

import itertools

import pytest

from experiments.plan.search import at_least, below, largest


@pytest.mark.parametrize("most", [0, 1, 5, 8, 13, 100, 447, 448, 449, 1000])
@pytest.mark.parametrize("start", [1, 7, 64, 500, 4096])
@pytest.mark.parametrize("multiple", [1, 4])
def test_it_is_the_largest_candidate_that_fits(most, start, multiple):
    asked = []

    def make(batch):
        asked.append(batch)
        return batch if batch <= most else None

    found = largest(make, start, multiple)
    candidates = [b for b in range(1, 2 * 4096) if at_least(b, multiple) == b]
    fits = [b for b in candidates if b <= most]
    assert found == (fits[-1] if fits else None)
    assert all(batch % multiple == 0 for batch in asked)


@pytest.mark.parametrize("most", [13, 447, 1000])
def test_from_above_it_pays_for_one_success(most):
    successes = []

    def make(batch):
        if batch > most:
            return None
        successes.append(batch)
        return batch

    largest(make, 2 * most)
    assert len(successes) == 1


def test_candidates_are_close_enough():
    """Nobody who asks for more would get an eighth more."""
    batch, down = 4096, []
    while batch:
        down.append(batch)
        batch = below(batch)
    assert down[-1] == 1
    for larger, smaller in itertools.pairwise(down):
        assert larger - smaller <= max(1, smaller / 8)
