"""Films: which pictures of them, of what size, and what cannot be decoded."""

import builtins
import re

import numpy as np
import pytest

from experiments import data
from experiments.data import __main__ as command
from experiments.data import films, kinetics, ucf101
from tests.experiments.data import film_files


@pytest.mark.parametrize("suffix", film_files.CODECS)
@pytest.mark.parametrize(
    ("number", "stride", "part", "want"),
    [
        (4, 2, 0.0, [0, 2, 4, 6]),
        (4, 2, 1.0, [5, 7, 9, 11]),
        (3, 1, 0.5, [4, 5, 6]),
        (12, 1, 0.5, list(range(12))),
        (4, 5, 0.5, [0, 5, 10, 10]),  # it ends before the clip does
    ],
)
def test_which_pictures(tmp_path, suffix, number, stride, part, want):
    path = tmp_path / f"film{suffix}"
    film_files.write(path, film_files.brightening(12))
    found = films.frames(path, number, stride, 16, part=part)
    assert found.dtype == np.uint8
    assert film_files.times(found) == pytest.approx(want, abs=0.4)


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(32, 48, (16, 24)), (48, 32, (24, 16)), (8, 8, (16, 16))],
)
def test_the_shorter_side_is_what_was_asked_for(tmp_path, height, width, shape):
    path = tmp_path / "film.mp4"
    film_files.write(path, film_files.brightening(3, height, width, right=250))
    found = films.frames(path, 1, 1, 16)
    assert found.shape == (1, *shape, 3)
    # The bright stripe is still at the right.
    assert found[0, :, -2:].mean() > 200
    assert found[0, :, :2].mean() < 60


def test_colours_come_as_red_green_blue(tmp_path):
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    pictures[..., 0] = 255
    film_files.write(tmp_path / "red.avi", pictures)
    (found,) = films.frames(tmp_path / "red.avi", 1, 1, 16).reshape(1, -1, 3).mean(1)
    assert found[0] > 230
    assert found[1:].max() < 25


@pytest.mark.parametrize("content", [b"no film", b"\0" * 5000])
def test_what_is_no_film_is_named(tmp_path, content):
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    with pytest.raises(films.DamagedFilmError, match=r"film\.mp4: expected a film"):
        films.frames(path, 4, 2, 16)


def test_a_film_cut_off_is_named(tmp_path):
    path = tmp_path / "film.mp4"
    film_files.write(path, film_files.brightening(12))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(films.DamagedFilmError, match="delete it or fetch it again"):
        films.frames(path, 4, 2, 16)


def test_without_the_decoder_it_says_how_to_install_it(tmp_path, monkeypatch):
    film_files.write(tmp_path / "film.avi", film_files.brightening(3))
    load = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'")
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModuleNotFoundError, match=re.escape(films.INSTALL)):
        films.frames(tmp_path / "film.avi", 1, 1, 16)


def test_kinetics(tmp_path):
    film_files.kinetics(tmp_path)
    (tmp_path / "train" / "abseiling" / "._id0_000001_000011.mp4").write_bytes(b"x")
    (tmp_path / "train" / "abseiling" / "notes.txt").write_text("no film")
    found = kinetics.load(tmp_path)
    assert found.classes == ("abseiling", "air drumming")
    assert [film.label for film in found.train] == [0, 0, 0, 1, 1, 1]
    assert [film.path.name for film in found.test[:2]] == [
        "id0_000001_000011.mp4",
        "id1_000001_000011.mp4",
    ]
    assert found.test[2].path.parent == tmp_path / "val" / "air drumming"


def test_ucf101(tmp_path):
    film_files.ucf101(tmp_path)
    found = ucf101.load(tmp_path)
    assert found.classes == ("ApplyEyeMakeup", "Archery")
    assert [(film.path.name, film.label) for film in found.train] == [
        ("v_ApplyEyeMakeup_g08_c01.avi", 0),
        ("v_Archery_g08_c01.avi", 1),
    ]
    assert [(film.path.name, film.label) for film in found.test] == [
        ("v_ApplyEyeMakeup_g01_c01.avi", 0),
        ("v_Archery_g01_c01.avi", 1),
    ]


def test_the_command_says_what_is_in_a_set(tmp_path, capsys):
    film_files.ucf101(tmp_path)
    command.main(["ucf101", "--folder", str(tmp_path)])
    told = capsys.readouterr().out
    assert "2 films to train on, 2 to test on" in told
    assert "2 classes: ApplyEyeMakeup, Archery" in told
    assert {"kinetics", "ucf101"} <= data.registry.OTHERS.keys()


def _spoil(folder, how):
    path = folder / how["path"]
    if "text" in how:
        path.write_text(how["text"])
    elif path.is_dir():
        path.rename(folder / "elsewhere")
    else:
        path.unlink()


ARCHERY = "UCF-101/Archery/v_Archery_g08_c01.avi"
LISTS = "ucfTrainTestlist"


@pytest.mark.parametrize(
    ("load", "write", "how", "error", "message"),
    [
        (
            kinetics.load,
            film_files.kinetics,
            {"path": "val"},
            FileNotFoundError,
            r"expected the folder .*val, with a folder of films for each class",
        ),
        (
            kinetics.load,
            film_files.kinetics,
            {"path": "val/abseiling"},
            ValueError,
            "1 that are in one alone, 'abseiling' among them",
        ),
        (
            kinetics.load,
            film_files.kinetics,
            {"path": "train/abseiling/id0_000001_000011.mp4", "text": ""},
            ValueError,
            r"id0_000001_000011\.mp4: expected a film, got an empty file",
        ),
        (
            ucf101.load,
            film_files.ucf101,
            {"path": f"{LISTS}/testlist01.txt"},
            FileNotFoundError,
            r"testlist01\.txt, which does not exist; unpack the films and the splits",
        ),
        (
            ucf101.load,
            film_files.ucf101,
            {"path": ARCHERY},
            FileNotFoundError,
            r"v_Archery_g08_c01\.avi, which does not exist",
        ),
        (
            ucf101.load,
            film_files.ucf101,
            {"path": f"{LISTS}/classInd.txt", "text": "ApplyEyeMakeup"},
            ValueError,
            "lines of a number and a class, got 'ApplyEyeMakeup'",
        ),
        (
            ucf101.load,
            film_files.ucf101,
            {"path": f"{LISTS}/trainlist01.txt", "text": "Fencing/v_x.avi 1"},
            ValueError,
            "of the classes listed, got 'Fencing/v_x.avi 1'",
        ),
        (
            ucf101.load,
            film_files.ucf101,
            {"path": f"{LISTS}/trainlist01.txt", "text": ""},
            ValueError,
            "expected films to train on, got none",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, load, write, how, error, message):
    write(tmp_path)
    load(tmp_path)
    _spoil(tmp_path, how)
    with pytest.raises(error, match=message):
        load(tmp_path)
