"""The trainer's tests do without strict promotion: optax's schedules mix dtypes."""

import pytest


@pytest.fixture(autouse=True)
def no_implicit_promotion():
    """Takes the place of the fixture for the library's tests."""
