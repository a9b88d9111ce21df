"""Batching: what shares a run, what is refused, how sizes are padded. A stand-in graph records its runs."""

import threading
import time

import numpy as np
import pytest

from tests.serving.conftest import Caller
from tfrec_fusion.serving.protocol import serving_protos
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.server.batching import BatchingOptions, BatchingRunner, BatchScheduler
from tfrec_fusion.serving.server.session import Signature

SIGNATURE = Signature("s", "", {"x": "float"}, ("x:0",), {"y": "y:0"}, ("y",), ("y:0",))


class Graph:
    """Adds one; remembers the arrays it saw; holds a run back while its gate is closed."""

    def __init__(self, answer=lambda x: x + 1):
        self.seen = []
        self.gate = threading.Event()
        self.gate.set()
        self.answer = answer

    def __call__(self, feeds, arrays, fetches, inline=False, timeout_ms=None):
        self.gate.wait(10)
        self.seen.append([np.array(array) for array in arrays])
        return [self.answer(arrays[0]) for _ in fetches]


@pytest.fixture
def batched():
    """Makes (graph, runner) pairs; their threads end afterwards."""
    schedulers = []

    def make(answer=lambda x: x + 1, signature=SIGNATURE, **options):
        options = {"num_batch_threads": 1, **options}
        scheduler = BatchScheduler(BatchingOptions(**options))
        schedulers.append(scheduler)
        graph = Graph(answer)
        return graph, BatchingRunner(graph, [signature], scheduler)

    yield make
    for scheduler in schedulers:
        scheduler.stop()


def run(runner, values):
    return runner(("x:0",), [np.asarray(values, np.float32)], ("y:0",))[0].tolist()


def run_together(graph, runner, requests):
    """Sends requests while the graph is held, so that they meet in the queue; returns answers in order."""
    graph.gate.clear()
    answers = [None] * (len(requests) + 1)

    def work(position, values):
        try:
            answers[position] = run(runner, values)
        except StatusError as error:
            answers[position] = str(error)

    threads = [threading.Thread(target=work, args=(0, [0.0]))]  # occupies the only thread
    threads += [threading.Thread(target=work, args=item) for item in enumerate(requests, 1)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    graph.gate.set()
    for thread in threads:
        thread.join()
    return answers[1:]


def test_requests_share_a_run_and_get_their_own_rows(batched):
    graph, runner = batched()
    assert run_together(graph, runner, [[1, 2], [3], [4, 5]]) == [[2.0, 3.0], [4.0], [5.0, 6.0]]
    assert [arrays[0].tolist() for arrays in graph.seen] == [[0.0], [1, 2, 3, 4, 5]]


def test_a_batch_is_never_larger_than_the_limit(batched):
    graph, runner = batched(max_batch_size=4)
    assert run_together(graph, runner, [[1, 2, 3], [4, 5, 6]]) == [[2, 3, 4], [5, 6, 7]]
    assert [len(arrays[0]) for arrays in graph.seen] == [1, 3, 3]


def test_a_batch_is_padded_up_with_the_first_row_of_its_last_request(batched):
    graph, runner = batched(max_batch_size=8, allowed_batch_sizes=(1, 8))
    assert run_together(graph, runner, [[1, 2], [3, 4, 5]]) == [[2, 3], [4, 5, 6]]
    assert graph.seen[1][0].tolist() == [1, 2, 3, 4, 5, 3, 3, 3]


def test_sizes_are_padded_up(batched):
    graph, runner = batched(max_batch_size=4, allowed_batch_sizes=(2, 4))
    assert run(runner, [7.0]) == [8.0]
    assert run(runner, [1.0, 2.0, 3.0]) == [2.0, 3.0, 4.0]
    assert [arrays[0].tolist() for arrays in graph.seen] == [[7, 7], [1, 2, 3, 1]]


@pytest.mark.parametrize("splitting", [False, True])
def test_an_oversize_request_is_refused(batched, splitting):
    _, runner = batched(max_batch_size=4, enable_large_batch_splitting=splitting)
    with pytest.raises(StatusError) as caught:
        run(runner, [0.0] * 5)
    assert caught.value.http_status == 400
    assert caught.value.message == "Task size 5 is larger than maximum input batch size 4"


def test_a_request_is_split_into_runs_of_the_size_for_execution(batched):
    splitting = {"enable_large_batch_splitting": True, "max_execution_batch_size": 4}
    graph, runner = batched(max_batch_size=10, **splitting)
    assert run(runner, range(10)) == list(range(1, 11))
    assert sorted(len(arrays[0]) for arrays in graph.seen) == [2, 4, 4]
    graph, runner = batched(max_batch_size=10, max_enqueued_batches=2, **splitting)
    assert run_together(graph, runner, [range(10), range(8)]) == [
        (
            "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; task size is"
            " 10 but scheduling capacity is only 8 (num_enqueued_batches=0, max_enqueued_batches=2,"
            " open_batch_size=0, max_execution_batch_size=4)"
        ),
        list(range(1, 9)),
    ]
    assert [len(arrays[0]) for arrays in graph.seen] == [1, 4, 4]  # nothing of the one that was refused


def test_a_full_queue_is_unavailable(batched):
    graph, runner = batched(max_batch_size=1, max_enqueued_batches=2)
    answers = run_together(graph, runner, [[1], [2], [3], [4]])
    assert answers[:2] == [[2.0], [3.0]]
    full = (
        "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; currently 2"
        " batches enqueued and max_enqueued_batches is 2"
    )
    assert answers[2:] == [full, full]


def test_a_batch_that_nobody_waits_for_is_not_run(batched):
    graph, runner = batched(max_batch_size=2)
    graph.gate.clear()
    answers = []

    def work(value, timeout_ms):
        try:
            answers.append(runner(("x:0",), [np.array([value])], ("y:0",), timeout_ms=timeout_ms)[0].tolist())
        except StatusError as error:
            answers.append(str(error))

    threads = [
        threading.Thread(target=work, args=arguments)
        for arguments in ((0, 0), (1, 50), (2, 50), (3, 50), (4, 0))
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    time.sleep(0.1)
    graph.gate.set()
    for thread in threads:
        thread.join()
    late = "RESOURCE_EXHAUSTED: Run() timeout exceeded while waiting in batching queue"
    # The third and the fourth share a batch whose longer limit counts; the first occupied the only thread.
    assert sorted(answers, key=str) == sorted([[1], late, late, [4], [5]], key=str)
    assert [arrays[0].tolist() for arrays in graph.seen] == [[0], [3, 4]]


def test_a_batch_waits_for_company_until_its_time_is_up(batched):
    graph, runner = batched(batch_timeout_micros=200_000, num_batch_threads=2)
    start = time.monotonic()
    threads = [threading.Thread(target=run, args=(runner, [float(number)])) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.15 < time.monotonic() - start < 2
    assert [len(arrays[0]) for arrays in graph.seen] == [3]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([], "Batching Run() must have at least one input tensor"),
        ([np.float32(1)], "Batching Run() input tensors must have at least one dimension"),
        ([np.ones(2), np.ones(3)], "Batching Run() input tensors must have equal 0th-dimension size"),
    ],
)
def test_inputs_that_cannot_be_batched(batched, arrays, message):
    feeds = tuple(f"{position}:0" for position in range(len(arrays)))
    signature = Signature("s", "", {}, feeds, {"y": "y:0"}, ("y",), ("y:0",))
    _, runner = batched(signature=signature)
    with pytest.raises(StatusError) as caught:
        runner(feeds, arrays, ("y:0",))
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: np.float32(1).reshape(()), "Batched output tensor has 0 dimensions"),
        (
            lambda x: x[:1],
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes",
        ),
    ],
)
def test_outputs_that_cannot_be_split(batched, answer, message):
    _, runner = batched(answer)
    with pytest.raises(StatusError) as caught:
        run(runner, [1.0, 2.0])
    assert caught.value.code == "FAILED_PRECONDITION"
    assert caught.value.message.startswith(message)


def test_odd_shapes_run_apart_or_are_padded(batched):
    graph, runner = batched()
    assert run_together(graph, runner, [[[1, 2]], [[3]]]) == [[[2, 3]], [[4]]]
    assert len(graph.seen) == 3
    graph, runner = batched(pad_variable_length_inputs=True)
    assert run_together(graph, runner, [[[1, 2]], [[3]], [[]]]) == [[[2, 3]], [[4, 4]], [[1, 1]]]
    assert len(graph.seen) == 2


def test_one_failing_batch_fails_its_own_requests_only(batched):
    def answer(x):
        if x[0] < 0:
            raise StatusError("INVALID_ARGUMENT", "negative")
        return x

    _, runner = batched(answer)
    with pytest.raises(StatusError, match="negative"):
        run(runner, [-1.0])
    assert run(runner, [1.0]) == [1.0]


def test_what_is_no_whole_signature_runs_directly(batched):
    _, runner = batched(max_batch_size=1)
    assert len(runner(("x:0",), [np.ones(5)], ("other:0",))[0]) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allowed_batch_sizes": (4, 2), "max_batch_size": 2}, "must be monotonically increasing"),
        (
            {"allowed_batch_sizes": (2,), "max_batch_size": 4},
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 2; expected 4",
        ),
        ({"max_batch_size": 0}, "max_batch_size must be positive"),
        ({"batch_timeout_micros": -1}, "batch_timeout_micros must be non-negative; was -1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(StatusError, match=message):
        BatchingOptions(**options)


def test_options_from_the_file():
    from google.protobuf import text_format

    proto = text_format.Parse(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 5 } num_batch_threads { value: 3 } "
        "allowed_batch_sizes: 4 allowed_batch_sizes: 8 pad_variable_length_inputs: true "
        "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 2 }",
        serving_protos.BatchingParameters(),
    )
    assert BatchingOptions.from_proto(proto) == BatchingOptions(8, 5, 10, 3, (4, 8), True, True, 2)
    defaults = BatchingOptions.from_proto(serving_protos.BatchingParameters())
    assert (defaults.max_batch_size, defaults.batch_timeout_micros) == (1000, 0)


def test_a_batching_server_answers_many_clients(models):
    from tfrec_fusion.serving.server.embedded import EmbeddedServer

    options = BatchingOptions(max_batch_size=4, batch_timeout_micros=1000, num_batch_threads=2)
    with EmbeddedServer({"half": models / "half"}, batching=options) as server:
        failures = []

        def work(number):
            call = Caller(server.rest_port)
            for step in range(20):
                value = number * 100 + step
                if call("/v1/models/half:predict", {"instances": [value]}).json != {
                    "predictions": [value / 2 + 3]
                }:
                    failures.append(value)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        reply = Caller(server.rest_port)("/v1/models/half:predict", {"instances": [0] * 5})
        assert (reply.status, reply.error) == (400, "Task size 5 is larger than maximum input batch size 4")
        reply = Caller(server.rest_port)("/v1/models/half:predict", {"inputs": 1})
        assert reply.error == "Batching Run() input tensors must have at least one dimension"


def test_models_with_parameters_of_their_own(tmp_path):
    from tests.serving import saved_models
    from tfrec_fusion.serving.server.embedded import EmbeddedServer

    for name in ("own", "none"):
        saved_models.write_half_plus(tmp_path / name / "1")
    (tmp_path / "own" / "1" / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    models = {name: tmp_path / name for name in ("own", "none")}
    options = BatchingOptions(max_batch_size=1)
    with EmbeddedServer(models, batching=options, per_model_batching=True) as server:
        call = Caller(server.rest_port)
        assert call("/v1/models/own:predict", {"instances": [0] * 2}).status == 200
        assert call("/v1/models/own:predict", {"instances": [0] * 3}).error.endswith(
            "maximum input batch size 2"
        )
        assert call("/v1/models/none:predict", {"instances": [0] * 3}).status == 200


def test_one_long_row_does_not_make_all_others_as_long():
    from tfrec_fusion.serving.server.batching import _Batch, _pads_little, _Task

    batch = _Batch(None, None, 0.0)
    batch.tasks.append(_Task([np.zeros((100, 3)), np.zeros(100)], 100, 0.0))
    batch.size = 100
    assert _pads_little(batch, _Task([np.zeros((1, 40_000)), np.zeros(1)], 1, 0.0))
    assert not _pads_little(batch, _Task([np.zeros((1, 50_000)), np.zeros(1)], 1, 0.0))
