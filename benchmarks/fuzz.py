"""Random input that must do no harm: `python -m benchmarks.fuzz [server|tables] [--seconds S] [--seed N]`.

`tables` (`benchmarks.fuzz_tables`) draws folders of tables for `tfrec init`, `tfrec validate` and
ExampleGen's reading, and holds what they read against what was written.

`server` throws damaged requests at a server over raw sockets. It starts a server process, and mutates good
requests: bytes flipped, cut, repeated, spliced; lengths that lie; chunks that break off; JSON whose values
are swapped for hostile ones; clients that vanish. Whatever comes, the server must answer with a status that
the API knows (never 500) and a body that can be read, or close the connection; must answer a good request
right afterwards; and must not grow. Beside these come small requests that ask for much, over REST and gRPC
(`benchmarks.fuzz_attacks`): they must be answered within the time limit and in little memory. Prints the
counts, and ends with 1 if any of that failed.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import gzip
import http.client
import io
import json
import pathlib
import random
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

HELD_MEGABYTES = 700.0
"""By which the server may be larger while hostile requests are in work: a document of a million values, and
its row."""
ALLOWED = {200, 400, 404, 408, 413, 415, 417, 429, 431, 499, 501, 503, 504}
HOSTILE = (
    b"null",
    b"true",
    b"-0",
    b"1e308",
    b"1e999",
    b"-1e-400",
    b"NaN",
    b"-Infinity",
    b"18446744073709551616",
    b"[]",
    b"{}",
    b"[[]]",
    b'""',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"\xff\xfe"',
    b'{"b64":"=="}',
    b'{"b64":"/w=="}',
    b'{"b64":5}',
    b"[" * 300,
    b"9" * 400,
    b'"' + b"x" * 5000 + b'"',
    b"[1,[2]]",
    b'{"x":1,"x":2}',
    b"-",
    b"0x10",
)
HEADERS = (
    b"Content-Encoding: gzip",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 99999999999999999999",
    b"Expect: 100-continue",
    b"Connection: close",
    b"Upgrade: h2c",
    b"Connection: Upgrade, HTTP2-Settings",
    b"Host: \x00",
    b"X: " + b"y" * 9000,
    b"Accept-Encoding: gzip",
    b": empty",
)


class Finding(Exception):
    """What must not happen."""


def request(path: str, body: bytes, method: str = "POST", extra: Sequence[bytes] = ()) -> bytes:
    """A request as bytes."""
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: x", b"Content-Length: %d" % len(body), *extra]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def corpus(model: str) -> list[bytes]:
    """Good requests to damage."""
    path = f"/v1/models/{model}:predict"
    body = b'{"signature_name": "serving_default", "instances": [1.0, 2.5, -3]}'
    chunked = b"POST %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode()
    return [
        request(path, body),
        request(path, b'{"inputs": {"x": [[1, 2], [3, 4]]}}'),
        request(path, gzip.compress(body), extra=[b"Content-Encoding: gzip"]),
        chunked + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body),
        request(f"/v1/models/{model}:classify", b'{"examples": [{"x": 1.5, "s": ["a", {"b64": "YQ=="}]}]}'),
        request(f"/v1/models/{model}", b"", "GET"),
        request(f"/v1/models/{model}/versions/1/metadata", b"", "GET"),
        request(path, b"", "OPTIONS", [b"Origin: http://a"]),
        request(path, body) * 3,
    ]


def damage(good: bytes, rng: random.Random) -> bytes:
    """One to four mutations of a request."""
    data = bytearray(good)
    for _ in range(rng.randint(1, 4)):
        where = rng.randrange(len(data) + 1) if data else 0
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[where - 1] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[where : where + rng.randint(1, 40)]
        elif kind == 2:
            data[where:where] = data[where : where + rng.randint(1, 60)] * rng.randint(1, 20)
        elif kind == 3:
            data[where:where] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 20)))
        elif kind in (4, 5):  # a hostile value in the body, with a length that fits
            head, _, body = bytes(data).partition(b"\r\n\r\n")
            spots = [position for position, byte in enumerate(body) if byte in b'0123456789[{"']
            if spots:
                spot = rng.choice(spots)
                body = body[:spot] + rng.choice(HOSTILE) + body[spot + rng.randint(0, 4) :]
                lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
                data = bytearray(
                    b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body
                )
        elif kind == 6:
            end = data.find(b"\r\n")
            data[end:end] = b"\r\n" + rng.choice(HEADERS)
        else:
            del data[where:]
    return bytes(data)


def send(port: int, data: bytes, rng: random.Random) -> list[int]:
    """Sends bytes and reads what comes back; returns the statuses.

    Raises:
        Finding: an answer that is none, or a status or body that must not be.
    """
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=5)) as opened:
        try:
            if rng.random() < 0.1:  # in two parts, or gone half way
                half = len(data) // 2
                opened.sendall(data[:half])
                if rng.random() < 0.5:
                    return []
                data = data[half:]
            opened.sendall(data)
            opened.shutdown(socket.SHUT_WR)
            reply = b""
            while part := opened.recv(65536):
                reply += part
        except TimeoutError:
            raise Finding("no answer and no end within 5 seconds") from None
        except OSError:  # closed by the server while we were sending
            return []
    return read(reply)


def read(reply: bytes) -> list[int]:
    """Statuses of the answers in a connection's bytes; raises `Finding`."""
    statuses = []
    while reply:
        head, _, rest = reply.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        words = lines[0].split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise Finding(f"no HTTP answer: {reply[:200]!r}")
        status = int(words[1])
        if status == 100:
            reply = rest
            continue
        headers = http.client.parse_headers(io.BytesIO(b"\r\n".join(lines[1:]) + b"\r\n\r\n"))
        length = int(headers["Content-Length"])
        body, reply = rest[:length], rest[length:]
        if status not in ALLOWED:
            raise Finding(f"status {status}: {body[:300]!r}")
        # HEAD names a length and sends no body: what follows is then the next answer, or nothing.
        if body.startswith(b"HTTP/1.") or (not body and length):
            reply = rest
        elif headers["Content-Type"] == "application/json" and len(body) == length > 0:
            try:
                json.loads(body)
            except ValueError:
                raise Finding(f"status {status} with a body that is no JSON: {body[:300]!r}") from None
        statuses.append(status)
    return statuses


def fuzz(port: int, model: str, seconds: float, seed: int = 0) -> collections.Counter:
    """Damaged requests one after the other, a good one after every fifty.

    Args:
        port: of a server on this machine.
        model: a model whose `serving_default` takes a float `x` `[any]`.
        seconds: how long.
        seed: of the mutations.

    Returns:
        How often each status came; `None` counts connections that ended without an answer.

    Raises:
        Finding: with the bytes that led to it.
    """
    rng, good = random.Random(seed), corpus(model)
    counts: collections.Counter = collections.Counter()
    deadline, number = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        data, number = damage(rng.choice(good), rng), number + 1
        try:
            counts.update(send(port, data, rng) or [None])
            if number % 50 == 0 and send(port, good[0], random.Random(1)) != [200]:
                raise Finding("a good request was not answered afterwards")
        except Finding as finding:
            raise Finding(f"{finding}\nrequest {number} of seed {seed}: {data!r}") from None
    return counts


def attack(
    port: int,
    grpc_port: int,
    model: str,
    seconds: float,
    seed: int,
    limit: float,
    resident: Callable[[], float],
) -> collections.Counter:
    """Hostile requests one after the other, a good one after every twenty.

    Args:
        port: REST's.
        grpc_port: gRPC's.
        model: a model whose `serving_default` takes a float `x` `[any]`.
        seconds: how long.
        seed: of the requests.
        limit: seconds within which each must be answered.
        resident: megabytes that the server holds.

    Returns:
        How often each status or code came.

    Raises:
        Finding: with the number of the request that led to it.
    """
    from benchmarks.fuzz_attacks import check_reply, grpc_attack, rest_attack

    rng = random.Random(seed)
    counts: collections.Counter = collections.Counter()
    deadline, number, before = time.monotonic() + seconds, 0, resident()
    while time.monotonic() < deadline:
        number += 1
        if rng.random() < 0.5:
            code, wrong = grpc_attack(grpc_port, model, rng, limit)
            counts[code] += 1
        else:
            data, start = rest_attack(model, rng), time.monotonic()
            reply = exchange(port, data, limit + 5)
            wrong = check_reply(reply, time.monotonic() - start, limit + 1)
            counts.update(read(reply) or [None])
        if not wrong and resident() - before > HELD_MEGABYTES:
            wrong = f"the server grew by {resident() - before:.0f} MB"
        if not wrong and number % 20 == 0:
            start = time.monotonic()
            if read(exchange(port, corpus(model)[0], 5)) != [200] or time.monotonic() - start > 2:
                wrong = "a good request was not answered afterwards"
        if wrong:
            raise Finding(f"{wrong}\nattack {number} of seed {seed}")
    return counts


def exchange(port: int, data: bytes, timeout: float) -> bytes:
    """Sends bytes and gives all that comes back until the server closes or the answer is whole."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), timeout=timeout)) as opened:
        reply = b""
        try:
            opened.sendall(data)
            opened.shutdown(socket.SHUT_WR)
            while part := opened.recv(1 << 20):
                reply += part
        except TimeoutError:
            raise Finding(f"no answer and no end within {timeout} seconds") from None
        except OSError:  # closed by the server while we were sending
            pass
        return reply


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["server", "tables"], default="server")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--growth", type=float, default=64.0, help="megabytes by which the server may grow")
    arguments = parser.parse_args()
    if arguments.what == "tables":
        from benchmarks import fuzz_tables

        return fuzz_tables.main(arguments.seconds, arguments.seed)

    import tensorflow as tf

    from benchmarks.serving import Small, embedded, free_port, running

    with tempfile.TemporaryDirectory() as folder:
        base = pathlib.Path(folder) / "small"
        small = Small(2.0)
        tf.saved_model.save(small, str(base / "1"), signatures=small.__call__)
        port, grpc_port = free_port(), free_port()
        command = [part for part in embedded(base, port) if not part.startswith("--port=")]
        command += [f"--port={grpc_port}", f"--reload_base_paths={folder}"]
        command += ["--rest_api_timeout_in_ms=3000", "--request_seconds=3"]
        with running(command, port) as (_, process):
            try:
                counts = fuzz(port, "small", arguments.seconds / 20, arguments.seed)
                attacks = (port, grpc_port, "small")

                def held() -> float:
                    return process.memory_info().rss / 2**20

                counts += attack(*attacks, arguments.seconds / 10, arguments.seed, 3.0, held)
                before, files = process.memory_info().rss, process.num_fds()
                counts += fuzz(port, "small", arguments.seconds * 0.45, arguments.seed + 1)
                counts += attack(*attacks, arguments.seconds * 0.4, arguments.seed + 1, 3.0, held)
            except Finding as finding:
                print(finding)
                return 1
            growth, more = (process.memory_info().rss - before) / 2**20, process.num_fds() - files
    print(
        f"{sum(counts.values()):,} answers in {arguments.seconds:.0f} s: "
        + ", ".join(f"{status or 'closed'} {count:,}" for status, count in sorted(counts.items(), key=str))
    )
    print(f"The server grew by {growth:.1f} MB and {more} open files.")
    return int(growth > arguments.growth or more > 16)


if __name__ == "__main__":
    sys.exit(main())
