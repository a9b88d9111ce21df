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


def test_examples_have_limits_of_their_own():
    """servables/tensorflow/util.cc: Exponential(1, 2, 15)."""
    metrics = Metrics()
    metrics.examples("m", 3)
    metrics.examples("m", 20_000)
    lines = [line for line in metrics.page().splitlines() if "request_example_count" in line]
    assert lines[:2] == [
        "# TYPE :tensorflow:serving:request_example_count_total counter",
        ':tensorflow:serving:request_example_count_total{model="m"} 20003',
    ]
    name = ":tensorflow:serving:request_example_counts"
    assert lines[2:6] == [
        f"# TYPE {name} histogram",
        f'{name}_bucket{{model="m",le="1"}} 0',
        f'{name}_bucket{{model="m",le="2"}} 0',
        f'{name}_bucket{{model="m",le="4"}} 1',
    ]
    assert lines[-4:] == [
        f'{name}_bucket{{model="m",le="16384"}} 1',
        f'{name}_bucket{{model="m",le="+Inf"}} 2',
        f'{name}_sum{{model="m"}} 20003',
        f'{name}_count{{model="m"}} 2',
    ]


def test_names_that_are_not_served_are_kept_within_bounds():
    metrics = Metrics()
    for number in range(1000):
        metrics.request(f"m{number}", "", "REST", "NOT_FOUND", 1.0, known=False)
    metrics.request("m" * 1000, "", "REST", "NOT_FOUND", 1.0, known=False)
    metrics.request("served", "", "REST", "NOT_FOUND", 1.0)
    assert metrics.page().count("NOT_FOUND") == 101
