"""What the command refuses."""

from experiments import __main__ as command


def test_missing_pictures_are_refused_with_the_way_to_them(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    argv = ["detection", "--quick", "--out", str(tmp_path / "out")]
    assert command.main(argv) == 2
    assert "python -m experiments.data trees" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
