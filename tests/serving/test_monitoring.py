"""The Prometheus page: TF Serving's names and format."""

from tfrec_fusion.serving.server.monitoring import Metrics


def test_counts_and_latencies():
    metrics = Metrics()
    metrics.request('a "b"\\', "Predict", "GRPC", "OK", 10.0)
    metrics.request('a "b"\\', "Predict", "GRPC", "OK", 1e6)
    metrics.request('a "b"\\', "Predict", "GRPC", "NOT_FOUND", 1.0)
    lines = metrics.page().splitlines()
    assert [line for line in lines if line.startswith(":tensorflow:serving:request_count")] == [
        ':tensorflow:serving:request_count{model_name="a \\"b\\"\\\\",status="NOT_FOUND"} 1',
        ':tensorflow:serving:request_count{model_name="a \\"b\\"\\\\",status="OK"} 2',
    ]
    labels = 'model_name="a \\"b\\"\\\\",API="Predict",entrypoint="GRPC"'
    latency = [line for line in lines if line.startswith(":tensorflow:serving:request_latency")]
    # 33 limits of 10 times powers of 1.8, and the rest; a value on a limit belongs to the next bucket.
    assert latency[:2] == [
        f':tensorflow:serving:request_latency_bucket{{{labels},le="10"}} 0',
        f':tensorflow:serving:request_latency_bucket{{{labels},le="18"}} 1',
    ]
    assert latency[33:] == [
        f':tensorflow:serving:request_latency_bucket{{{labels},le="+Inf"}} 2',
        f":tensorflow:serving:request_latency_sum{{{labels}}} 1.00001e+06",
        f":tensorflow:serving:request_latency_count{{{labels}}} 2",
    ]
