"""`launch`: the real server where there is one, the embedded one elsewhere, with the same models."""

import json
import pathlib
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest

from tests.serving.server_processes import free_ports, wait_for
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.launcher import find_engine, launch


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
SERVE = "from tfrec_fusion.serving.server.embedded import main\n"


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
        assert Client.connect(launched.url, "half").predict([1.0]) == [3.5]
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
    with launch(
        models_, engine="embedded", rest_port=rest, grpc_port=port, versions=2, out=lines.append
    ) as one:
        for version, expected in ((1, 2.5), (2, 3.5)):  # beside each other
            with Client.connect(one.url, "half", version=version) as client:
                assert client.predict([1.0]) == [expected]
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
        f"from tfrec_fusion.serving.launcher import launch\nwith launch({{'half': {str(models / 'half')!r}}},"
        f" engine='embedded', rest_port={rest}, grpc_port={port}) as l:\n    l.wait()\n"
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
    with pytest.raises(ValueError, match="`versions` must be at least 1. Received: 0"):
        launch({"m": str(tmp_path)}, versions=0)
