"""Signatures of a served model, as its metadata describes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfrec_fusion.export.request import default_of, is_setting

STRING = "DT_STRING"
_FLOATS = ("DT_FLOAT", "DT_DOUBLE", "DT_HALF", "DT_BFLOAT16")
_NAMES = {STRING: "string", "DT_FLOAT": "float32", "DT_INT32": "int32", "DT_BOOL": "bool"}


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """An input or output of a signature.

    Attributes:
        dtype: TensorFlow's name of the type, `DT_…`.
        rank: number of axes; None where unknown.
        first: size of the first axis; None where it varies, one entry a row.
        default: what the model says that stands for absence; None where it says nothing.
    """

    dtype: str
    rank: int | None
    first: int | None = None
    default: bool | None = None

    def empty(self, name: str = "") -> Any:
        """The value that stands for absence, for one row, of the input of that name."""
        if self.default is not None and name:
            return self.default
        return default_of(name, _NAMES.get(self.dtype, "float" if self.dtype in _FLOATS else "int"))


@dataclasses.dataclass(frozen=True)
class SignatureSpec:
    """A signature's inputs and outputs by name."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    def is_batched(self, name: str) -> bool:
        """Whether an input has one entry a row; a setting may come as `[1]`, one for the whole request."""
        tensor = self.inputs[name]
        return not is_setting(name) and tensor.rank not in (0, None) and tensor.first != 1

    def takes_strings(self, name: str) -> bool:
        """Whether an input is made of strings."""
        return self.inputs[name].dtype == STRING


def read_metadata(metadata: Mapping[str, Any]) -> dict[str, SignatureSpec]:
    """Signatures by name, from the JSON that `GET /v1/models/NAME/metadata` answers."""
    definitions = metadata["metadata"]["signature_def"]["signature_def"]
    return {
        name: SignatureSpec(
            _specs(definition.get("inputs", {}), definition.get("defaults", {})),
            _specs(definition.get("outputs", {})),
        )
        for name, definition in definitions.items()
        if not name.startswith("__")
    }


def _specs(tensors: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> dict[str, TensorSpec]:
    return {name: _tensor_spec(tensor, (defaults or {}).get(name, {})) for name, tensor in tensors.items()}


def _tensor_spec(tensor: Mapping[str, Any], default: Mapping[str, Any]) -> TensorSpec:
    flags = default.get("bool_val", [])
    stated = flags[0] if len(flags) == 1 else None
    shape = tensor.get("tensor_shape", {})
    if shape.get("unknown_rank"):
        return TensorSpec(tensor["dtype"], None, default=stated)
    sizes = [int(dim.get("size", -1)) for dim in shape.get("dim", [])]
    first = sizes[0] if sizes and sizes[0] >= 0 else None
    return TensorSpec(tensor["dtype"], len(sizes), first, stated)
