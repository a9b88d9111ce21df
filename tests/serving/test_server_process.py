"""The server as people run it: flags, exit codes, hot swap under load, kill -9, warm-up, launcher, request log."""

import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from tests.serving import saved_models
from tests.serving.conftest import Caller
from tfrec_fusion.serving.client import RestClient, ServingError
from tfrec_fusion.serving.config_file import ModelConfig, VersionPolicy, read_config_file
from tfrec_fusion.serving.flags import Flags, parse_flags
from tfrec_fusion.serving.launcher import find_engine, launch
from tfrec_fusion.serving.request_log import RequestLog, RequestLogConfig
from tfrec_fusion.serving.server import EmbeddedServer, main
from tfrec_fusion.serving.status import StatusError


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def wait_for(url, name, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            return RestClient(url, name, timeout=2).status()
        except ServingError:
            time.sleep(0.1)
    raise AssertionError("the server did not become ready")


def test_flags_of_tf_serving_are_taken():
    flags = parse_flags(
        ["--model_name=m", "--model_base_path=/m", "--rest_api_port=8501", "--enable_batching",
         "--enable_model_warmup=false", "--rest_api_timeout_in_ms=5", "--tensorflow_session_parallelism=4",
         "--flush_filesystem_caches", "--file_system_poll_wait_seconds=0"]
    )  # fmt: skip
    assert (flags.port, flags.rest_api_port, flags.model_name) == (8500, 8501, "m")
    assert flags.enable_batching
    assert not flags.enable_model_warmup
    assert flags.file_system_poll_wait_seconds == 0
    assert (flags.host, flags.rest_api_timeout_in_ms, flags.max_num_load_retries) == ("127.0.0.1", 5, 5)
    assert not flags.retries_given
    assert parse_flags(["--model_base_path=/m", "--max_num_load_retries=5"]).retries_given
    assert Flags().rest_api_port == 0


def test_the_environment_of_the_docker_image():
    flags = parse_flags([], {"MODEL_NAME": "movies"})
    assert (flags.model_name, flags.model_base_path) == ("movies", "/models/movies")
    flags = parse_flags([], {"MODEL_BASE_PATH": "/data"})
    assert (flags.model_name, flags.model_base_path) == ("model", "/data/model")
    flags = parse_flags(["--model_base_path=/m"], {"MODEL_NAME": "movies"})
    assert (flags.model_name, flags.model_base_path) == ("default", "/m")


def test_files_that_flags_name(tmp_path):
    batching, monitoring, tls = (tmp_path / name for name in ("batching", "monitoring", "tls"))
    batching.write_text("max_batch_size { value: 8 }\nallowed_batch_sizes: 8")
    monitoring.write_text('prometheus_config { enable: true, path: "/metrics" }')
    tls.write_text('server_key: "KEY" server_cert: "CERT" client_verify: true')
    flags = parse_flags(
        ["--model_base_path=/m", "--enable_batching=true", f"--batching_parameters_file={batching}",
         f"--monitoring_config_file={monitoring}", f"--ssl_config_file={tls}"]
    )  # fmt: skip
    assert (flags.batching().max_batch_size, flags.batching().allowed_batch_sizes) == (8, (8,))
    assert flags.metrics_path() == "/metrics"
    assert (flags.ssl_config().server_key, flags.ssl_config().client_verify) == ("KEY", True)
    monitoring.write_text("prometheus_config { enable: true }")
    assert flags.metrics_path() == "/monitoring/prometheus/metrics"
    monitoring.write_text("")
    assert flags.metrics_path() is None
    monitoring.write_text("nonsense: 1")
    with pytest.raises(StatusError, match="Invalid protobuf file"):
        flags.metrics_path()
    nothing = Flags(model_base_path="/m")
    assert (nothing.batching(), nothing.metrics_path(), nothing.ssl_config()) == (None, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (
            ["--model_base_path=/m", "--port=5", "--rest_api_port=5"],
            "--rest_api_port cannot be same as --port",
        ),
        (["--model_base_path=/m", "--rest_api_enable_ssl"], "--rest_api_enable_ssl needs certificates"),
        (["--model_config_file=/nowhere/at/all"], "NOT_FOUND: /nowhere/at/all; No such file"),
        (["--model_base_path=/m", "--batching_parameters_file=/x"], "without setting"),
    ],
)
def test_flags_that_cannot_be_served(arguments, message, capsys):
    assert main(arguments) == 255
    out = capsys.readouterr().out
    assert out.startswith("Failed to start server. Error: ")
    assert message in out


def test_unknown_flags_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse_flags(["--model_base_path=/m", "--no_such_flag"])
    assert "--no_such_flag" in capsys.readouterr().err


def test_config_files(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(
        """model_config_list {
          config { name: "a" base_path: "/a" model_platform: "tensorflow"
                   model_version_policy { specific { versions: 2 versions: 5 } }
                   version_labels { key: "stable" value: 2 } }
          config { name: "b" base_path: "/b" model_platform: "tensorflow" model_version_policy { all {} } }
          config { name: "c" base_path: "/c" model_platform: "tensorflow"
                   model_version_policy { latest { num_versions: 3 } } }
          config { name: "d" base_path: "/d" model_type: TENSORFLOW }
        }"""
    )
    assert read_config_file(str(path)) == [
        ModelConfig("a", "/a", VersionPolicy("specific", versions=(2, 5)), (("stable", 2),)),
        ModelConfig("b", "/b", VersionPolicy("all")),
        ModelConfig("c", "/c", VersionPolicy("latest", 3)),
        ModelConfig("d", "/d"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rubbish {", "Invalid protobuf file: "),
        ('model_config_list { config { name: "a" base_path: "/a" } }', "neither"),
        ('model_config_list { config { base_path: "/a" model_platform: "tensorflow" } }', "non-empty"),
        ('model_config_list { config { name: "a" model_platform: "other" } }', "unsupported platform other"),
        ('model_config_list { config { name: "a" model_platform: "tensorflow" } '
         'config { name: "a" model_platform: "tensorflow" } }', "multiple times"),
    ],
)  # fmt: skip
def test_config_files_that_are_wrong(tmp_path, text, message):
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(StatusError, match=message):
        read_config_file(str(path))


def test_a_corrupt_model_ends_the_process(tmp_path, capsys):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"this is no model")
    rest, port = free_ports(2)
    arguments = [f"--model_base_path={tmp_path / 'm'}", "--model_name=m"]
    assert main([*arguments, f"--rest_api_port={rest}", f"--port={port}"]) == 255
    out = capsys.readouterr().out
    assert "1 servable(s) did not become available: {{name: m version: 1} due to error: " in out


class Load:
    """Asks without a pause from threads; collects failures, wrong answers and the versions that answered."""

    def __init__(self, port, answers, threads=3):
        self.failures, self.seen = [], set()
        self._stop = threading.Event()
        self._answers = answers
        self._threads = [threading.Thread(target=self._work, args=(port,)) for _ in range(threads)]

    def _work(self, port):
        call = Caller(port)
        while not self._stop.is_set():
            try:
                reply = call("/v1/models/m:predict", b'{"instances": [0.0]}')
                answer = reply.json["predictions"][0]
                self.seen.add(answer)
                if reply.status != 200 or answer not in self._answers:
                    self.failures.append(reply)
            except Exception as error:
                self.failures.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_swaps_under_load_fail_no_request(tmp_path):
    base = tmp_path / "m"
    saved_models.write_half_plus(base / "1", plus=1.0)
    with EmbeddedServer({"m": base}, poll_seconds=0.05) as server:
        with Load(server.rest_port, {1.0, 2.0, 3.0, 4.0}) as load:
            for version in (2, 3, 4):
                saved_models.write_half_plus(base / str(version), plus=float(version))
                deadline = time.monotonic() + 20
                while server.manager.get("m").version != version:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            (base / "5").mkdir()
            (base / "5" / "saved_model.pb").write_bytes(b"corrupt")
            (base / "6" / "variables").mkdir(parents=True)  # a push that was killed half way
            time.sleep(1.0)
        assert load.failures == []
        assert {1.0, 4.0} <= load.seen
        states = [(status.version, status.state) for status in server.manager.status("m")]
        assert states == [(5, "LOADING"), (4, "AVAILABLE"), (3, "END"), (2, "END"), (1, "END")]


def test_a_copy_file_by_file_is_never_served_half(tmp_path):
    base = tmp_path / "m"
    saved_models.write_half_plus(base / "1", plus=1.0)
    saved_models.write_half_plus(tmp_path / "new" / "2", plus=2.0)
    with EmbeddedServer({"m": base}, poll_seconds=0.02) as server, Load(server.rest_port, {1.0, 2.0}) as load:
        target, source = base / "2", tmp_path / "new" / "2"
        (target / "variables").mkdir(parents=True)
        # The worst order: the model first, its variables slowly after it.
        shutil.copy(source / "saved_model.pb", target)
        for file in sorted((source / "variables").iterdir()):
            time.sleep(0.15)
            shutil.copy(file, target / "variables")
        deadline = time.monotonic() + 20
        while server.manager.get("m").version != 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert load.failures == []


@pytest.mark.slow
def test_memory_is_flat_over_many_swaps(tmp_path):
    import gc

    import psutil

    base = tmp_path / "m"
    for plus in (0, 1):
        saved_models.write_half_plus(tmp_path / "from" / str(plus), plus=float(plus))
    shutil.copytree(tmp_path / "from" / "0", base / "1")
    process = psutil.Process()
    sizes = []
    with EmbeddedServer({"m": base}, poll_seconds=0.02) as server:
        with Load(server.rest_port, {0.0, 1.0}, threads=1) as load:
            for version in range(2, 102):
                hidden = base / f".{version}"
                shutil.copytree(tmp_path / "from" / str(version % 2), hidden)
                hidden.rename(base / str(version))
                deadline = time.monotonic() + 20
                while server.manager.get("m").version != version:
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
                shutil.rmtree(base / str(version - 1))
                if version % 10 == 1:
                    gc.collect()
                    sizes.append(process.memory_info().rss)
        assert load.failures == []
    assert max(sizes[-3:]) - sizes[2] < 60e6, sizes


@pytest.mark.e2e
def test_the_process_survives_what_may_happen_to_it(tmp_path):
    base = tmp_path / "m"
    saved_models.write_half_plus(base / "1", plus=1.0)
    rest, port = free_ports(2)
    command = [sys.executable, "-m", "tfrec_fusion.serving.server", "--model_name=m", f"--model_base_path={base}",
               f"--rest_api_port={rest}", f"--port={port}", "--file_system_poll_wait_seconds=0.05"]  # fmt: skip
    url = f"http://127.0.0.1:{rest}"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(url, "m", process)
        assert RestClient(url, "m").predict([0.0]) == [1.0]
        # Killed in the middle of a swap: what is on disk is whole, so the next start serves the new version.
        saved_models.write_half_plus(base / "2", plus=2.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(url, "m", process)
        assert RestClient(url, "m").predict([0.0]) == [2.0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.e2e
def test_a_config_file_is_followed(tmp_path):
    for name in ("a", "b"):
        saved_models.write_half_plus(tmp_path / name / "1", plus=1.0)
    config = tmp_path / "models.config"
    entry = 'config {{ name: "{0}" base_path: "{1}/{0}" model_platform: "tensorflow" {2} }}'
    config.write_text("model_config_list { " + entry.format("a", tmp_path, "") + " }")
    rest, port = free_ports(2)
    process = subprocess.Popen(
        [sys.executable, "-m", "tfrec_fusion.serving.server", f"--model_config_file={config}",
         "--model_config_file_poll_wait_seconds=1", f"--rest_api_port={rest}", f"--port={port}"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{rest}"
    try:
        wait_for(url, "a", process)
        config.write_text("rubbish")
        time.sleep(1.2)
        assert RestClient(url, "a").predict([0.0]) == [1.0]
        labelled = entry.format("a", tmp_path, 'version_labels { key: "stable" value: 1 }')
        config.write_text(f"model_config_list {{ {labelled} {entry.format('b', tmp_path, '')} }}")
        wait_for(url, "b", process, seconds=20)
        assert RestClient(url, "a", label="stable").predict([0.0]) == [1.0]
    finally:
        process.terminate()
        process.wait(timeout=20)


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
    from tfrec_fusion.serving import warmup
    from tfrec_fusion.serving.session import LoadedModel

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


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Puts stand-ins on the PATH, which write their arguments to a file and then run the embedded server."""

    def put(name, script):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    monkeypatch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parents[2]))
    return put


RECORD = "import json, sys\nopen({path!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
SERVE = "from tfrec_fusion.serving.server import main\n"


@pytest.mark.e2e
def test_the_launcher_runs_tf_serving_where_it_is(models, tools, tmp_path):
    record = str(tmp_path / "record")
    tools("tensorflow_model_server", RECORD.format(path=record) + SERVE + "sys.exit(main())")
    rest, port = free_ports(2)
    lines = []
    with launch(
        {"half": models / "half"},
        rest_port=rest,
        grpc_port=port,
        flags=["--enable_model_warmup=true"],
        out=lines.append,
    ) as launched:
        assert launched.engine == "tensorflow_model_server"
        assert RestClient(launched.url, "half").predict([1.0]) == [3.5]
    arguments = json.loads(pathlib.Path(record).read_text())
    assert arguments[:2] == [f"--port={port}", f"--rest_api_port={rest}"]
    assert arguments[3] == "--enable_model_warmup=true"
    assert (
        lines[0] == f"Serving with tensorflow_model_server: REST at {launched.url}, gRPC at 127.0.0.1:{port}"
    )
    assert any("half version 2 from" in line for line in lines)
    assert launched.wait() in (0, -signal.SIGTERM)


@pytest.mark.e2e
def test_the_launcher_says_a_curl_line_that_works(models):
    rest, port = free_ports(2)
    lines = []
    models_ = {
        "recommender": models / "recommender",
        "half": models / "half",
        "estimator": models / "estimator",
    }
    with launch(models_, engine="embedded", rest_port=rest, grpc_port=port, out=lines.append):
        commands = [line.strip() for line in lines if "curl" in line]
        assert len(commands) == 3
        for command in commands:
            done = subprocess.run(["sh", "-c", f"{command} -s"], capture_output=True, text=True, timeout=20)
            assert done.returncode == 0
            assert "error" not in done.stdout.replace('"error_code"', "").replace('"error_message"', "")
        assert (
            '"item_ids"'
            in subprocess.run(["sh", "-c", f"{commands[0]} -s"], capture_output=True, text=True).stdout
        )


@pytest.mark.e2e
def test_a_launcher_that_is_terminated_takes_its_server_with_it(models):
    rest, port = free_ports(2)
    code = (
        "from tfrec_fusion.serving.launcher import launch\n"
        f"with launch({{'half': {str(models / 'half')!r}}}, engine='embedded', rest_port={rest}, grpc_port={port}) as l:\n"
        "    l.wait()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(f"http://127.0.0.1:{rest}", "half", process)
    time.sleep(0.5)
    process.terminate()
    assert process.wait(timeout=30) == 128 + signal.SIGTERM
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", rest), timeout=5)


def test_the_launcher_gives_docker_the_same_models(models, tools, tmp_path):
    record = str(tmp_path / "record")
    tools("docker", RECORD.format(path=record) + "sys.exit(3 if 'run' in sys.argv else 0)")
    assert find_engine() == "docker"
    with pytest.raises(RuntimeError, match="ended with code 3"):
        launch({"half": models / "half"}, rest_port=18601, grpc_port=18600, out=lambda line: None)
    run = next(
        call for call in map(json.loads, pathlib.Path(record).read_text().splitlines()) if call[0] == "run"
    )
    assert "--publish=127.0.0.1:18601:8501" in run
    assert "--publish=127.0.0.1:18600:8500" in run
    assert f"--volume={models / 'half'}:/models/half:ro" in run
    assert run[-2].startswith("tensorflow/serving:")
    assert run[-1] == "--model_config_file=/models/models.config"


def test_the_launcher_says_what_is_missing(tools, tmp_path):
    assert find_engine() == "embedded"
    for engine, message in (
        ("docker", "No Docker engine answers"),
        ("tensorflow_model_server", "no tensorflow_model_server on the PATH"),
        ("torch", "`engine` must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            find_engine(engine)
    with pytest.raises(ValueError, match="must be a folder of version folders"):
        launch({"m": str(tmp_path / "nowhere")})
    with pytest.raises(ValueError, match="at least one model"):
        launch({})


def test_requests_are_logged_without_names(models, tmp_path):
    path = tmp_path / "log" / "requests.jsonl"
    path.parent.mkdir()
    config = RequestLogConfig(str(path), sampling_rate=1.0, key=b"k", drop_fields=("text",))
    with EmbeddedServer({"recommender": models / "recommender"}, request_log=config) as server:
        client = RestClient(f"http://127.0.0.1:{server.rest_port}", "recommender")
        client.recommend("ann", text="my secret wish", k=2)
        client.recommend("ann", k=1)
        client.recommend("bob", k=1)
    first, second, third = map(json.loads, path.read_text().splitlines())
    assert "ann" not in path.read_text()
    assert "secret wish" not in path.read_text()
    assert first["inputs"]["user_id"] == second["inputs"]["user_id"] != third["inputs"]["user_id"]
    assert first["outputs"]["item_ids"] == [["a", "b"]]
    assert (first["model"], first["version"], first["signature"]) == ("recommender", 1, "recommend")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_logs_are_sampled_rotated_and_never_in_the_way(tmp_path):
    import numpy as np

    path = tmp_path / "log"
    log = RequestLog(RequestLogConfig(str(path), sampling_rate=0.25, max_bytes=2000, max_files=2))
    assert 300 < sum(log.wants() for _ in range(2000)) < 700
    for number in range(60):
        log.write("m", 1, "s", {"user_id": np.array([b"u"], object)}, {"y": np.full(3, number)})
    log.close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(file.stat().st_size <= 2000 for file in tmp_path.iterdir())
    assert json.loads(path.read_text().splitlines()[-1])["outputs"]["y"] == [59, 59, 59]
    log = RequestLog(RequestLogConfig(str(tmp_path / "no" / "such" / "folder"), sampling_rate=1.0))
    log.write("m", 1, "s", {}, {})
    log.close()
    assert log.dropped == 1
    with pytest.raises(ValueError, match="between 0 and 1"):
        RequestLogConfig("x", sampling_rate=2)
