"""What every experiment's tests have."""

from tests.experiments.lab.conftest import no_implicit_promotion

__all__ = ["no_implicit_promotion"]
