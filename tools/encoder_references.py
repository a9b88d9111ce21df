"""What transformers' PyTorch classes answer, as small files that the tests compare with.

    make references && .venv-references/bin/python tools/encoder_references.py

Each file holds the configuration as this version of transformers writes it, the tensors' names and shapes
(their values follow from the names, `tests.layers.encoder_cases`), and the last hidden states of the real
tokens, float32.
"""

from __future__ import annotations

import json
import pathlib
import sys

import torch
import transformers

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))
from tests.layers.encoder_cases import CASES, FOLDER, tensor, tokens


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, config in CASES.items():
        answer = reference(config)
        content = json.dumps(answer, separators=(",", ":"), sort_keys=True) + "\n"
        (FOLDER / f"{name}.json").write_text(content, encoding="utf-8")
        print(f"{name}: {len(answer['shapes'])} tensors")


def reference(config: dict) -> dict:
    """The configuration, the shapes and the hidden states of one model."""
    settings = transformers.AutoConfig.for_model(**config)
    model = transformers.AutoModel.from_config(settings, attn_implementation="eager").eval()
    weights = dict(model.state_dict())
    with torch.no_grad():
        for key, value in weights.items():
            value.copy_(torch.from_numpy(tensor(key, list(value.shape))))
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
        "hidden": [[float(f"{value:.6g}") for value in row] for row in hidden.tolist()],
    }


if __name__ == "__main__":
    main()
