"""Messages of TF Serving that `tensorflow-serving-api` leaves out.

Declared here field by field (names and numbers of TF Serving's `session_bundle_config.proto`,
`monitoring_config.proto`, `ssl_config.proto`), in a descriptor pool of their own so that they cannot collide
with a package that does carry them.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

_Field = descriptor_pb2.FieldDescriptorProto
_INT64, _BOOL, _STRING, _MESSAGE = (
    _Field.TYPE_INT64,
    _Field.TYPE_BOOL,
    _Field.TYPE_STRING,
    _Field.TYPE_MESSAGE,
)
_WRAPPED = ".google.protobuf."


def _message(name: str, *fields: tuple[str, int, int, str, bool]) -> descriptor_pb2.DescriptorProto:
    """A message of fields: (name, number, type, type name, repeated)."""
    proto = descriptor_pb2.DescriptorProto(name=name)
    for field, number, kind, type_name, repeated in fields:
        label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        proto.field.add(name=field, number=number, type=kind, type_name=type_name or None, label=label)
    return proto


def _wrapper(name: str, number: int, kind: str) -> tuple[str, int, int, str, bool]:
    return name, number, _MESSAGE, f"{_WRAPPED}{kind}Value", False


def _plain(name: str, number: int, kind: int, repeated: bool = False) -> tuple[str, int, int, str, bool]:
    return name, number, kind, "", repeated


_serving = descriptor_pb2.FileDescriptorProto(
    name="tfrec_fusion/serving_config.proto",
    package="tensorflow.serving",
    syntax="proto3",
    dependency=["google/protobuf/wrappers.proto"],
    message_type=[
        _message(
            "BatchingParameters",
            _wrapper("max_batch_size", 1, "Int64"),
            _wrapper("batch_timeout_micros", 2, "Int64"),
            _wrapper("max_enqueued_batches", 3, "Int64"),
            _wrapper("num_batch_threads", 4, "Int64"),
            _wrapper("thread_pool_name", 5, "String"),
            _plain("allowed_batch_sizes", 6, _INT64, True),
            _plain("pad_variable_length_inputs", 7, _BOOL),
            _wrapper("enable_large_batch_splitting", 8, "Bool"),
            _wrapper("max_execution_batch_size", 9, "Int64"),
        ),
        _message("PrometheusConfig", _plain("enable", 1, _BOOL), _plain("path", 2, _STRING)),
        _message(
            "MonitoringConfig",
            ("prometheus_config", 1, _MESSAGE, ".tensorflow.serving.PrometheusConfig", False),
        ),
        _message(
            "SSLConfig",
            _plain("server_key", 1, _STRING),
            _plain("server_cert", 2, _STRING),
            _plain("custom_ca", 3, _STRING),
            _plain("client_verify", 4, _BOOL),
        ),
    ],
)

_pool = descriptor_pool.DescriptorPool()
_wrappers = descriptor_pb2.FileDescriptorProto()
wrappers_pb2.DESCRIPTOR.CopyToProto(_wrappers)
for _file in (_wrappers, _serving):
    _pool.Add(_file)


def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(name))


BatchingParameters = _class("tensorflow.serving.BatchingParameters")
MonitoringConfig = _class("tensorflow.serving.MonitoringConfig")
SSLConfig = _class("tensorflow.serving.SSLConfig")
