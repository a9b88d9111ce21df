"""Tensors of a model's files: safetensors, whole or in shards, and Keras's own HDF5."""

from __future__ import annotations

import json
import math
import pathlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np

from tfrec_fusion.layers.pretrained import read_json

_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_FLOATS = ("F64", "F32", "F16", "BF16")
_MOST_HEADER = 100_000_000  # bytes; the format's own bound


class Safetensors(Mapping[str, np.ndarray]):
    """A safetensors file as a mapping from names to arrays, each read when it is asked for.

    Args:
        path: the file.

    Raises:
        ValueError: if it is no safetensors file, or ends before its last tensor.

    Reference: https://github.com/huggingface/safetensors#format
    """

    def __init__(self, path: pathlib.Path):
        self.path = path
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MOST_HEADER + 1
            if length > min(_MOST_HEADER, size):
                raise ValueError(self._fault(f"{size:,} bytes that begin with {start!r}"))
            try:
                header = json.loads(file.read(length))
            except ValueError as error:
                raise ValueError(self._fault(f"a header that is no JSON ({error})")) from error
        if not isinstance(header, dict):
            raise ValueError(self._fault(f"a header that is a {type(header).__name__}"))
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
        for name, entry in header.items():
            if not _is_entry(entry):
                raise ValueError(self._fault(f"a header whose entry of {name} is {str(entry)[:100]}"))
        self._tensors: dict[str, dict] = header
        self._begin = 8 + length
        end = self._begin + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if end > size:
            raise ValueError(
                self._fault(f"{size:,} bytes where its header promises {end:,}: it was cut short")
            )

    def _fault(self, received: str) -> str:
        return (
            f"A safetensors file must be whole. Received: {self.path.name} in {str(self.path.parent)!r} with"
            f" {received}. Download it again (a file of Git LFS with `git lfs pull`)."
        )

    def __getitem__(self, name: str) -> np.ndarray:
        entry = self._tensors[name]
        if entry["dtype"] not in _FLOATS:
            raise ValueError(
                f"Weights must be {', '.join(_FLOATS)}. Received: {name} of {entry['dtype']} in"
                f" {str(self.path)!r}. Take a copy of the model that is not quantised."
            )
        begin, end = (self._begin + offset for offset in entry["data_offsets"])
        dtype = _DTYPES[entry["dtype"]]
        flat = np.fromfile(self.path, dtype, (end - begin) // dtype.itemsize, offset=begin)
        return flat.reshape(entry["shape"]).astype(np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _is_entry(entry: Any) -> bool:
    """Whether a tensor's entry has a type, and as many bytes as its shape needs."""
    try:
        begin, end = entry["data_offsets"]
        numbers, kind = [begin, end, *entry["shape"]], entry["dtype"]
    except (KeyError, TypeError, ValueError):
        return False
    if not isinstance(kind, str) or any(type(number) is not int or number < 0 for number in numbers):
        return False
    size = _DTYPES[kind].itemsize * math.prod(entry["shape"]) if kind in _DTYPES else end - begin
    return end - begin == size


class Shards(Mapping[str, np.ndarray]):
    """Several safetensors files as one mapping, by the index that names each tensor's file.

    Args:
        index: the path of `model.safetensors.index.json`.

    Raises:
        ValueError: if a file that the index names is not there, or not whole.
    """

    def __init__(self, index: pathlib.Path):
        self._files: dict[str, str] = read_json(index.parent, index.name).get("weight_map")
        if not isinstance(self._files, dict) or not self._files:
            raise ValueError(
                f"{index.name} must name the file of each tensor under `weight_map`. Received:"
                f" {str(self._files)[:100]} in {str(index.parent)!r}. Download the model again."
            )
        names = sorted(set(map(str, self._files.values())))
        missing = [name for name in names if not (index.parent / name).is_file()]
        if missing:
            raise ValueError(
                f"Each shard that {index.name} names must be there. Received: {str(index.parent)!r} without"
                f" {', '.join(missing)} ({len(missing)} of {len(names)}). Download the model again."
            )
        self._shards = {name: Safetensors(index.parent / name) for name in names}
        self.metadata = next(iter(self._shards.values())).metadata
        for name, file in self._files.items():
            if name not in self._shards[file]:
                raise ValueError(
                    f"Each tensor must be in the file that {index.name} names. Received: {file} in"
                    f" {str(index.parent)!r} without {name}. Download the model again."
                )

    def __getitem__(self, name: str) -> np.ndarray:
        return self._shards[self._files[name]][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def read_tensors(folder: pathlib.Path) -> Mapping[str, np.ndarray]:
    """The tensors of a model's folder by PyTorch's names, float32, read when they are asked for.

    Raises:
        ValueError: if there is no file of weights that can be read, or one is not whole.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file() or index.is_file():
        file = Safetensors(whole) if whole.is_file() else Shards(index)
        return from_keras_names(file) if file.metadata.get("format") == "tf" else file
    if (folder / "tf_model.h5").is_file():
        return from_keras_names(_read_hdf5(folder / "tf_model.h5"))
    if any(folder.glob("pytorch_model*.bin")):
        raise ValueError(
            "Weights must be `model.safetensors`: PyTorch's own files can execute code when they are read."
            f" Received: pytorch_model.bin in {str(folder)!r}. Take a revision of the model with"
            " safetensors, or write them once with PyTorch installed:"
            " `AutoModel.from_pretrained(folder).save_pretrained(folder)`."
        )
    raise ValueError(
        "An encoder's folder must hold its weights as `model.safetensors`, in shards with"
        f" `model.safetensors.index.json`, or as `tf_model.h5`. Received: {str(folder)!r} with"
        f" {sorted(path.name for path in folder.iterdir())}. Write them with `model.save_pretrained(folder)`."
    )


def from_keras_names(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Variables of transformers' Keras classes by PyTorch's names, matrices turned as PyTorch has them.

    Args:
        tensors: by a Keras path, such as `tf_bert_model/bert/encoder/layer_._0/output/dense/kernel:0`.
    """
    read = {}
    for path, value in tensors.items():
        *parts, leaf = path.partition(":")[0].split("/")
        name = ".".join(parts).replace("_._", ".")
        turned = leaf == "kernel" and value.ndim == 2
        leaf = {"kernel": "weight", "gamma": "weight", "beta": "bias", "embeddings": "weight"}.get(leaf, leaf)
        value = np.asarray(value, np.float32)
        read[f"{name}.{leaf}"] = value.T if turned else value.reshape(-1) if leaf == "bias" else value
    return read


def _read_hdf5(path: pathlib.Path) -> dict[str, np.ndarray]:
    import h5py

    read: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            file.visititems(
                lambda name, item: read.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
    except OSError as error:
        raise ValueError(
            f"`tf_model.h5` must be a whole HDF5 file. Received: {str(path)!r}, {error}. Download it again."
        ) from error
    return read
