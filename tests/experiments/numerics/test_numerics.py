"""The command that measures, its tables, and how failures are told."""

import dataclasses
import doctest
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from experiments import markers
from experiments.benchmark import contenders
from experiments.numerics import cases, float64, measure, peers, report
from experiments.numerics.__main__ import main


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numerics")
    document = folder / "document.md"
    document.write_text("a\n<!-- numerics:begin -->\n<!-- numerics:end -->\nb\n")
    main(
        [
            "--quick",
            f"--out={folder / 'record.json'}",
            f"--figure={folder / 'figure.png'}",
            f"--readme={document}",
        ]
    )
    return folder


def test_quick_run_tells_good_from_bad(quick):
    record = report.load(quick / "record.json")
    found = {
        (row["peer"], row["values"], row["mean"], row["outlier"]): row["y"]
        for row in record["results"]
    }
    assert found["flax_gn xla", 8192, 1e3, None] <= 5e-6
    assert found["flax_gn xla", 8192, 1e3, "first value"] <= 5e-6
    assert found["flax.linen", 8192, 1e3, None] > 1e-2
    # An error of exactly 0 would mean that something was held against itself.
    assert min(found.values()) > 1e-9
    ours = report.select(record, peer="flax_gn xla", values=8192)
    assert all(0 < row[name] < 5e-6 for row in ours for name in ("dx", "dgamma"))
    assert report.select(record, values=1000, mean=1e3)


def test_quick_run_draws_and_writes_its_table(quick):
    assert (quick / "figure.png").read_bytes().startswith(b"\x89PNG")
    text = markers.read(quick / "document.md", "numerics")
    assert "| flax_gn xla |" in text
    assert "python -m experiments.numerics --quick`" in text


def test_tables_are_made_again_from_a_record(quick, tmp_path):
    document = tmp_path / "again.md"
    document.write_text("<!-- numerics:begin -->old<!-- numerics:end -->")
    main(["--record", str(quick / "record.json"), "--readme", str(document)])
    again, first = (
        markers.read(path, "numerics") for path in (document, quick / "document.md")
    )
    assert again == first


def test_a_document_without_markers_is_refused(quick, tmp_path):
    document = tmp_path / "bare.md"
    document.write_text("# Title\n")
    with pytest.raises(ValueError, match=r"bare\.md must contain <!-- numerics:begin"):
        report.write(document, report.load(quick / "record.json"))


def test_a_missing_file_is_refused_before_any_work(capsys):
    with pytest.raises(SystemExit):
        main(["--readme", "nowhere.md"])
    assert "no such file: nowhere.md" in capsys.readouterr().err


@pytest.mark.parametrize("python", ["nowhere/python", shutil.which("true")])
def test_a_python_without_torch_is_refused(python):
    with pytest.raises(SystemExit, match="--torch-python must name a Python"):
        main(["--quick", "--torch-python", python])


@pytest.mark.parametrize("module", [float64, measure, report])
def test_examples_in_docstrings(module):
    failed, attempted = doctest.testmod(module)
    assert attempted
    assert not failed


def test_relative_error():
    exact = np.array([1.0, -4.0])
    assert measure.relative([1.0, -4.5], exact) == 0.125
    assert measure.relative([0.5], np.array([0.0]), least=1.0) == 0.5
    assert measure.relative([1.0, np.nan], exact) is None
    assert measure.relative([1.0, np.inf], exact) is None


def _results_of(monkeypatch, norm):
    contender = contenders.Contender("peer", lambda _: norm)
    monkeypatch.setitem(contenders.ALL, "peer", contender)
    case = cases.Case("float32", (1, 2, 2, 4), 2, 0.0)
    ((result,),) = measure.run([case], ["peer"], None)
    return result


def test_a_peer_that_fails_is_told(monkeypatch):
    def norm(*_):
        raise NotImplementedError("no such norm")

    result = _results_of(monkeypatch, norm)
    assert result.y is None
    assert result.failed == "NotImplementedError: no such norm"


def test_a_peer_that_is_not_finite_is_told(monkeypatch):
    result = _results_of(monkeypatch, lambda x, *_: jnp.log(-jnp.abs(x)))
    assert result.y is None
    assert result.failed == "y not finite"
    record = {"results": [dataclasses.asdict(result)]}
    assert "not finite" in report._by_size(record, 0.0)


def test_a_wrong_peer_has_a_large_error(monkeypatch):
    result = _results_of(monkeypatch, lambda x, *_: x)
    assert result.y is not None
    assert result.y > 0.05


@pytest.mark.parametrize("outlier", cases.OUTLIERS)
def test_outliers_are_where_their_name_says(outlier):
    case = next(c for c in cases.by_mean(["float32"], [1e4], [outlier]) if c.outlier)
    x, _ = case.arrays()
    where = np.argwhere(x == 0)
    assert set(where[:, 1]) == {0}
    if outlier == "first value":
        assert where.tolist() == [[n, 0, 0, c] for n in (0, 1) for c in (0, 8)]
    else:
        assert len(where) == 2 * 32 * 16


def test_groups_have_the_size_they_are_named_for():
    for dtype in cases.DTYPES:
        sizes = [c.values for c in cases.by_size([dtype]) if c.mean == 0]
        assert sizes == list(cases.SIZES)


def test_every_peer_here_is_measured():
    assert set(peers.NAMES) <= set(contenders.ALL)
    assert all(contenders.ALL[name].floor_step is None for name in peers.NAMES)
