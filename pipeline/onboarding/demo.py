"""The end of `tfrec demo`: a server of the pushed models, asked a few questions, to go on playing with."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time
from typing import Any

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.config.terminal import safe
from pipeline.data.pushed_versions import latest_version
from pipeline.onboarding.page import serve_page
from tfrec_fusion.config import ConfigError
from tfrec_fusion.serving.child_process import python_module
from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.errors import ServingError

KINDS = ("retrieval", "ranking", "recommender")


def serve_and_ask(config: PipelineConfig, port: int, serve: list[str], page_port: int | None) -> int:
    """Serves what was pushed and asks the demo's questions; leaves the server running, and a page
    beside it, unless `DEMO_KEEP` is 0.

    Args:
        config: of the run that pushed.
        port: where the server answers.
        serve: what is typed after `tfrec` to start it.
        page_port: of the page; None for the configuration's.

    Returns:
        The exit code.

    Raises:
        ConfigError: if the server ends, or is not ready in two minutes, or the page's port is taken.
    """
    server = subprocess.Popen([*python_module("pipeline.cli"), *serve])
    try:
        url = f"http://127.0.0.1:{port}"
        kinds = [kind for kind in KINDS if latest_version(config.push_folder / kind) is not None]
        for kind in kinds:
            _wait_for(server, url, kind)
        _ask(config, url, kinds)
        if os.environ.get("DEMO_KEEP", "1") == "0":
            return 0
        print(f"\nThe server answers at {url} until you press Ctrl-C. In another terminal, for example:")
        print(
            f'  {pathlib.Path(sys.executable).parent}/tfrec recommend --text "a film about chess" --url {url}'
        )
        with serve_page(url, kinds, page_port, config):
            return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        if server.poll() is None:
            server.terminate()
            server.wait(30)


def _wait_for(server: subprocess.Popen, url: str, kind: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    with Client.connect(url, kind, timeout=2) as client:
        while True:
            if server.poll() is not None:
                raise ConfigError(
                    f"The server ended with code {server.returncode}. Is its port taken? Try --rest_api_port."
                )
            try:
                if any(version["state"] == "AVAILABLE" for version in client.status()):
                    return
            except ServingError:
                pass
            if time.monotonic() > end:
                raise ConfigError(f"The server at {url} did not become ready in {seconds:.0f} s.")
            time.sleep(0.2)


def _ask(config: PipelineConfig, url: str, kinds: list[str]) -> None:
    """The demo's questions to what was pushed, with the time that each answer took."""
    with (
        Client.connect(url, "retrieval") as retrieval,
        Client.connect(url, "ranking") as ranking,
        Client.connect(url, "recommender") as recommender,
    ):
        questions: list[tuple[str, Client, dict[str, Any]]] = []
        if "retrieval" in kinds:
            questions = [("for user 42", retrieval, {"user_id": "42"})]
            questions += [(f'for "{text}"', retrieval, {"text": text}) for text in config.serving.queries]
            questions += [
                (f'for user 42 and "{text}"', retrieval, {"user_id": "42", "text": text})
                for text in config.serving.queries[:1]
            ]
        if "recommender" in kinds:
            whole = "for user 42, ranked and re-ranked for diversity in the same request"
            questions.append((whole, recommender, {"user_id": "42", "diversity": 0.3}))
        for words, client, question in questions:
            client.recommend(**question, k=5)
            times = []
            for _ in range(25):
                start = time.perf_counter()
                answer = client.recommend(**question, k=5)
                times.append(1000 * (time.perf_counter() - start))
            print(
                f"\nrecommend {words} ({sorted(times)[len(times) // 2]:.1f} ms at the median of 25 requests)"
            )
            for item in answer:
                print(f"  {item.score:>8.3f}  {safe(item.title)}")
        if "ranking" not in kinds:
            return
        new = "Chess Masters. A young champion meets the machine that cannot lose. Drama"
        scores = ranking.rank(user_id="42", item_ids=[""], texts=[new])
        print(f'\nrank for user 42 an item that was never in the catalogue, "{new}":')
        print(
            "  " + ", ".join(f"{head} {values[0]:.3f}" for head, values in scores.items() if head != "titles")
        )
