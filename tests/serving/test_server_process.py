"""The server as users run it: flags, exit codes, hot swap under load, kill -9."""

import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.serving import saved_models
from tests.serving.conftest import Caller
from tests.serving.server_processes import free_ports, wait_for
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.protocol.status import StatusError
from tfrec_fusion.serving.protocol.version import EMULATED, IMAGE
from tfrec_fusion.serving.server.config_file import ModelConfig, VersionPolicy, read_config_file
from tfrec_fusion.serving.server.embedded import EmbeddedServer, TlsConfig, main
from tfrec_fusion.serving.server.flags import Flags, parse_flags


def test_flags_of_tf_serving_are_taken():
    flags = parse_flags(
        [
            "--model_name=m",
            "--model_base_path=/m",
            "--rest_api_port=8501",
            "--enable_batching",
            "--enable_model_warmup=false",
            "--rest_api_timeout_in_ms=5",
            "--tensorflow_session_parallelism=4",
            "--flush_filesystem_caches",
            "--file_system_poll_wait_seconds=0",
            "--skip_initialize_tpu",
            "--xla_gpu_compilation_enabled=false",
            "--use_alts_credentials=false",
            "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,a=b",
            "--enable_per_model_batching_parameters",
        ]
    )
    assert (flags.port, flags.rest_api_port, flags.model_name) == (8500, 8501, "m")
    assert flags.enable_batching
    assert not flags.enable_model_warmup
    assert flags.file_system_poll_wait_seconds == 0
    assert (flags.host, flags.rest_api_timeout_in_ms, flags.max_num_load_retries) == ("127.0.0.1", 5, 5)
    assert not flags.retries_given
    assert flags.channel_arguments() == (("grpc.max_connection_age_ms", 2000), ("a", "b"))
    assert flags.enable_per_model_batching_parameters
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
        [
            "--model_base_path=/m",
            "--enable_batching=true",
            f"--batching_parameters_file={batching}",
            f"--monitoring_config_file={monitoring}",
            f"--ssl_config_file={tls}",
        ]
    )
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
        (
            ["--model_base_path=/m", "--request_log_file=/x", "--request_log_sampling_rate=2"],
            "between 0 and 1",
        ),
        (["--model_base_path=/m", "--grpc_channel_arguments=x"], "--grpc_channel_arguments takes KEY=VALUE"),
        (["--model_config_file=/nowhere/at/all"], "NOT_FOUND: /nowhere/at/all; No such file"),
        (["--model_base_path=/m", "--batching_parameters_file=/x"], "without setting"),
        (
            ["--model_base_path=./m", "--model_name=movies"],
            "Expected model movies to have an absolute path or URI; got base_path()=./m",
        ),
    ],
)
def test_flags_that_cannot_be_served(arguments, message, capsys):
    assert main(arguments) == 255
    out = capsys.readouterr().out
    assert out.startswith("Failed to start server. Error: ")
    assert message in out


def test_flags_without_effect_are_named(caplog):
    parse_flags(["--model_base_path=/m", "--mixed_precision=x", "--enable_profiler"])
    assert "Flags that do nothing here: --enable_profiler, --mixed_precision" in caplog.text


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_flags(["--version"])
    assert ended.value.code == 0
    message = capsys.readouterr().out
    assert re.match(rf"TensorFlow ModelServer: {re.escape(EMULATED)} .*\nTensorFlow Library: 2\.\d+", message)
    assert f"tensorflow/serving:{EMULATED}" == IMAGE
    for page in ("explanation/serving.md", "howto/tf-serving-docker.md"):
        assert EMULATED in (pathlib.Path(__file__).parents[2] / "docs" / page).read_text()


def test_warm_up_runs_at_least_once_however_often_it_is_asked_for(tmp_path):
    from tfrec_fusion.serving.server.embedded import _server

    def iterations(*flags):
        server = _server(parse_flags(["--model_base_path=/m", *flags]))
        server.stop()
        return server._warmup_iterations

    assert iterations() == iterations("--num_request_iterations_for_warmup=0") == 1
    assert iterations("--num_request_iterations_for_warmup=3") == 3
    assert iterations("--enable_model_warmup=false") == 0


def test_a_unix_socket_serves_grpc(tmp_path, models):
    from tfrec_fusion.serving.server.grpc_service import GrpcOptions

    options = GrpcOptions(
        socket_path=str(tmp_path / "socket"), arguments=(("grpc.max_connection_age_ms", 2000),)
    )
    with (
        EmbeddedServer({"half": models / "half"}, None, None, grpc=options) as server,
        Client.connect(f"grpc://unix:{tmp_path / 'socket'}", "half") as client,
    ):
        assert server.grpc_port is None
        assert client.predict([0.0]) == [3.0]


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        (TlsConfig("KEY", "CERT"), "Failed to bind gRPC to .* or the key and certificates cannot be read"),
        (TlsConfig("KEY", "CERT", client_verify=True), "INVALID_ARGUMENT: client_verify needs custom_ca"),
    ],
)
def test_certificates_that_cannot_be_used_are_said_so(models, tls, message):
    server = EmbeddedServer({"half": models / "half"}, None, 0, tls=tls).start()
    with pytest.raises(StatusError, match=message):
        server.wait_ready(timeout=20)
    server.stop()
    server = EmbeddedServer(
        {"half": models / "half"}, 0, None, tls=TlsConfig("KEY", "CERT", rest=True)
    ).start()
    with pytest.raises(
        StatusError, match="INVALID_ARGUMENT: The key and certificates for REST cannot be read"
    ):
        server.wait_ready(timeout=20)
    server.stop()


def test_unknown_flags_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse_flags(["--model_base_path=/m", "--no_such_flag"])
    assert "--no_such_flag" in capsys.readouterr().err


def test_config_files(tmp_path):
    path = tmp_path / "models.config"
    path.write_text("""model_config_list {
          config { name: "a" base_path: "/a" model_platform: "tensorflow"
                   model_version_policy { specific { versions: 2 versions: 5 } }
                   version_labels { key: "stable" value: 2 } }
          config { name: "b" base_path: "/b" model_platform: "tensorflow" model_version_policy { all {} } }
          config { name: "c" base_path: "/c" model_platform: "tensorflow"
                   model_version_policy { latest { num_versions: 3 } } }
          config { name: "d" base_path: "/d" model_type: TENSORFLOW
                   model_version_policy { specific {} } }
          config { name: "e" base_path: "gs://bucket/e" model_type: TENSORFLOW }
        }""")
    assert read_config_file(str(path)) == [
        ModelConfig("a", "/a", VersionPolicy("specific", versions=(2, 5)), (("stable", 2),)),
        ModelConfig("b", "/b", VersionPolicy("all")),
        ModelConfig("c", "/c", VersionPolicy("latest", 3)),
        ModelConfig("d", "/d", VersionPolicy("specific")),
        ModelConfig("e", "gs://bucket/e"),
    ]


# server.cc ParseProtoTextFile; server_core.cc ValidateModelConfigList, GetPlatform, CreateStoragePathRoutes
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rubbish {", "Invalid protobuf file: '{path}'"),
        (
            'model_config_list { config { name: "a" base_path: "/a" } }',
            (
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor"
                " ModelServerConfig::model_platform."
            ),
        ),
        (
            'model_config_list { config { base_path: "/a" model_platform: "tensorflow" } }',
            "Model name must be non-empty",
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_platform: "other" } }',
            "Model a requests unsupported platform other",
        ),
        (
            (
                'model_config_list { config { name: "a" base_path: "/a" model_type: TENSORFLOW'
                ' model_platform: "tensorflow" } }'
            ),
            (
                "Illegal setting both ModelServerConfig::model_type (deprecated) and"
                " ModelServerConfig::model_platform."
            ),
        ),
        (
            'model_config_list { config { name: "a" base_path: "/a" model_type: OTHER } }',
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
        (
            'model_config_list { config { name: "a" base_path: "a" model_platform: "tensorflow" } }',
            "Expected model a to have an absolute path or URI; got base_path()=a",
        ),
        (
            'model_config_list { config { name: "a" } }',
            "Expected model a to have an absolute path or URI; got base_path()=",
        ),
        (
            (
                'model_config_list { config { name: "a" model_platform: "tensorflow" } '
                'config { name: "a" model_platform: "tensorflow" } }'
            ),
            "Illegal to list model a multiple times in config list",
        ),
        ("custom_model_config {}", "Missing custom_model_config_loader in ServerCore Options"),
    ],
)
def test_config_files_that_are_wrong(tmp_path, text, message):
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(StatusError) as caught:
        read_config_file(str(path))
    assert str(caught.value) == "INVALID_ARGUMENT: " + message.format(path=path)


def test_a_base_path_of_another_file_system(tmp_path):
    saved_models.write_half_plus(tmp_path / "m" / "1", plus=1.0)
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "file://{tmp_path}/m" model_platform:'
        ' "tensorflow" } }'
    )
    with (
        EmbeddedServer(read_config_file(f"file://{config}"), poll_seconds=0.05) as server,
        Client.connect(f"http://127.0.0.1:{server.rest_port}", "m") as client,
    ):
        assert client.predict([0.0]) == [1.0]
        saved_models.write_half_plus(tmp_path / "m" / "2", plus=2.0)
        deadline = time.monotonic() + 20
        while client.predict([0.0]) != [2.0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_corrupt_model_ends_the_process(tmp_path, capsys):
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "saved_model.pb").write_bytes(b"this is no model")
    rest, port = free_ports(2)
    arguments = [f"--model_base_path={tmp_path / 'm'}", "--model_name=m"]
    assert main([*arguments, f"--rest_api_port={rest}", f"--port={port}"]) == 255
    out = capsys.readouterr().out
    assert "1 servable(s) did not become available: {{{name: m version: 1} due to error: " in out


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
    command = [
        sys.executable,
        "-m",
        "tfrec_fusion.serving.server",
        "--model_name=m",
        f"--model_base_path={base}",
        f"--rest_api_port={rest}",
        f"--port={port}",
        "--file_system_poll_wait_seconds=0.05",
    ]
    url = f"http://127.0.0.1:{rest}"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(url, "m", process)
        assert Client.connect(url, "m").predict([0.0]) == [1.0]
        # Killed in the middle of a swap: what is on disk is whole, so the next start serves the new version.
        saved_models.write_half_plus(base / "2", plus=2.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(url, "m", process)
        assert Client.connect(url, "m").predict([0.0]) == [2.0]
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
        [
            sys.executable,
            "-m",
            "tfrec_fusion.serving.server",
            f"--model_config_file={config}",
            "--model_config_file_poll_wait_seconds=1",
            f"--rest_api_port={rest}",
            f"--port={port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{rest}"
    try:
        wait_for(url, "a", process)
        config.write_text("rubbish")
        time.sleep(1.2)
        assert Client.connect(url, "a").predict([0.0]) == [1.0]
        labelled = entry.format("a", tmp_path, 'version_labels { key: "stable" value: 1 }')
        config.write_text(f"model_config_list {{ {labelled} {entry.format('b', tmp_path, '')} }}")
        wait_for(url, "b", process, seconds=20)
        assert Client.connect(url, "a", label="stable").predict([0.0]) == [1.0]
    finally:
        process.terminate()
        process.wait(timeout=20)
