"""The clients against the embedded server: the same answers over every transport, sync and async."""

import asyncio
import functools
import pickle
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.serving.blocking import Blocking
from tfrec_fusion.naming import context_input
from tfrec_fusion.serving import (
    AsyncClient,
    Client,
    GrpcTransport,
    InProcessTransport,
    Recommended,
    RestTransport,
    Transport,
    VertexTransport,
)
from tfrec_fusion.serving.client import errors
from tfrec_fusion.serving.client.addresses import open_transport
from tfrec_fusion.serving.client.columns import columns
from tfrec_fusion.serving.client.signatures import SignatureSpec, TensorSpec, read_metadata

ENDPOINT = "projects/p/locations/r/endpoints/7"


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


@pytest.fixture(scope="module")
def in_process(models):
    return InProcessTransport(models / "recommender" / "1")


@pytest.fixture(params=["http", "grpc"])
def url(request, server):
    """A server's address for each of its interfaces."""
    return f"{request.param}://127.0.0.1:{server.grpc_port if request.param == 'grpc' else server.rest_port}"


@pytest.fixture(params=["rest", "grpc", "vertex", "in process"])
def transport(request, server, vertex, in_process):
    """Every way to the recommender."""
    return {
        "rest": lambda: RestTransport(f"http://127.0.0.1:{server.rest_port}", "recommender"),
        "grpc": lambda: GrpcTransport(f"127.0.0.1:{server.grpc_port}", "recommender"),
        "vertex": lambda: VertexTransport(ENDPOINT, url=vertex, token=lambda: "secret"),
        "in process": lambda: in_process,
    }[request.param]()


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
def make(request, transport, in_process):
    """Makes clients over one transport; all are closed afterwards."""
    opened = []

    def build(**options):
        if isinstance(transport, VertexTransport):
            options = {"signatures": Client(in_process).metadata(), **options}
        client = Client(transport, **options)
        if request.param is AsyncClient:
            client = Blocking(AsyncClient(transport, **options))
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
    with pytest.raises(errors.RequestError, match="output `item_ids`. Received: 'embed_text'"):
        client.recommend(text="a", signature_name="embed_text")
    with pytest.raises(errors.RequestError, match="must be a list of ids. Received: 'abc'"):
        client.rank("u", "abc")
    for rows, message in (([], "at least one row"), ([{"text": "a"}, {"x": "b"}, "c"], "the same inputs")):
        with pytest.raises(errors.RequestError, match=message):
            client.predict(instances=rows, signature_name="embed_text")


def test_errors_carry_the_servers_message(make):
    client = make()
    with pytest.raises(errors.InvalidRequest) as caught:
        client.recommend("u", k=4)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert "input must have at least k columns" in caught.value.message


def test_lookup_status_and_versions(url):
    client = functools.partial(Client.connect, url)
    with pytest.raises(errors.NotFound) as caught:
        client("nope").predict([1.0])
    assert caught.value.code == "NOT_FOUND"
    assert [(entry["version"], entry["state"]) for entry in client("half").status()] == [
        ("2", "AVAILABLE"),
        ("1", "AVAILABLE"),
    ]
    assert client("half", version=1).predict([0]) == [2.0]
    assert client("half", label="canary").predict([0]) == [3.0]
    assert "serving_default" in read_metadata(client("half").metadata())
    with pytest.raises(errors.RequestError, match="not both"):
        client("half", version=1, label="x")


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1:8501", RestTransport),
        ("https://models:8501/prefix", RestTransport),
        ("grpc://127.0.0.1:8500", GrpcTransport),
        ("grpcs://models", GrpcTransport),
        ("grpc://unix:/tmp/socket", GrpcTransport),
    ],
)
def test_an_address_names_its_transport(address, kind):
    assert type(open_transport(address, "m")) is kind


@pytest.mark.parametrize(
    "address", ["ftp://x", "http://", "http://x:port", "projects/p/endpoints/7", "projects/"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(errors.RequestError, match="Received: "):
        Client.connect(address)


def test_an_address_is_no_transport():
    with pytest.raises(errors.RequestError, match="`connect` takes an address"):
        Client("http://127.0.0.1:8501")


def test_a_model_in_this_process_tells_its_version(in_process, tmp_path):
    (version,) = Client(in_process).status()
    assert (version["version"], version["state"]) == ("1", "AVAILABLE")
    with pytest.raises(errors.NotFound, match="Could not find SavedModel"):
        InProcessTransport(tmp_path)


def test_bytes_go_as_base64_over_rest(server):
    client = Client.connect(f"http://127.0.0.1:{server.rest_port}", "zoo")
    assert client.predict([b"\xff\x00"], signature_name="bytes") == [{"b64": "/wA="}]
    assert client.predict(["\udcff"], signature_name="same_string") == ["\udcff"]
    with pytest.raises(errors.RequestError, match="JSON cannot hold"):
        client.predict([object()], signature_name="same_float")


def test_numpy_is_converted_wherever_it_stands(url):
    import numpy as np

    with Client.connect(url, "zoo") as client:
        assert client.predict(np.ones((1, 2), np.float32), signature_name="same_float") == [[1.0, 1.0]]
        rows = [{"a": np.float64(1), "b": np.int64(2)}, {"a": np.array(3.0), "b": 4}]
        assert client.predict(instances=rows, signature_name="add") == [3.0, 7.0]
        assert client.predict({"x": np.array(["a", "é"])}, signature_name="same_string") == ["a", "é"]


def test_vertex_says_what_it_needs(vertex):
    with pytest.raises(errors.RequestError, match="projects/PROJECT/locations/REGION/endpoints/ID"):
        VertexTransport("7", token=lambda: "x")
    client = Client.connect(ENDPOINT, url=vertex, token=lambda: "wrong")
    with pytest.raises(errors.RequestError, match="does not pass on a model's metadata"):
        client.recommend("u")
    with pytest.raises(errors.AccessDenied) as caught:
        client.predict(["a"])
    assert (caught.value.code, caught.value.message) == ("UNAUTHENTICATED", "who are you?")


def test_rest_needs_neither_tensorflow_nor_numpy():
    code = (
        "import sys; from tfrec_fusion.serving import Client; Client.connect('http://127.0.0.1:1', 'm'); "
        "heavy = {'tensorflow', 'numpy', 'grpc', 'orjson', 'uvloop', 'httptools'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_errors_are_pickled_whole():
    error = pickle.loads(pickle.dumps(errors.NotFound("NOT_FOUND", "no such model", 404)))
    assert (type(error), error.code, error.message, error.http_status) == (
        errors.NotFound,
        "NOT_FOUND",
        "no such model",
        404,
    )


def test_connections_are_reused_and_survive_the_servers_closing_them(server):
    client = Client.connect(f"http://127.0.0.1:{server.rest_port}", "half")
    idle = client.transport._connections._idle
    client.predict([1.0])
    (first,) = idle
    client.predict([1.0])
    assert idle == [first]
    first.sock.shutdown(socket.SHUT_RDWR)  # what an idle time-out looks like from here
    assert client.predict([1.0]) == [3.5]
    client.close()


class Recorder(Transport):
    """Answers from a function, and remembers what was asked: a transport of one's own."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def send(self, ask, seconds):
        self.asked.append(ask)
        return self.answer(ask)

    async def send_async(self, ask, seconds):
        return self.send(ask, seconds)


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
    recorder = Recorder(lambda ask: [["a", "b"]] * len(ask.inputs["history"]))
    client = Client(recorder, signatures={"recommend": spec}, batch_size=2)
    rows = client.recommend(history=[["x"], ["y", "z"], []], num_probes=8, k=1)
    assert rows == [[Recommended("a", 0.0)]] * 3
    first, second = (ask.inputs for ask in recorder.asked)
    assert first == {"history": [["x", ""], ["y", "z"]], "num_probes": [8], "diversity": 0.0, "k": [1]}
    assert second == {"history": [[]], "num_probes": [8], "diversity": 0.0, "k": [1]}
    client.recommend(history=["x"])
    assert recorder.asked[-1].inputs["num_probes"] == [0]
    with pytest.raises(ValueError, match="Give at least one of history, num_probes"):
        client.recommend()


def test_a_signature_without_k_is_cut_off_here():
    spec = SignatureSpec({"user_id": TensorSpec("DT_STRING", 1)}, {"item_ids": TensorSpec("DT_STRING", 2)})
    recorder = Recorder(lambda ask: {"item_ids": [["a", "b", "c"]]})
    client = Client(recorder, signatures={"recommend": spec})
    assert [item.item_id for item in client.recommend("u", k=2)] == ["a", "b"]
    assert recorder.asked[0].inputs == {"user_id": ["u"]}


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
        "user_id": [""],
        "history": [[]],
        "k": [10],
        "diversity": 0.0,
        "flags": [False],
    }


def test_an_async_client_may_be_made_anywhere_and_used_in_one_loop_after_another(url):
    client = AsyncClient.connect(url, "half")

    async def ask(close=False):
        answer = await client.predict([1.0])
        if close:
            await client.close()
        return answer

    assert asyncio.run(ask()) == [3.5]
    assert asyncio.run(ask(close=True)) == [3.5]
    assert asyncio.run(ask()) == [3.5]


@pytest.mark.parametrize(
    ("kind", "value"), [("uint64", -1), ("uint64", 2**64), ("int64", 2**63), ("int32", 1.5)]
)
def test_no_number_wraps_around(url, kind, value):
    with Client.connect(url, "zoo") as client, pytest.raises(errors.InvalidRequest):
        client.predict({"x": [[value]]}, signature_name=f"same_{kind}")


def test_what_makes_no_tensor_is_refused_alike(url):
    with Client.connect(url, "half") as client:
        for value in (["a"], [[1.0], [2.0, 3.0]]):
            with pytest.raises(errors.InvalidRequest):
                client.predict({"x": value})
        with pytest.raises(errors.ServingError, match="nope"):
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
    recorder = Recorder(lambda ask: {"item_ids": [["a"]]})
    client = Client(recorder, signatures={"recommend": spec})
    client.recommend("u", device="phone", context_text="x", **{"Device Type": "web"})
    assert recorder.asked[-1].inputs == {
        "user_id": ["u"],
        "text": [""],
        "k": 10,
        "context_device": ["phone"],
        context_input("Device Type"): ["web"],
        "context_text": ["x"],
    }
    with pytest.raises(
        ValueError, match="must be given once. Received: 'user_id', 'device', 'context_device'"
    ):
        client.recommend("u", device="phone", context_device="web")
    with pytest.raises(ValueError, match="no input 'Devise Type'"):
        client.recommend("u", **{"Devise Type": "phone"})
