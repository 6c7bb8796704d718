"""Films of the form that public sets have, a few pictures long."""

import fractions

import av
import numpy as np

CODECS = {".avi": "mpeg4", ".mp4": "mpeg4", ".mkv": "mpeg4"}


def write(path, pictures, rate=10):
    """Encodes uint8 (T, H, W, 3); H and W are even."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            CODECS[path.suffix], rate=fractions.Fraction(rate)
        )
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.qmin = stream.codec_context.qmax = 1
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def brightening(length, height=32, width=48, right=0):
    """Picture t is as bright as 10 t + 20; a stripe at the right as ``right``."""
    pictures = np.empty((length, height, width, 3), np.uint8)
    pictures[:] = 10 * np.arange(length)[:, None, None, None] + 20
    pictures[:, :, -width // 3 :] = right
    return pictures


def times(images):
    """Which pictures of `brightening` these are, by their left half."""
    left = images[:, :, : images.shape[2] // 2].mean((1, 2, 3))
    return ((left - 20) / 10).round(1).tolist()


def kinetics(folder, train=3, val=2, classes=("abseiling", "air drumming"), **size):
    """The folders of train and val, a film each for class and number."""
    for part, number in (("train", train), ("val", val)):
        for label, name in enumerate(classes):
            for index in range(number):
                path = folder / part / name / f"id{index}_000001_000011.mp4"
                write(path, brightening(8 + index, right=200 * label, **size))


def ucf101(folder, classes=("ApplyEyeMakeup", "Archery")):
    """The films and the lists: for each class one group to train on, one to test."""
    lists = folder / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    index, train, test = [], [], []
    for label, name in enumerate(classes):
        index.append(f"{label + 1} {name}")
        for group in (8, 1):
            film = f"{name}/v_{name}_g{group:02}_c01.avi"
            write(folder / "UCF-101" / film, brightening(8, right=200 * label))
            (train if group == 8 else test).append(film)
    (lists / "classInd.txt").write_text("\r\n".join(index) + "\r\n")
    numbered = [f"{film} {n}" for n, film in enumerate(train, start=1)]
    (lists / "trainlist01.txt").write_text("\r\n".join(numbered) + "\r\n")
    (lists / "testlist01.txt").write_text("\r\n".join(test) + "\r\n")
