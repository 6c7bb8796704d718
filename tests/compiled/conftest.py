"""Prepares the process for compilers whose devices are not here.

The TPU and GPU plugins read their environment when jax starts them, so that it has to
be in place before any test runs.
"""

import pytest

from experiments.benchmark import targets

targets.prepare()


@pytest.fixture
def device():
    """Gives the first compile-only device of a target, or skips."""
    return lambda target: devices(target)[0]


def devices(target, topology=None):
    """Compile-only devices; skips where the compiler is not installed."""
    if not targets.installed(target):
        pytest.skip(
            f"the compiler for {target} is not installed; run: {targets.INSTALL}"
        )
    return targets.devices(target, topology)
