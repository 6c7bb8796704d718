"""What the command refuses."""

from experiments import __main__ as command
from tests.experiments.data import decathlon_files


def test_a_missing_brain_is_said_before_any_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    argv = ["segmentation", "--quick", "--out", str(tmp_path / "out")]
    assert command.main(argv) == 2
    assert "-m experiments.data brain" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_damaged_case_is_named_before_any_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    task = decathlon_files.write(tmp_path / "task", cases=3)
    path = task / "imagesTr" / "hippocampus_001.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    argv = ["--dataset", "decathlon", "--data-folder", str(task)]
    out = tmp_path / "out"
    assert command.main(["segmentation", *argv, "--quick", "--out", str(out)]) == 2
    assert "hippocampus_001.nii.gz: expected a" in capsys.readouterr().err
    assert not out.exists()
    # The cases before it are kept, and none by half.
    kept = tmp_path / "cache" / "flax_gn" / "decathlon-kept" / "Hippocampus"
    assert not list(kept.glob("*001*"))
