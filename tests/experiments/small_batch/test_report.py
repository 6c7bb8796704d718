"""The table and the figure, from a record written by hand."""

import pytest

from experiments import records
from experiments.lab import figures
from experiments.small_batch import __main__ as command
from experiments.small_batch import report, results
from experiments.small_batch.experiment import EXPERIMENT
from tests.experiments.lab.ruled import F, H, U, rulings


def _row(norm, batch, seed, *errors):
    return {
        "norm": norm,
        "batch": batch,
        "seed": seed,
        "epochs": len(errors),
        "epoch_examples": 9984,
        "devices": 8,
        "rate": 0.4,
        "parallelism": "pmap",
        "test_error": errors[-1],
        "train_error": 0.5,
        "curve": {"test_errors": list(errors)},
    }


RECORD = {
    "dataset": "tiny",
    "size": "full",
    "stamp": {"device": "8 x cpu", "date": "2026-01-02T03", "versions": {"jax": "1.2"}},
    "runs": [
        _row("bn", 32, 0, 0.5, 0.10),
        _row("bn", 32, 1, 0.5, 0.12),
        _row("bn", 2, 0, 0.5, 0.20),
        _row("bn", 2, 1, 0.5, 0.20),
        _row("gn", 32, 0, 0.5, 0.115),
        _row("gn", 32, 1, 0.5, 0.115),
        _row("gn", 2, 0, 0.5, 0.112),
        _row("gn", 2, 1, 0.5, 0.112),
    ],
}


def test_the_table():
    assert report.table(RECORD).splitlines() == [
        "| examples per device | 32 | 2 |",
        "|---|---|---|",
        "| batch norm | 11.0 ± 1.4 | 20.0 ± 0.0 |",
        "| group norm | 11.5 ± 0.0 | 11.2 ± 0.0 |",
    ]
    assert report.outcome(RECORD) == (
        "From 32 to 2 examples per device the error rises by 9.0 points with batch "
        "norm, falls by 0.3 points with group norm; at 2 per device group norm is 8.8 "
        "points better than batch norm."
    )
    assert "2 seeds" in report.caption(RECORD)


def test_the_verdicts():
    # At 32 two points between two seeds hide half a point between norms.
    assert rulings(EXPERIMENT.verdicts(RECORD)) == [H, H, H, U]
    swapped = {"bn": "gn", "gn": "bn"}
    runs = [run | {"norm": swapped[run["norm"]]} for run in RECORD["runs"]]
    assert rulings(EXPERIMENT.verdicts({"runs": runs})) == [F, F, F, U]
    assert "worse than" in report.outcome({"runs": runs})


def test_ghost_batches_start_from_the_whole_batch():
    runs = [
        _row("ghost2", 32, seed, 0.5, error) for seed, error in ((0, 0.3), (1, 0.3))
    ]
    record = RECORD | {"runs": RECORD["runs"] + runs}
    assert (
        report.table(record).splitlines()[-1]
        == "| batch norm of ghost batches | 11.0 ± 1.4 | 30.0 ± 0.0 |"
    )
    assert "rises by 19.0 points with batch norm of ghost batches" in report.outcome(
        record
    )
    *_, verdict = EXPERIMENT.verdicts(record)
    assert verdict.ruling is H
    assert "+19.0" in verdict.ours
    for run in runs:
        run["curve"]["test_errors"] = [0.5, 0.05]
    *_, verdict = EXPERIMENT.verdicts(record)
    assert verdict.ruling is F


def test_the_reported_error_is_the_median_of_the_last_epochs():
    from tests.experiments.training import tiny

    config = tiny.config(epochs=15)
    test = [0.9] * 12 + [0.3, 0.1, 0.2]
    names = ("train_loss", "train_errors", "test_loss")
    epochs = [
        {"test_errors": e, "seconds": 1.0} | dict.fromkeys(names, e) for e in test
    ]
    row = results.run(config, epochs)
    assert row["test_error"] == 0.2
    assert row["seconds"] == 15


def test_readme_and_figure_from_a_record(tmp_path, capsys):
    record = records.write(tmp_path / "full.json", RECORD)
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- small_batch:begin -->\n<!-- small_batch:end -->\nb\n")
    figure = tmp_path / "full.png"
    given = {"--record": record, "--readme": readme, "--figure": figure}
    command.main(["report", *(str(part) for pair in given.items() for part in pair)])
    assert "| batch norm | 11.0 ± 1.4 | 20.0 ± 0.0 |" in readme.read_text()
    assert readme.read_text().startswith("a\n")
    assert readme.read_text().endswith("b\n")
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert figure.stat().st_size < 200_000
    assert "batch norm" in capsys.readouterr().out


def test_a_missing_record_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(["report", "--record", str(tmp_path / "none.json")])
    assert "there is no file" in capsys.readouterr().err


def test_lines_are_told_apart_without_colour():
    seen = [(s["marker"], s["linestyle"]) for s in figures.STYLES.values()]
    assert len({marker for marker, _ in seen}) == len(seen)
    assert len({line for _, line in seen}) == len(seen)
