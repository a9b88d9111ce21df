"""The clients against the embedded server: the same methods, over REST and gRPC, sync and async."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tfrec_fusion.naming import context_input
from tfrec_fusion.serving.client.calls import (
    ServingMethods,
    SignatureSpec,
    TensorSpec,
    columns,
    read_metadata,
)
from tfrec_fusion.serving.client.grpc_client import AsyncGrpcClient, GrpcClient
from tfrec_fusion.serving.client.rest_client import (
    AsyncRestClient,
    Recommended,
    RestClient,
    RetryPolicy,
    ServingError,
)
from tfrec_fusion.serving.client.vertex_client import AsyncVertexClient, VertexClient

ENDPOINT = "projects/p/locations/r/endpoints/7"


class Blocking:
    """An async client under the sync ones' clothes, so that one test serves both."""

    def __init__(self, make):
        self.loop = asyncio.new_event_loop()

        async def start():
            return make()

        self.client = self.loop.run_until_complete(start())

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(*arguments, **options):
            async def run():
                return await method(*arguments, **options)

            return self.loop.run_until_complete(run())

        return call

    def close(self):
        self.loop.run_until_complete(self.client.close())
        self.loop.close()


@pytest.fixture(scope="module")
def vertex(server):
    """Vertex AI's address in front of the embedded server: `rawPredict` hands bodies on as they are."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            import http.client

            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = 401, b'{"error": {"code": 401, "message": "who are you?"}}'
            if self.headers["Authorization"] == "Bearer secret" and self.path == f"/v1/{ENDPOINT}:rawPredict":
                inner = http.client.HTTPConnection("127.0.0.1", server.rest_port)
                inner.request("POST", "/v1/models/recommender:predict", body)
                response = inner.getresponse()
                status, answer = response.status, response.read()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments):
            pass

    stand_in = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=stand_in.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{stand_in.server_port}"
    stand_in.shutdown()
    stand_in.server_close()


KINDS = ["rest", "async rest", "grpc", "async grpc", "vertex", "async vertex"]


@pytest.fixture(params=KINDS)
def make(request, server, vertex):
    """Makes clients of one kind for the recommender; all are closed afterwards."""
    opened = []
    kind = request.param

    def build(model="recommender", **options):
        if "vertex" in kind:
            metadata = RestClient(f"http://127.0.0.1:{server.rest_port}", "recommender").metadata()
            options = {"url": vertex, "token": lambda: "secret", "signatures": metadata, **options}
            cls = AsyncVertexClient if "async" in kind else VertexClient
            arguments = (ENDPOINT,)
        elif "grpc" in kind:
            cls = AsyncGrpcClient if "async" in kind else GrpcClient
            arguments = (f"127.0.0.1:{server.grpc_port}", model)
        else:
            cls = AsyncRestClient if "async" in kind else RestClient
            arguments = (f"http://127.0.0.1:{server.rest_port}", model)
        client = (
            Blocking(lambda: cls(*arguments, **options)) if "async" in kind else cls(*arguments, **options)
        )
        opened.append(client)
        return client

    yield build
    for client in opened:
        client.close()


ALL = [Recommended("a", 3.0, "Alien"), Recommended("b", 2.0, "Brazil"), Recommended("c", 1.0, "Cube")]


def test_recommend(make):
    client = make()
    assert client.recommend("u", k=2) == ALL[:2]
    assert client.recommend("u", k=3, exclude=["a", "c"]) == [ALL[1]]
    assert client.recommend(text="films", history=["a", "b"], k=1) == [ALL[0]]
    assert client.recommend(["u", "v"], k=1) == [[ALL[0]], [ALL[0]]]
    assert client.recommend(["u", "v"], k=2, exclude=[["a"], ["a", "b"]]) == [ALL[1:], ALL[2:]]
    assert client.recommend(["u"], k=1, exclude=[[]]) == [[ALL[0]]]
    assert client.recommend(user_id="u", k=1, history=[]) == [ALL[0]]


def test_many_users_are_split_into_batches(make):
    client = make(batch_size=2)
    assert client.recommend(["u"] * 5, k=1) == [[ALL[0]]] * 5


def test_rank(make):
    client = make()
    assert client.rank("u", ["x", "yyy"]) == {"click": [1.0, 3.0], "rating": [1.0, 3.0]}
    assert client.rank("u", ["x", "yyy"], history=["p", "q"])["click"] == [3.0, 5.0]
    assert client.rank("u", ["x", "yyy"], signature_name="rank_rows") == {"rating": [1.0, 3.0]}
    candidates = ["x" * (1 + index % 3) for index in range(7)]
    expected = [float(len(candidate)) for candidate in candidates]
    assert make(batch_size=3).rank("u", candidates)["rating"] == expected


def test_embed(make):
    client = make()
    assert client.embed("four") == [4.0, 1.0]
    assert client.embed(["a", "bb"]) == [[1.0, 1.0], [2.0, 1.0]]
    assert client.embed({"text": ["a"]}) == [[1.0, 1.0]]


def test_predict(make):
    client = make()
    assert client.predict({"text": ["ab"]}, signature_name="embed_text") == [[2.0, 1.0]]
    assert client.predict(instances=["ab"], signature_name="embed_text") == [[2.0, 1.0]]
    with pytest.raises(ValueError, match="either `inputs`"):
        client.predict()


def test_mistakes_of_the_caller(make):
    client = make()
    with pytest.raises(ValueError, match="no input 'colour'"):
        client.recommend("u", colour="red")
    with pytest.raises(ValueError, match=r"no signature 'nope'\. Its signatures: embed_text, rank"):
        client.recommend("u", signature_name="nope")
    with pytest.raises(ValueError, match="same number of rows"):
        client.recommend(["u", "v"], text=["a", "b", "c"])
    with pytest.raises(ValueError, match="`user_id` takes 0 nested lists for one row"):
        client.recommend([["u"]])
    with pytest.raises(ValueError, match="Give the candidates"):
        client.rank("u")


def test_errors_carry_the_servers_message(make):
    client = make()
    with pytest.raises(ServingError) as caught:
        client.recommend("u", k=4)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "input must have at least k columns" in caught.value.message


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_lookup_status_and_versions(server, kind):
    def client(model, **options):
        if kind == "grpc":
            return GrpcClient(f"127.0.0.1:{server.grpc_port}", model, **options)
        return RestClient(f"http://127.0.0.1:{server.rest_port}", model, **options)

    with pytest.raises(ServingError) as caught:
        client("nope").predict([1.0])
    assert caught.value.code == "NOT_FOUND"
    assert [(entry["version"], entry["state"]) for entry in client("half").status()] == [
        ("2", "AVAILABLE"),
        ("1", "AVAILABLE"),
    ]
    assert client("half", version=1).predict([0]) == [2.0]
    assert client("half", label="canary").predict([0]) == [3.0]
    assert "serving_default" in read_metadata(client("half").metadata())
    with pytest.raises(ValueError, match="not both"):
        client("half", version=1, label="x")


def test_bytes_go_as_base64_over_rest(server):
    client = RestClient(f"http://127.0.0.1:{server.rest_port}", "zoo")
    assert client.predict([b"\xff\x00"], signature_name="bytes") == [{"b64": "/wA="}]
    assert client.predict(["\udcff"], signature_name="same_string") == ["\udcff"]
    import numpy as np

    assert client.predict(np.ones((1, 2), np.float32), signature_name="same_float") == [[1.0, 1.0]]
    with pytest.raises(TypeError, match="JSON cannot hold"):
        client.predict([object()], signature_name="same_float")


def test_vertex_says_what_it_needs(vertex):
    with pytest.raises(ValueError, match="projects/PROJECT/locations/REGION/endpoints/ID"):
        VertexClient("7", token=lambda: "x")
    with pytest.raises(ValueError, match="does not pass on a model's metadata"):
        VertexClient(ENDPOINT, url=vertex, token=lambda: "secret").recommend("u")
    with pytest.raises(ServingError) as caught:
        VertexClient(ENDPOINT, url=vertex, token=lambda: "wrong").predict(["a"])
    assert (caught.value.code, caught.value.message) == ("UNAUTHENTICATED", "who are you?")


def test_rest_needs_neither_tensorflow_nor_numpy():
    code = (
        "import sys; import tfrec_fusion.serving.client.rest_client as c; c.RestClient('http://127.0.0.1:1', 'm'); "
        "heavy = {'tensorflow', 'numpy', 'grpc', 'orjson', 'uvloop', 'httptools'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class Flaky:
    """A server that answers from a script: a status, or `None` to drop the connection."""

    def __init__(self, script):
        self.script = list(script)
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests += 1
                step = outer.script.pop(0) if outer.script else 200
                if step is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                if step == "slow":
                    import time

                    time.sleep(1.0)
                    step = 200
                body = json.dumps({"outputs": 1} if step == 200 else {"error": "busy"}).encode()
                self.send_response(step)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *arguments: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()


QUICK = RetryPolicy(retries=2, base_seconds=0.01)


@pytest.mark.parametrize("cls", [RestClient, AsyncRestClient])
@pytest.mark.parametrize(
    ("script", "outcome", "requests"),
    [
        ([503, 429, 200], 1, 3),
        ([None, 200], 1, 2),
        ([503] * 5, "UNAVAILABLE", 3),
        ([400], "INVALID_ARGUMENT", 1),
        ([500], "INTERNAL", 1),
        (["slow"], "DEADLINE_EXCEEDED", 1),
    ],
)
def test_only_what_is_safe_to_send_again_is(cls, script, outcome, requests):
    with Flaky(script) as flaky:
        options = {"retry": QUICK, "timeout": 0.5}
        client = (
            cls(flaky.url, "m", **options)
            if cls is RestClient
            else Blocking(lambda: cls(flaky.url, "m", **options))
        )
        if isinstance(outcome, str):
            with pytest.raises(ServingError) as caught:
                client.predict([1])
            assert caught.value.code == outcome
        else:
            assert client.predict([1]) == outcome
        assert flaky.requests == requests
        client.close()


def test_connections_are_reused_and_survive_the_servers_closing_them(server):
    client = RestClient(f"http://127.0.0.1:{server.rest_port}", "half")
    client.predict([1.0])
    (first,) = client._transport._idle
    client.predict([1.0])
    assert client._transport._idle == [first]
    first.sock.shutdown(socket.SHUT_RDWR)  # what an idle time-out looks like from here
    assert client.predict([1.0]) == [3.5]
    client.close()


def test_pauses_grow_and_stay_random():
    policy = RetryPolicy(base_seconds=1.0, max_seconds=3.0)
    pauses = [policy.pause(attempt) for attempt in (0, 1, 2, 9) for _ in range(50)]
    assert max(pauses[:50]) <= 1.0
    assert max(pauses) <= 3.0
    assert len(set(pauses)) > 100


class Recorder(ServingMethods):
    """Answers from a function, and remembers what was asked."""

    def __init__(self, signatures, answer, **options):
        super().__init__(signatures=signatures, **options)
        self.answer = answer
        self.asked = []

    def _run(self, call):
        try:
            ask = next(call)
            while True:
                self.asked.append(ask)
                ask = call.send(self.answer(ask))
        except StopIteration as end:
            return end.value


def test_settings_are_sent_once_and_rows_are_made_rectangular():
    spec = SignatureSpec(
        {
            "history": TensorSpec("DT_STRING", 2),
            "num_probes": TensorSpec("DT_INT32", 1, 1),
            "diversity": TensorSpec("DT_FLOAT", 0),
            "k": TensorSpec("DT_INT32", 1),
        },
        {"item_ids": TensorSpec("DT_STRING", 2)},
    )
    client = Recorder(
        {"recommend": spec}, lambda ask: [["a", "b"]] * len(ask.inputs["history"]), batch_size=2
    )
    rows = client.recommend(history=[["x"], ["y", "z"], []], num_probes=8, k=1)
    assert rows == [[Recommended("a", 0.0)]] * 3
    first, second = (ask.inputs for ask in client.asked)
    assert first == {"history": [["x", ""], ["y", "z"]], "num_probes": [8], "diversity": 0.0, "k": [1]}
    assert second == {"history": [[]], "num_probes": [8], "diversity": 0.0, "k": [1]}
    client.recommend(history=["x"])
    assert client.asked[-1].inputs["num_probes"] == [0]
    with pytest.raises(ValueError, match="Give at least one of history, num_probes"):
        client.recommend()


def test_a_signature_without_k_is_cut_off_here():
    spec = SignatureSpec({"user_id": TensorSpec("DT_STRING", 1)}, {"item_ids": TensorSpec("DT_STRING", 2)})
    client = Recorder({"recommend": spec}, lambda ask: {"item_ids": [["a", "b", "c"]]})
    assert [item.item_id for item in client.recommend("u", k=2)] == ["a", "b"]
    assert client.asked[0].inputs == {"user_id": ["u"]}


def test_a_row_in_which_nothing_is_given():
    spec = SignatureSpec(
        {
            "user_id": TensorSpec("DT_STRING", 1),
            "history": TensorSpec("DT_STRING", 2),
            "k": TensorSpec("DT_INT32", 1),
            "diversity": TensorSpec("DT_FLOAT", 0),
            "flags": TensorSpec("DT_BOOL", 1),
        },
        {},
    )
    assert columns(spec, {}) == {
        "user_id": [""], "history": [[]], "k": [10], "diversity": 0.0, "flags": [False],
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_an_async_client_may_be_made_anywhere_and_used_in_one_loop_after_another(server, kind):
    if kind == "rest":
        client = AsyncRestClient(f"http://127.0.0.1:{server.rest_port}", "half")
    else:
        client = AsyncGrpcClient(f"127.0.0.1:{server.grpc_port}", "half")

    async def ask(close=False):
        answer = await client.predict([1.0])
        if close:
            await client.close()
        return answer

    assert asyncio.run(ask()) == [3.5]
    assert asyncio.run(ask(close=True)) == [3.5]
    assert asyncio.run(ask()) == [3.5]


def test_what_makes_no_tensor_is_refused_over_grpc_as_over_rest(server):
    for client in (
        RestClient(f"http://127.0.0.1:{server.rest_port}", "half"),
        GrpcClient(f"127.0.0.1:{server.grpc_port}", "half"),
    ):
        with client:
            for value in (["a"], [[1.0], [2.0, 3.0]]):
                with pytest.raises(ServingError) as caught:
                    client.predict({"x": value})
                assert caught.value.code == "INVALID_ARGUMENT"
            with pytest.raises(ServingError, match="nope"):
                client.predict([1.0], signature_name="nope")


def test_context_is_given_by_the_columns_own_name():
    inputs = {
        "user_id": 1,
        "text": 1,
        "k": 0,
        "context_device": 1,
        context_input("Device Type"): 1,
        context_input("text"): 1,
    }
    spec = SignatureSpec(
        {name: TensorSpec("DT_INT32" if name == "k" else "DT_STRING", rank) for name, rank in inputs.items()},
        {"item_ids": TensorSpec("DT_STRING", 2)},
    )
    client = Recorder({"recommend": spec}, lambda ask: {"item_ids": [["a"]]})
    client.recommend("u", device="phone", context_text="x", **{"Device Type": "web"})
    assert client.asked[-1].inputs == {
        "user_id": ["u"], "text": [""], "k": 10, "context_device": ["phone"], context_input("Device Type"): ["web"],
        "context_text": ["x"],
    }  # fmt: skip
    with pytest.raises(
        ValueError, match="must be given once. Received: 'user_id', 'device', 'context_device'"
    ):
        client.recommend("u", device="phone", context_device="web")
    with pytest.raises(ValueError, match="no input 'Devise Type'"):
        client.recommend("u", **{"Devise Type": "phone"})
