"""Warm-up: requests that come with a model are run before it serves."""

import pytest

from tests.serving import saved_models
from tests.serving.conftest import Caller
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server.embedded import EmbeddedServer


def write_warmup(path, requests):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    (path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            writer.write(log.SerializeToString())


def predict_request(values):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(values))
    return request


def test_warm_up_runs_before_the_model_serves(tmp_path, monkeypatch):
    from tfrec_fusion.serving.server import warmup
    from tfrec_fusion.serving.server.session import LoadedModel

    saved_models.write_half_plus(tmp_path / "m" / "1")
    write_warmup(tmp_path / "m" / "1", [predict_request([1.0])] * 3)
    model = LoadedModel(str(tmp_path / "m" / "1"), "m", 1)
    runs = []
    inner = model.run
    model.run = lambda *arguments: runs.append(arguments) or inner(*arguments)
    assert warmup.warm_up(model) == 3
    assert len(runs) == 3
    assert warmup.warm_up(model, iterations=2) == 3
    assert len(runs) == 9
    monkeypatch.setattr(warmup, "MAX_RECORDS", 2)
    with pytest.raises(StatusError, match=r"Number of warmup records exceeds the maximum \(2\)"):
        warmup.warm_up(model)


def test_a_warm_up_that_fails_keeps_the_model_from_serving(tmp_path):
    saved_models.write_half_plus(tmp_path / "m" / "1")
    write_warmup(tmp_path / "m" / "1", [predict_request(["no number"])])
    server = EmbeddedServer({"m": tmp_path / "m"}).start()
    with pytest.raises(StatusError, match=r"did not become available.*Expects arg\[0\] to be float"):
        server.wait_ready(timeout=20)
    server.stop()
    with EmbeddedServer({"m": tmp_path / "m"}, warmup_iterations=0) as server:
        assert Caller(server.rest_port)("/v1/models/m:predict", {"instances": [0]}).status == 200


def test_records_of_other_kinds_and_other_files(tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    from tfrec_fusion.serving.server.session import LoadedModel
    from tfrec_fusion.serving.server.warmup import warm_up

    saved_models.write_half_plus(tmp_path / "m" / "1")
    write_warmup(tmp_path / "m" / "1", [])
    path = tmp_path / "m" / "1" / "assets.extra" / "tf_serving_warmup_requests"
    model = LoadedModel(str(tmp_path / "m" / "1"), "m", 1)
    logs = [prediction_log_pb2.PredictionLog() for _ in range(3)]
    logs[1].predict_streamed_log.SetInParent()  # passed over, as is an empty one
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs[:2]:
            writer.write(log.SerializeToString())
    assert warm_up(model) == 2
    logs[2].session_run_log.SetInParent()
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(logs[2].SerializeToString())
    with pytest.raises(StatusError, match="UNIMPLEMENTED: Unsupported log_type for warmup: 5"):
        warm_up(model)
    path.write_bytes(b"this is no TFRecord")
    with pytest.raises(StatusError, match="DATA_LOSS: .*verify your warmup data is in TFRecord format"):
        warm_up(model)


def test_a_warm_up_that_takes_long_keeps_no_model_from_serving(tmp_path):
    import tensorflow as tf

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder(tf.float32, [None], "x")
        loop = tf1.while_loop(lambda i, y: i < tf.cast(x[0], tf.int32), lambda i, y: (i + 1, y + 1.0), (0, x))
        (tmp_path / "m").mkdir()
        signature = saved_models._predict({"x": x}, {"y": loop[1]})
        saved_models._save(tmp_path / "m" / "1", session, {"serving_default": signature})
    write_warmup(tmp_path / "m" / "1", [predict_request([1e9])])
    with EmbeddedServer({"m": tmp_path / "m"}, rest_timeout_ms=300) as server:
        reply = Caller(server.rest_port)("/v1/models/m:predict", {"instances": [2.0]})
        assert reply.json == {"predictions": [4.0]}
