"""TensorFlow's record of named values, `tf.train.Example`, without TensorFlow.

What TFDS writes into ArrayRecord and TFRecord files. The message is defined in
tensorflow/core/example/example.proto and feature.proto; its numbers are repeated here.
"""

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

_PACKAGE = "flax_gn.example"
# Its own type names are free: what is written names fields by number alone.
_LISTS = {"bytes_list": ("BytesList", 12), "int64_list": ("Int64List", 3)}


def parse(record: bytes) -> dict[str, Any]:
    """The values by name: lists of bytes or of integers; others are left out.

    Raises:
      ValueError: it is no such record.
    """
    example = _message()()
    try:
        example.ParseFromString(record)
    except message.DecodeError as error:
        raise ValueError("it is no tf.train.Example") from error
    found = {}
    for name, feature in example.features.feature.items():
        for kind in _LISTS:
            if feature.HasField(kind):
                found[name] = list(getattr(feature, kind).value)
    return found


def serialize(values: dict[str, list[bytes] | list[int]]) -> bytes:
    """The record of such values.

    Example:
      >>> record = serialize({"label": [7], "image": [b"..."]})
      >>> parse(record)["label"], parse(record)["image"]
      ([7], [b'...'])
    """
    example = _message()()
    for name, value in values.items():
        kind = "bytes_list" if isinstance(value[0], bytes) else "int64_list"
        getattr(example.features.feature[name], kind).value.extend(value)
    return example.SerializeToString(deterministic=True)


@functools.cache
def _message() -> Any:
    """The class of an Example, made from its description."""
    file = descriptor_pb2.FileDescriptorProto(
        name="flax_gn_example.proto", package=_PACKAGE, syntax="proto3"
    )
    repeated = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    for name, kind in _LISTS.values():
        listed = file.message_type.add(name=name)
        listed.field.add(name="value", number=1, type=kind, label=repeated)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for (field, (name, _)), number in zip(_LISTS.items(), (1, 3), strict=True):
        _add(feature, field, number, name).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    _add(entry, "value", 2, "Feature")
    _add(features, "feature", 1, "Features.FeatureEntry").label = repeated
    _add(file.message_type.add(name="Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName(f"{_PACKAGE}.Example")
    )


def _add(to: Any, name: str, number: int, kind: str) -> Any:
    """A field that is another message."""
    return to.field.add(
        name=name, number=number, type=11, label=1, type_name=f".{_PACKAGE}.{kind}"
    )
