"""What every experiment's tests have."""

from tests.experiments.lab.conftest import no_implicit_promotion, tiny_data

__all__ = ["no_implicit_promotion", "tiny_data"]
