"""Answers of transformers' PyTorch classes, as small files that the tests compare with.

    make references && .venv-references/bin/python tools/encoder_references.py

Each file holds the configuration as this version of transformers writes it, the tensors' names and shapes
(their values follow from the names, `tests.layers.encoder_cases`), and the last hidden states of the real
tokens, float32.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from tests.layers.encoder_cases import CASES, FOLDER, tensor, tokens

WORDS = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tea"])}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, config in CASES.items():
        answer = reference(config)
        content = json.dumps(answer, separators=(",", ":"), sort_keys=True) + "\n"
        (FOLDER / f"{name}.json").write_text(content, encoding="utf-8")
        print(f"{name}: {len(answer['shapes'])} tensors")
    content = json.dumps(sentence_transformers(), separators=(",", ":"), sort_keys=True) + "\n"
    (FOLDER / "sentence_transformers.json").write_text(content, encoding="utf-8")


def randomize(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Gives a model the weights that follow from their names, and returns them."""
    weights = dict(model.state_dict())
    with torch.no_grad():
        for key, value in weights.items():
            value.copy_(torch.from_numpy(tensor(key, list(value.shape))))
    return weights


def rounded(vectors: torch.Tensor) -> list[list[float]]:
    return [[float(f"{value:.6g}") for value in row] for row in vectors.tolist()]


def sentence_transformers() -> dict:
    """A folder with a decoder, last-token pooling, two dense layers and scaling, and its vectors."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        backbone = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**CASES["llama"]))
        backbone.save_pretrained(folder / "transformer")
        words = transformers.BertTokenizerFast(vocab=WORDS, model_max_length=17)
        words.save_pretrained(folder / "transformer")
        width = CASES["llama"]["hidden_size"]
        parts = [
            modules.Transformer(str(folder / "transformer"), max_seq_length=17),
            modules.Pooling(width, pooling_mode="lasttoken"),
            modules.Dense(width, 12, bias=False, activation_function=torch.nn.Identity()),
            modules.Dense(12, 6, activation_function=torch.nn.Tanh()),
            modules.Normalize(),
        ]
        model = SentenceTransformer(
            modules=parts, prompts={"query": "query: ", "document": "passage: "}
        ).eval()
        for part in (parts[0].auto_model, parts[2], parts[3]):
            randomize(part)
        given = {key: torch.from_numpy(value).long() for key, value in tokens().items()}
        with torch.no_grad():
            vectors = model(dict(given))["sentence_embedding"]
        model.save(str(folder / "saved"))
        saved = folder / "saved"
        files = [path for path in saved.rglob("*.json") if path.name != "tokenizer.json"]
        weights = list(saved.rglob("*.safetensors"))
        return {
            "files": {
                str(path.relative_to(saved)): json.loads(path.read_text(encoding="utf-8")) for path in files
            },
            "shapes": {
                str(path.relative_to(saved)): {
                    key: list(value.shape) for key, value in load_file(path).items()
                }
                for path in weights
            },
            "tokens": {key: value.tolist() for key, value in tokens().items()},
            "vectors": rounded(vectors),
        }


def reference(config: dict) -> dict:
    """The configuration, the shapes and the hidden states of one model."""
    settings = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModel.from_config(settings, attn_implementation="eager").eval()
    weights = randomize(model)
    with torch.no_grad():
        inputs = {key: torch.from_numpy(value).long() for key, value in tokens().items()}
        hidden = model(**inputs).last_hidden_state[inputs["attention_mask"].bool()]
    written = {
        key: value
        for key, value in model.config.to_dict().items()
        if not key.startswith("_") and key not in ("architectures", "transformers_version", "dtype")
    }
    return {
        "config": written,
        "transformers": transformers.__version__,
        "shapes": {key: list(value.shape) for key, value in weights.items()},
        "hidden": rounded(hidden),
    }


if __name__ == "__main__":
    main()
