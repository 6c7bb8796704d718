"""What verdicts come to, in short names, and records whose seeds agree."""

from typing import Any

from experiments.lab import Ruling, Verdict

H, F, U = Ruling.HELD, Ruling.FAILED, Ruling.UNDECIDED


def rulings(verdicts: list[Verdict]) -> list[Ruling]:
    return [verdict.ruling for verdict in verdicts]


def two_seeds(record: dict[str, Any]) -> dict[str, Any]:
    """Every run of seed 0 once more as seed 1, so that any difference decides."""
    again = [run | {"seed": 1} for run in record["runs"]]
    return record | {"runs": record["runs"] + again}
