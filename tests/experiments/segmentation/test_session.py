"""What the command refuses."""

from experiments import __main__ as command


def test_a_missing_brain_is_said_before_any_training(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    argv = ["segmentation", "--quick", "--out", str(tmp_path / "out")]
    assert command.main(argv) == 2
    assert "-m experiments.data brain" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
