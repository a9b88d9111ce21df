"""transformers' PyTorch classes and onnxruntime on the encoders of `benchmarks.encoders`, in an environment
of their own.

    .venv-references/bin/python -I benchmarks/encoder_peers.py < commands

Reads a JSON command a line and answers with one a line: `write` makes a folder with random weights (or of a
GGUF file), `open` loads it in both engines, `vectors` and `time` run them. One thread each.
"""

from __future__ import annotations

import copy
import json
import os
import pathlib
import sys
import time
import warnings

import numpy as np
import onnxruntime
import torch
import transformers

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
transformers.logging.set_verbosity_error()


class LastHidden(torch.nn.Module):
    """The last hidden states alone, which is what is exported."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


class Peers:
    """Both engines on one folder."""

    def write(self, folder: str, config: dict | None = None, gguf: str | None = None) -> dict:
        """A folder with random weights of a configuration, or with those of a GGUF file."""
        torch.manual_seed(0)
        if gguf:
            path = pathlib.Path(gguf)
            read = transformers.AutoModel.from_pretrained(path.parent, gguf_file=path.name)
            settings = {key: value for key, value in read.config.to_dict().items() if "quant" not in key}
            model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**settings))
            weights = {key: value.float() for key, value in read.state_dict().items()}
            model.float().load_state_dict(weights)
        else:
            model = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**config or {}))
        model.save_pretrained(folder)
        return {}

    def open(self, folder: str, lengths: list[int], batch: int) -> dict:
        """Loads the folder; onnxruntime gets a graph for each length, which is in its favour."""
        # Fused attention, where a family has it.
        model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
        self.model = LastHidden(model.eval())
        self.sessions, fault = {}, ""
        for length in lengths:
            path = f"{folder}/{length}.onnx"
            try:
                with torch.no_grad():
                    program = torch.onnx.export(
                        self.model, tuple(self._given(batch, length).values()), dynamo=True, verbose=False
                    )
                program.save(path)
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                self.sessions[length] = onnxruntime.InferenceSession(path, options)
            except Exception as error:  # an exporter that does not know an architecture must not end all
                fault = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
        return {"fault": fault}

    @staticmethod
    def _given(batch: int, length: int) -> dict[str, torch.Tensor]:
        return {
            "input_ids": torch.ones(batch, length, dtype=torch.long),
            "attention_mask": torch.ones(batch, length, dtype=torch.long),
        }

    def vectors(self, input_ids: list, attention_mask: list, double: bool = False) -> dict:
        """The last hidden states of PyTorch, in float32 or in float64."""
        model = copy.deepcopy(self.model).double() if double else self.model
        with torch.no_grad():
            hidden = model(torch.tensor(input_ids), torch.tensor(attention_mask))
        return {"hidden": hidden.tolist()}

    def time(self, engine: str, input_ids: list) -> dict:
        """Seconds of one run."""
        ids = torch.tensor(input_ids)
        mask = torch.ones_like(ids)
        if engine == "torch":
            with torch.inference_mode():
                begin = time.perf_counter()
                self.model(ids, mask)
                return {"seconds": time.perf_counter() - begin}
        session = self.sessions.get(ids.shape[1])
        if session is None:
            return {"seconds": None}
        names = [entry.name for entry in session.get_inputs()]
        given = dict(zip(names, (np.asarray(input_ids), mask.numpy()), strict=True))
        begin = time.perf_counter()
        session.run(None, given)
        return {"seconds": time.perf_counter() - begin}

    def versions(self) -> dict:
        return {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
        }


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")  # what the exporter prints must not come between
    os.dup2(2, 1)
    peers = Peers()
    for line in sys.stdin:
        command, arguments = json.loads(line)
        answers.write(json.dumps(getattr(peers, command)(**arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
