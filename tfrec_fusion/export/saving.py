"""Writes what is served: a SavedModel, whole or not at all, with the requests that warm it up."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tfrec_fusion.export.compacting import compact
from tfrec_fusion.export.request import EVALUATE, INPUTS, default_of
from tfrec_fusion.files import whole_folder

__all__ = ["save", "write_warmup"]

COLD = (EVALUATE, "explain")
"""Signatures that are not warmed up. The first `explain` takes TensorFlow several times as long as any other
(5 s of a processor for a small model), and every load of every version would wait for it."""


def save(serving: tf.Module, folder: str) -> None:
    """Writes a SavedModel of a module's `signatures()`; the folder appears only when it is whole.

    Raises:
        OSError, tf.errors.OpError: where it cannot be written; nothing is left behind.
        ValueError: if variables are on parameter servers.
    """
    for variable in serving.variables:
        if "/job:ps" in variable.device:
            raise ValueError(
                "What is served must not be on parameter servers, split variables of which a SavedModel"
                f" leaves empty (TensorFlow 2.21). Received: {variable.name} on {variable.device}. Write a"
                " `tf.train.Checkpoint`, build the model again without a strategy and read the checkpoint"
                " into it."
            )
    with whole_folder(folder, replace=True) as staging:
        signatures = serving.signatures()
        tf.saved_model.save(serving, str(staging), signatures=signatures)
        _write_defaults(serving, staging / "saved_model.pb")
        compact(staging)
        write_warmup(signatures, staging)


def _write_defaults(serving: tf.Module, path: pathlib.Path) -> None:
    """Writes into the signatures what stands for an input that a request leaves out
    (`SignatureDef.defaults`), where that is not the default of the contract. TF Serving fills it in over
    gRPC, and metadata tell it to clients."""
    decides = getattr(serving, "default_of", None)
    changed = {name: decides(name) for name in INPUTS if decides is not None}
    changed = {name: value for name, value in changed.items() if value != INPUTS[name].default}
    if not changed:
        return
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in saved.meta_graphs:
        for definition in graph.signature_def.values():
            for name in changed.keys() & definition.inputs.keys():
                dtype = INPUTS[name].dtype
                definition.defaults[name].CopyFrom(tf.make_tensor_proto(changed[name], tf.as_dtype(dtype)))
    path.write_bytes(saved.SerializeToString(deterministic=True))


def write_warmup(
    signatures: Mapping[str, tf.types.experimental.ConcreteFunction], folder: pathlib.Path
) -> None:
    """Writes the requests that a server asks itself before a version answers others: the first run of a graph
    takes seconds, in which nobody should wait. One request per signature, of one row, text included; none
    for `COLD`.

    Without the package tensorflow-serving-api nothing is written, and the first request pays.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        return
    target = folder / "assets.extra" / "tf_serving_warmup_requests"
    target.parent.mkdir()
    with tf.io.TFRecordWriter(str(target)) as writer:
        for name, function in signatures.items():
            if name in COLD:
                continue
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = name
            for tensor in tf.nest.flatten(function.structured_input_signature):
                request.inputs[tensor.name].CopyFrom(tf.make_tensor_proto(_sample(tensor)))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def _sample(tensor: tf.TensorSpec) -> np.ndarray:
    """One row of an input: a word where text goes, else its default."""
    shape = [1 if size is None else size for size in tensor.shape]
    value = "warm" if tensor.name in ("text", "texts") else default_of(tensor.name, tensor.dtype.name)
    return np.full(shape, value, object if tensor.dtype == tf.string else tensor.dtype.as_numpy_dtype)
