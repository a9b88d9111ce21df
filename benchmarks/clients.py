"""Measures the clients' HTTP and retries: `python -m benchmarks.clients [--seconds S] [--rounds N]`.

A small model (`y = x / 2 + 2`), three rows a request, over loopback. One embedded server in a process of its
own; the clients take turns in this one, a short round each, so that what else the machine does falls on all
of them alike:

- `Client` and `AsyncClient` over `RestTransport`, as they are;
- the same over httpx in place of `tfrec_fusion.serving.client.http_connections`;
- the same with tenacity around every try, the first one too.

Each with one request at a time and with eight (threads, or tasks of one loop).
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import tenacity

from benchmarks.serving import Small, embedded, free_port, running, tf
from tfrec_fusion.serving.client.calls import Ask
from tfrec_fusion.serving.client.client import AsyncClient, Client
from tfrec_fusion.serving.client.rest_transport import RestTransport, read_json

INPUTS = {"x": [1.0, 2.0, 5.0]}
ANSWER = [2.5, 3.0, 4.5]


class HttpxTransport(RestTransport):
    """`RestTransport` over httpx's connection pools."""

    def __init__(self, url: str, model_name: str):
        super().__init__(url, model_name)
        self._sync = httpx.Client(base_url=url, headers={"Content-Type": "application/json"})
        self._async = httpx.AsyncClient(base_url=url, headers={"Content-Type": "application/json"})

    def send(self, ask: Ask, seconds: float) -> Any:
        request = self.request(ask)
        answer = self._sync.request(request.method, request.path, content=request.body, timeout=seconds)
        return self.read(ask, read_json(answer.status_code, answer.content))

    async def send_async(self, ask: Ask, seconds: float) -> Any:
        request = self.request(ask)
        answer = await self._async.request(
            request.method, request.path, content=request.body, timeout=seconds
        )
        return self.read(ask, read_json(answer.status_code, answer.content))


class TenacityClient(Client):
    """`Client` with tenacity around every try."""

    def _send(self, ask: Ask) -> Any:
        retrying = tenacity.Retrying(**self.retry._settings(time.monotonic() + self.timeout))
        return retrying(self.transport.send, ask, self.timeout)


class TenacityAsyncClient(AsyncClient):
    """`AsyncClient` with tenacity around every try."""

    async def _send(self, ask: Ask) -> Any:
        retrying = tenacity.AsyncRetrying(**self.retry._settings(time.monotonic() + self.timeout))
        return await retrying(self.transport.send_async, ask, self.timeout)


@dataclasses.dataclass
class Measured:
    """Latencies of one client over all rounds, with the time and the processor time that they took."""

    latencies: list[float] = dataclasses.field(default_factory=list)
    wall: float = 0.0
    cpu: float = 0.0

    def row(self) -> dict[str, float]:
        p50, p99 = np.percentile(self.latencies, (50, 99)) * 1e3
        count = len(self.latencies)
        return {
            "requests_per_second": round(count / self.wall),
            "p50_ms": round(float(p50), 3),
            "p99_ms": round(float(p99), 3),
            "client_cpu_us": round(self.cpu / count * 1e6),
        }


def blocking_round(client: Client, at_a_time: int, seconds: float, measured: Measured) -> None:
    """Requests from threads, each sending its next one when the last is answered."""

    def ask() -> None:
        while (start := time.perf_counter()) < end:
            assert client.predict(INPUTS) == ANSWER
            measured.latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=ask) for _ in range(at_a_time)]
    start, cpu = time.perf_counter(), time.process_time()
    end = start + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    measured.wall += time.perf_counter() - start
    measured.cpu += time.process_time() - cpu


async def async_round(client: AsyncClient, at_a_time: int, seconds: float, measured: Measured) -> None:
    """The same from tasks of one loop."""

    async def ask() -> None:
        while (start := time.perf_counter()) < end:
            assert await client.predict(INPUTS) == ANSWER
            measured.latencies.append(time.perf_counter() - start)

    start, cpu = time.perf_counter(), time.process_time()
    end = start + seconds
    await asyncio.gather(*(ask() for _ in range(at_a_time)))
    measured.wall += time.perf_counter() - start
    measured.cpu += time.process_time() - cpu


def measure(url: str, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Figures of every client, from rounds taken in turn."""
    transports: dict[str, Callable[[], RestTransport]] = {
        "as it is": lambda: RestTransport(url, "small"),
        "over httpx": lambda: HttpxTransport(url, "small"),
        "tenacity throughout": lambda: RestTransport(url, "small"),
    }
    results: dict[str, Measured] = {}
    loop = asyncio.new_event_loop()
    clients = {
        name: (
            (TenacityClient if "tenacity" in name else Client)(make()),
            (TenacityAsyncClient if "tenacity" in name else AsyncClient)(make()),
        )
        for name, make in transports.items()
    }
    for turn in range(rounds + 1):
        for at_a_time in (1, 8):
            for name, (client, async_client) in clients.items():
                sync, asynchronous = (
                    results.setdefault(f"{kind}, {at_a_time} at a time, {name}", Measured())
                    for kind in ("Client", "AsyncClient")
                )
                blocking_round(client, at_a_time, seconds, sync)
                loop.run_until_complete(async_round(async_client, at_a_time, seconds, asynchronous))
        if turn == 0:  # opens connections and warms up
            results.clear()
    return {name: measured.row() for name, measured in sorted(results.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a round")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--json", help="file for the results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder) / "small"
        small = Small(2.0)
        tf.saved_model.save(small, os.fspath(base / "1"), signatures=small.__call__)
        port = free_port()
        with running(embedded(base, port), port):
            results = measure(f"http://127.0.0.1:{port}", arguments.rounds, arguments.seconds)
    versions = {name: importlib.metadata.version(name) for name in ("httpx", "tenacity", "tensorflow")}
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.date.today().isoformat(),
        "versions": versions,
    }
    print(f"{about['machine']}, {about['date']}, " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    columns = list(next(iter(results.values())))
    print("| client | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    for name, row in results.items():
        print(f"| {name} | " + " | ".join(str(row[column]) for column in columns) + " |")
    if arguments.json:
        pathlib.Path(arguments.json).write_text(
            json.dumps({**about, "results": results}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
