"""Benchmark of requests to pushed models: the part of `benchmarks.serving` that takes `--models FOLDER`.

FOLDER is what a run pushed to (`runs/NAME/serving`): base paths of `retrieval`, `ranking` and, where it is
there, `recommender`. One client, one request at a time, over a loopback connection; the server runs in a
process of its own.
"""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from tfrec_fusion.serving.child_process import python_module
from tfrec_fusion.serving.client.calls import Ask
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.columns import columns
from tfrec_fusion.serving.client.rest_transport import predict_body
from tfrec_fusion.serving.client.signatures import read_metadata

CANDIDATES = 500


@contextlib.contextmanager
def serving(folder: pathlib.Path, port: int) -> Iterator[str]:
    """A server of every model in a folder, until the block ends; gives its URL."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    config = "".join(
        f'config {{ name: "{name}" base_path: "{(folder / name).resolve()}" model_platform: "tensorflow" }} '
        for name in names
    )
    file = pathlib.Path(f"/tmp/models-{port}.config")
    file.write_text(f"model_config_list {{ {config} }}", encoding="utf-8")
    command = [*python_module("tfrec_fusion.serving.server"), f"--model_config_file={file}", "--port=0"]
    process = subprocess.Popen(
        [*command, f"--rest_api_port={port}"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300
        while True:
            try:
                with Client.connect(url, names[0], timeout=5) as client:
                    client.status()
                break
            except Exception:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"The server did not start: {' '.join(command)}") from None
                time.sleep(0.5)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)
        file.unlink()


def questions(url: str, folder: pathlib.Path, user: str) -> dict[str, tuple[str, bytes]]:
    """What is asked: name → (model, body)."""
    signatures = {}
    for name in (entry.name for entry in folder.iterdir() if entry.is_dir()):
        with Client.connect(url, name) as client:
            signatures[name] = read_metadata(client.metadata())
    with Client.connect(url, "retrieval") as client:
        result = client.recommend(user_id=user, k=CANDIDATES, include_seen=True)
    ids, texts = [item.item_id for item in result], [item.title for item in result]

    def body(model: str, signature: str, **given: Any) -> tuple[str, bytes]:
        return model, predict_body(Ask("predict", signature, columns(signatures[model][signature], given)))

    text = ["a space adventure with robots"]
    asked = {
        "recommend, a user": body("retrieval", "recommend", user_id=[user], k=10),
        "recommend, a user, diversity": body("retrieval", "recommend", user_id=[user], k=10, diversity=0.3),
        "recommend, free text (BERT)": body("retrieval", "recommend", text=text, k=10),
        f"rank {len(ids)} known candidates": body("ranking", "rank", user_id=[user], item_ids=[ids]),
        f"rank {len(ids)} by BERT on each": body(
            "ranking", "rank", user_id=[user], item_ids=[ids], texts=[texts]
        ),
    }
    if "explain" in signatures["retrieval"]:
        ten = {"user_id": [user], "item_ids": [ids[:10]]}
        asked |= {
            "explain 10 items, a user": body("retrieval", "explain", **ten),
            "explain 10 items, free text (BERT)": body("retrieval", "explain", text=text, **ten),
            "similar to an item": body("retrieval", "similar", item_id=ids[:1]),
            "similar, by behaviour": body("retrieval", "similar", item_id=ids[:1], text_weight=0.0),
        }
    if "recommender" in signatures:
        asked |= {
            "retrieve, rank, titles: a user": body("recommender", "recommend", user_id=[user], k=10),
            "and diversity": body("recommender", "recommend", user_id=[user], k=10, diversity=0.3),
            "retrieve, rank: free text (BERT)": body("recommender", "recommend", text=text, k=10),
        }
    return asked


def measure_models(
    folder: pathlib.Path, port: int, user: str, seconds: float, load: Callable[[str, bytes, float], dict]
) -> dict[str, dict[str, float]]:
    """Latencies of each question.

    Args:
        folder: base paths of the models.
        port: a free one.
        user: a known user's id.
        seconds: length of each load.
        load: (URL, body, seconds) → the load generator's figures.
    """
    results = {}
    with serving(folder, port) as url:
        for name, (model, body) in questions(url, folder, user).items():
            target = f"{url}/v1/models/{model}:predict"
            load(target, body, 1.0)
            results[name] = load(target, body, seconds)
    return results
