"""TextEmbeddings: one vector per item from a frozen text encoder, kept between runs by content (`text_vectors`).

An item's text is encoded once, however many interactions it has, and again only when the text, the encoder's
weights, the tokenizer, the length or the pooling change.
"""

import json
import os
import pathlib

import numpy as np
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.catalogue import read_items
from pipeline.components.artifacts import TextVectors
from pipeline.components.mount import with_mounted_files
from pipeline.text_vectors import encode_items
from tfrec_fusion.config import TextConfig, from_dict


class Executor(base_executor.BaseExecutor):
    """Reads the items' tokens, encodes what the cache lacks, writes all vectors in the order of the item indices."""

    @with_mounted_files
    def Do(self, input_dict, output_dict, exec_properties) -> None:
        text = from_dict(TextConfig, json.loads(exec_properties["text"]))
        artifact = artifact_utils.get_single_instance(output_dict["text_vectors"])
        items = read_items(
            artifact_utils.get_single_uri(input_dict["items"]), ["input_ids", "attention_mask"]
        )
        vectors, report = encode_items(
            items["input_ids"], items["attention_mask"], text, exec_properties["cache"]
        )
        os.makedirs(artifact.uri, exist_ok=True)
        np.save(os.path.join(artifact.uri, "vectors.npy"), vectors)
        pathlib.Path(artifact.uri, "report.json").write_text(json.dumps(report, indent=2))
        artifact.set_int_custom_property("dim", vectors.shape[1])


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
