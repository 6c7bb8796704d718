"""The ten pictures in every kind of file that can be trained on."""

import json
import struct

import pyarrow as pa
import pyarrow.parquet as pq
from array_record.python.array_record_module import ArrayRecordWriter

from experiments.imagenet.data import tf_example
from tests.experiments.imagenet.pictures import LABELS, PICTURES, encoded


def folder(at, ending="JPEG", split="train"):
    for number, (picture, label) in enumerate(zip(PICTURES, LABELS, strict=True)):
        path = at / split / "abc"[label] / f"{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture))


def example(number):
    return tf_example.serialize(
        {
            "image": [encoded(PICTURES[number])],
            "label": [LABELS[number]],
            "file_name": [b"name"],
        }
    )


def parts():
    """The pictures in two files."""
    half = len(LABELS) // 2
    return enumerate((range(half), range(half, len(LABELS))))


def array_record(at, split="train"):
    for part, numbers in parts():
        path = at / f"set-{split}.array_record-{part:05}-of-00002"
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for number in numbers:
            writer.write(example(number))
        writer.close()
    (at / "label.labels.txt").write_text("a\nb\nc\n")


def tfrecord(at, split="train"):
    for part, numbers in parts():
        framed = b""
        for number in numbers:
            record = example(number)
            framed += struct.pack("<QI", len(record), 0) + record + bytes(4)
        (at / f"set-{split}.tfrecord-{part:05}-of-00002").write_bytes(framed)
    features = {"label": {"classLabel": {"numClasses": "3"}}, "image": {}}
    (at / "features.json").write_text(
        json.dumps({"featuresDict": {"features": features}})
    )


def parquet(at, names=("image", "label"), split="train"):
    (at / "data").mkdir(exist_ok=True)
    info = {"info": {"features": {names[1]: {"names": ["a", "b", "c"]}}}}
    for part, numbers in parts():
        rows = [{"bytes": encoded(PICTURES[n]), "path": None} for n in numbers]
        table = pa.table({names[0]: rows, names[1]: [LABELS[n] for n in numbers]})
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        path = at / "data" / f"{split}-{part:05}-of-00002.parquet"
        pq.write_table(table, path, row_group_size=2)


WRITERS = {f.__name__: f for f in (folder, array_record, tfrecord, parquet)}
