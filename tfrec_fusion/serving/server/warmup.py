"""Runs the requests that a model carries for warm-up, before it serves.

A model's `assets.extra/tf_serving_warmup_requests` is a TFRecord of PredictionLog messages. The first
requests of a graph are slow (it is optimised, kernels are chosen); these take that cost instead of a user.
"""

from __future__ import annotations

import os

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfrec_fusion.serving.protocol.status import StatusError, invalid_argument
from tfrec_fusion.serving.server import proto_inference
from tfrec_fusion.serving.server.session import LoadedModel

WARMUP_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")
MAX_RECORDS = 1000


def warm_up(model: LoadedModel, iterations: int = 1) -> int:
    """Replays a model's warm-up requests.

    Args:
        model: a loaded model.
        iterations: how often each request is run.

    Returns:
        How many records there were; 0 where the model carries none.

    Raises:
        StatusError: the file is damaged or too long, or a request fails: the model must not serve then. One
            that only takes longer than the model's time limit has not failed.
    """
    path = os.path.join(model.path, WARMUP_FILE)
    if not tf.io.gfile.exists(path):
        return 0
    count = 0
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise invalid_argument(
                    f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {path}"
                )
            log = prediction_log_pb2.PredictionLog()
            try:
                log.ParseFromString(record)
            except Exception:
                raise invalid_argument(f"Failed to parse warmup record: {count - 1} from {path}") from None
            for _ in range(iterations):
                try:
                    _replay(model, log)
                except StatusError as error:
                    # The limit is meant for clients. On a busy machine the first answer takes longer, and
                    # warms all the same.
                    if error.code != "DEADLINE_EXCEEDED":
                        raise
    except tf.errors.DataLossError as error:
        raise StatusError(
            "DATA_LOSS", f"{error.message}. Please verify your warmup data is in TFRecord format."
        ) from None
    return count


def _replay(model: LoadedModel, log: prediction_log_pb2.PredictionLog) -> None:
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        proto_inference.predict(model, log.predict_log.request)
    elif kind == "classify_log":
        proto_inference.classify(model, log.classify_log.request)
    elif kind == "regress_log":
        proto_inference.regress(model, log.regress_log.request)
    elif kind == "multi_inference_log":
        proto_inference.multi_inference(model, log.multi_inference_log.request)
    elif kind == "session_run_log":
        number = prediction_log_pb2.PredictionLog.SESSION_RUN_LOG_FIELD_NUMBER
        raise StatusError("UNIMPLEMENTED", f"Unsupported log_type for warmup: {number}")
