"""A closed-loop HTTP load generator:
`python -m benchmarks.http_load URL BODY_FILE --connections N --seconds S`.

Each connection sends its next request when the last one's answer is complete. Prints JSON: requests,
failures, latencies in milliseconds (p50, p95, p99), requests a second. Runs in a process of its own, so that
what it costs is not the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from urllib.parse import urlsplit

import httptools


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, until: float, latencies: list[float], failures: list[int]):
        self.request = request
        self.until = until
        self.latencies = latencies
        self.failures = failures
        self.done = asyncio.get_running_loop().create_future()
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.start = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self.latencies.append(now - self.start)
        if self.parser.get_status_code() != 200:
            self.failures.append(self.parser.get_status_code())
        if now < self.until:
            self._send()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if time.perf_counter() < self.until:
            self.failures.append(0)
        if not self.done.done():
            self.done.set_result(None)


async def _run(url: str, body: bytes, connections: int, seconds: float) -> dict[str, float]:
    parts = urlsplit(url)
    request = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body
    latencies: list[float] = []
    failures: list[int] = []
    loop = asyncio.get_running_loop()
    begin = time.perf_counter()
    clients = [
        (await loop.create_connection(
            lambda: _Client(request, begin + seconds, latencies, failures), parts.hostname, parts.port
        ))[1]
        for _ in range(connections)
    ]  # fmt: skip
    await asyncio.wait_for(asyncio.gather(*(client.done for client in clients)), seconds + 30)
    elapsed = time.perf_counter() - begin
    latencies.sort()

    def percentile(share: float) -> float:
        return round(latencies[min(len(latencies) - 1, int(share * len(latencies)))] * 1e3, 4)

    return {
        "requests": len(latencies),
        "failures": len(failures),
        "p50_ms": percentile(0.5),
        "p95_ms": percentile(0.95),
        "p99_ms": percentile(0.99),
        "requests_per_second": round(len(latencies) / elapsed),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("body_file")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    with open(arguments.body_file, "rb") as file:
        body = file.read()
    try:
        import uvloop

        loop = uvloop.new_event_loop()
    except ImportError:
        loop = asyncio.new_event_loop()
    print(
        json.dumps(
            loop.run_until_complete(_run(arguments.url, body, arguments.connections, arguments.seconds))
        )
    )


if __name__ == "__main__":
    main()
