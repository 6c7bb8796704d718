"""A place where an experiment's command runs in seconds."""

import pytest

from experiments import data
from experiments.training import devices
from tests.experiments.training import tiny


@pytest.fixture(autouse=True)
def no_implicit_promotion():
    """Takes the place of the fixture for the library's tests: optax mixes dtypes."""


@pytest.fixture
def tiny_data(monkeypatch):
    """Two classes of 6x6 images in the place of every dataset."""
    monkeypatch.setattr(data, "load", lambda *_: tiny.dataset())
    # The tests have their 8 devices already.
    monkeypatch.setattr(devices, "prepare", lambda: None)
