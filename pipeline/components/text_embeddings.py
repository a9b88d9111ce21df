"""TextEmbeddings: one vector per item from a frozen text encoder, kept between runs by content
(`text_vectors`).

An item's text is encoded once, however many interactions it has, and again only when the text, the encoder's
weights, the tokenizer, the length or the pooling change. With Beam's direct runner it is encoded in this
process; any other runner gets parts of a few thousand texts, each worker loads the encoder once and leaves
its vectors in the cache's folder, which all of them must reach.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from tfx import types
from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts

from pipeline.components.artifacts import TextVectors
from pipeline.components.mount import with_mounted_files
from pipeline.data.catalogue_reading import read_items
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError, TextConfig, from_dict
from tfrec_fusion.features.text_vectors import Part, encode_items, encode_part, load_encoder, write_shard


class EncodePart(beam.DoFn):
    """Part → how many texts were encoded; their vectors are in the folder then."""

    def __init__(self, text: dict, folder: str):
        self.text, self.folder = text, folder

    def setup(self) -> None:
        if not os.path.isdir(self.folder):
            raise ConfigError(
                f"Workers must reach the folder of text vectors. Received: {self.folder}, which is not there."
                " Put `root` on storage that is mounted on all of them, or give TextEmbeddings the direct"
                " runner."
            )
        self.config = from_dict(TextConfig, self.text)
        self.encoder = load_encoder(self.config)

    def process(self, part: Part) -> Iterator[int]:
        write_shard(self.folder, part.digests, encode_part(self.encoder, part, self.config))
        yield len(part.digests)


class Executor(base_beam_executor.BaseBeamExecutor):
    """Reads the items' tokens, encodes what the cache lacks, writes all vectors in the order of the item
    indices."""

    @with_mounted_files
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        text = from_dict(TextConfig, json.loads(exec_properties["text"]))
        artifact = artifact_utils.get_single_instance(output_dict["text_vectors"])
        items = read_items(
            artifact_utils.get_single_uri(input_dict["items"]), ["input_ids", "attention_mask"]
        )
        vectors, report = encode_items(
            items["input_ids"],
            items["attention_mask"],
            text,
            exec_properties["cache"],
            None if self._runs_here() else lambda parts, folder: self._spread(parts, folder, text),
        )
        with files.whole_file(os.path.join(artifact.uri, "vectors.npy"), binary=True) as stream:
            np.save(stream, vectors)
        files.write_json(os.path.join(artifact.uri, "report.json"), report)
        artifact.set_int_custom_property("dim", vectors.shape[1])

    def _runs_here(self) -> bool:
        runner = (
            PipelineOptions([str(one) for one in self._beam_pipeline_args or ()])
            .view_as(StandardOptions)
            .runner
        )
        return runner in (None, "DirectRunner")

    def _spread(self, parts: Sequence[Part], folder: str, text: TextConfig) -> None:
        # Nothing but a source and a ParDo, which every engine can run.
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "texts" >> beam.Create(list(parts))
                | "encode" >> beam.ParDo(EncodePart(dataclasses.asdict(text), folder))
            )


class TextEmbeddingsSpec(component_spec.ComponentSpec):
    """Channels and parameters of TextEmbeddings."""

    PARAMETERS = {
        "text": component_spec.ExecutionParameter(type=str),
        "cache": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {"items": component_spec.ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {"text_vectors": component_spec.ChannelParameter(type=TextVectors)}


class TextEmbeddings(base_beam_component.BaseBeamComponent):
    """Encodes each item's text once.

    Args:
        items: transformed items, with `input_ids` and `attention_mask`.
        text: JSON of a `TextConfig`.
        cache: folder that keeps vectors between runs.
        code: digest of the code, for TFX's own cache.
    """

    SPEC_CLASS = TextEmbeddingsSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(self, items: types.BaseChannel, text: str, cache: str, code: str):
        vectors = types.Channel(type=TextVectors)
        super().__init__(
            TextEmbeddingsSpec(items=items, text=text, cache=cache, code=code, text_vectors=vectors)
        )
