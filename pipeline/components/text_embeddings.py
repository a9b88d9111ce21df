"""TextEmbeddings: one vector per item from a frozen text encoder, kept between runs by content.

An item's text is encoded once, however many interactions it has, and again only when the text, the encoder's
weights, the tokenizer, the length or the pooling change. Vectors are kept in shards under `cache`; a shard appears
whole (written beside, then renamed), so that a run that is killed goes on from the last one.
"""

import hashlib
import json
import os
import pathlib
import time

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline import progress
from pipeline.catalogue import read_items
from pipeline.components.artifacts import TextVectors
from tfrec_fusion.config import TextConfig, from_dict

SHARD = 4096


def digest_rows(input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """16-byte digests of token rows `[n, length]`, padding left out, as an array of `S16`."""
    rows = [
        ids[: mask.sum()].astype("<i4").tobytes() for ids, mask in zip(input_ids, attention_mask, strict=True)
    ]
    return np.array([hashlib.blake2b(row, digest_size=16).digest() for row in rows], dtype="V16")


class VectorCache:
    """Vectors by digest in a folder of shards (`.npz`: digests `V16 [n]`, vectors float16 `[n, dim]`)."""

    def __init__(self, folder: str):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._places: dict[bytes, tuple[int, int]] = {}
        self._shards: list[np.ndarray] = []
        for file in sorted(self.folder.glob("*.npz")):
            with np.load(file) as shard:
                self._add(shard["digests"], shard["vectors"])

    def _add(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        self._places.update({bytes(digest): (len(self._shards), row) for row, digest in enumerate(digests)})
        self._shards.append(vectors)

    def __contains__(self, digest: object) -> bool:
        return bytes(digest) in self._places  # type: ignore[call-overload]

    def put(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        """Keeps vectors; the shard is on disk, whole, when this returns."""
        name = hashlib.blake2b(digests.tobytes(), digest_size=12).hexdigest()
        staging = self.folder / f".{name}"
        with staging.open("wb") as stream:
            np.savez(stream, digests=digests, vectors=vectors)
        os.replace(staging, self.folder / f"{name}.npz")
        self._add(digests, vectors)

    def get(self, digests: np.ndarray) -> np.ndarray:
        """float16 `[n, dim]`; every digest must be there."""
        places = [self._places[bytes(digest)] for digest in digests]
        return np.stack([self._shards[shard][row] for shard, row in places])


class Executor(base_executor.BaseExecutor):
    """Reads the items' tokens, encodes what the cache lacks, writes all vectors in the order of the item indices."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        # Imported here: TensorFlow's text operations and transformers are of no use to whoever only wires a pipeline.
        from tfrec_fusion.layers.bulk_encoding import encode_tokens
        from tfrec_fusion.layers.text_encoder import TextEncoder

        text = from_dict(TextConfig, json.loads(exec_properties["text"]))
        artifact = artifact_utils.get_single_instance(output_dict["text_vectors"])
        items = read_items(
            artifact_utils.get_single_uri(input_dict["items"]), ["input_ids", "attention_mask"]
        )
        tokens, mask = items["input_ids"], items["attention_mask"]
        encoder = TextEncoder.from_pretrained(
            text.encoder, pooling=text.pooling, stage="frozen", normalize=True
        )
        cache = VectorCache(os.path.join(exec_properties["cache"], encoder.digest()[:16]))
        digests = digest_rows(tokens, mask)
        # Items without a word hold nothing but the two marks that every text has.
        has_text = mask.sum(1) > 2
        wanted = np.unique(digests[has_text])
        missing = np.array([digest not in cache for digest in wanted], bool)
        rows = {bytes(digest): row for row, digest in enumerate(digests)}
        start = time.perf_counter()
        for first in range(0, missing.sum(), SHARD):
            part = wanted[missing][first : first + SHARD]
            places = np.array([rows[bytes(digest)] for digest in part])
            vectors = encode_tokens(
                encoder, {"input_ids": tokens[places], "attention_mask": mask[places]}, text.batch_size
            )
            progress.report(f"{first + len(part):,} of {missing.sum():,} texts")
            cache.put(part, vectors.astype(np.float16))
        seconds = time.perf_counter() - start
        vectors = np.zeros((len(digests) + 1, encoder.dim), np.float16)
        if has_text.any():
            vectors[1:][has_text] = cache.get(digests[has_text])
        os.makedirs(artifact.uri, exist_ok=True)
        np.save(os.path.join(artifact.uri, "vectors.npy"), vectors)
        report = {
            "items": len(digests),
            "without_text": int((~has_text).sum()),
            "distinct_texts": len(wanted),
            "encoded": int(missing.sum()),
            "reused": int(len(wanted) - missing.sum()),
            "encoding_seconds": round(seconds, 3),
            "encoder": text.encoder,
            "encoder_digest": encoder.digest(),
        }
        pathlib.Path(artifact.uri, "report.json").write_text(json.dumps(report, indent=2))
        artifact.dim = int(encoder.dim)


class TextEmbeddingsSpec(component_spec.ComponentSpec):
    """Channels and parameters of TextEmbeddings."""

    PARAMETERS = {
        "text": component_spec.ExecutionParameter(type=str),
        "cache": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {"items": component_spec.ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {"text_vectors": component_spec.ChannelParameter(type=TextVectors)}


class TextEmbeddings(base_component.BaseComponent):
    """Encodes each item's text once.

    Args:
        items: transformed items, with `input_ids` and `attention_mask`.
        text: JSON of a `TextConfig`.
        cache: folder that keeps vectors between runs.
        code: digest of the code, for TFX's own cache.
    """

    SPEC_CLASS = TextEmbeddingsSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, items: types.BaseChannel, text: str, cache: str, code: str):
        vectors = types.Channel(type=TextVectors)
        super().__init__(
            TextEmbeddingsSpec(items=items, text=text, cache=cache, code=code, text_vectors=vectors)
        )
