"""The smoke test of an experiment: its command, to its part of the page."""

import contextlib
import io
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import pytest

from experiments import __main__ as command
from experiments import data
from experiments.lab import Ruling, catalogue, page
from tests.experiments.training import tiny


class Finished(NamedTuple):
    """What a run leaves: its folder, its record, its words, and its command line."""

    out: pathlib.Path
    record: dict[str, Any]
    told: str
    argv: Sequence[str]


class Quick:
    """`python -m experiments NAME --quick`, of data and networks that `shrink` makes.

    Every experiment has a ``test_quick.py`` with a subclass TestQuick, whose own tests
    say what its record must hold.
    """

    name: str
    options: Sequence[str] = ()  # beside --quick, where that is too short

    @classmethod
    def shrink(cls, patch: pytest.MonkeyPatch, folder: pathlib.Path) -> None:
        """Puts small things where the experiment looks for its data and network."""
        raise NotImplementedError

    @classmethod
    def words(cls, record: dict[str, Any]) -> str:
        """What the command has to say at the end: its table, by default."""
        return catalogue.load(cls.name).table(record)

    @pytest.fixture(scope="class")
    @classmethod
    def finished(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
        folder = tmp_path_factory.mktemp(cls.name)
        with pytest.MonkeyPatch.context() as patch, compiled_quickly():
            # The command adds to it, for which it is too late here.
            patch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", ""))
            cls.shrink(patch, folder)
            argv = [cls.name, "--quick", *cls.options, "--out", str(folder / "out")]
            with contextlib.redirect_stdout(io.StringIO()) as told:
                assert command.main(argv) == 0
            record = json.loads((folder / "out" / "quick.json").read_text())
            yield Finished(folder / "out", record, told.getvalue(), argv)

    def test_from_the_command_to_the_page(self, finished, tmp_path):
        experiment = catalogue.load(self.name)
        out, record, told, _ = finished
        assert record["size"] == "quick"
        assert record["memory_gb"] > 0
        assert self.words(record) in told

        section = page.section(experiment, record)
        assert experiment.table(record) in section
        assert all(v.claim in " ".join(section.split()) for v in self.verdicts(record))

        # The record alone is enough to draw the figure again.
        experiment.figure(record, tmp_path / "again.png")
        drawn = (out / "quick.png").read_bytes()
        assert drawn.startswith(b"\x89PNG")
        assert len(drawn) < 200_000
        assert (tmp_path / "again.png").read_bytes() == drawn

    def verdicts(self, record: dict[str, Any]) -> Sequence[Any]:
        found = catalogue.load(self.name).verdicts(record)
        assert found
        assert all(isinstance(verdict.ruling, Ruling) for verdict in found)
        return found


@contextlib.contextmanager
def compiled_quickly() -> Iterator[None]:
    """Without optimisations: small things take longer to compile than to run."""
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def two_classes(patch: pytest.MonkeyPatch) -> None:
    """256 images of two classes in the place of every dataset."""
    patch.setattr(data, "load", lambda *_: tiny.dataset(train=256))
