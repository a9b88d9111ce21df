"""The first steps of a pipeline: what a language model writes, and tables into Examples."""

from __future__ import annotations

import dataclasses
import json

from tfx.dsl.components.base.base_node import BaseNode

from pipeline.components.example_gen import TablesExampleGen
from pipeline.components.text_enrichment import TextEnrichment
from pipeline.config.pipeline_config import PipelineConfig, code_digest, to_json
from pipeline.config.places import Places
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.classifier import reads_written
from tfrec_fusion.datasets.tables import Tables
from tfrec_fusion.enrichment.asking import incomplete_runs
from tfrec_fusion.features.reviews import check_reviews

REVIEWS = (
    "pipeline/components/review_reading.py",
    "tfrec_fusion/features/reviews.py",
    "tfrec_fusion/features/text_vectors.py",
    "tfrec_fusion/config",
    "tfrec_fusion/layers",
)
MEDIA = (
    "pipeline/components/media_reading.py",
    "tfrec_fusion/features/media_*.py",
    "tfrec_fusion/features/text_vectors.py",
    "tfrec_fusion/layers",
)


def text_enrichment(config: PipelineConfig, places: Places, tables: Tables, source: str) -> TextEnrichment:
    """What a language model writes about items.

    Args:
        config: with `enrich`.
        places: where answers are kept.
        tables: the tables whose items are written about.
        source: digest of what they hold.

    Raises:
        ConfigError: on Vertex AI, whose steps have no key.
    """
    if places.vertex:
        raise ConfigError(
            "`enrich` asks from this machine, where the key is. Received: a run on Vertex AI. Run `tfrec"
            " enrich` here,"
            " set `enrich: null`, and name the file that it wrote: `data.items.generated: {path:"
            " …/items.parquet}`."
        )
    return TextEnrichment(
        tables=to_json(tables),
        split=to_json(config.split),
        enrich=to_json(config.enrich),
        answers=places.answers,
        incomplete_runs=incomplete_runs(places.answers),
        source_digest=source,
        code=code_digest(
            "pipeline/components/text_enrichment.py",
            "tfrec_fusion/datasets",
            "tfrec_fusion/enrichment",
            "tfrec_fusion/features/columns.py",
            "tfrec_fusion/features/rows.py",
            "tfrec_fusion/features/whole_tables.py",
        ),
    )


def example_gen(config: PipelineConfig, places: Places, written: BaseNode | None = None) -> TablesExampleGen:
    """Tables to Examples.

    Raises:
        ConfigError: on Vertex AI with pictures or sounds, which are read and encoded here.
    """
    media = places.tables.items.media_columns
    if media and places.vertex:
        raise ConfigError(
            "`data.items.images` and `data.items.audio` are read on this machine. Received:"
            f" {media[0][1]!r} for a run on Vertex AI. Encode here, and name the vectors:"
            " `data.items.vectors`."
        )
    split = dataclasses.asdict(config.split) | {"click_threshold": config.data.click_threshold}
    code, read = _code_of_reading(), {}
    read_by = reads_written(config.ranking, config.classifier)
    check_reviews(places.tables, config.text, read_by, config.private)
    if places.tables.interactions.text and config.text:
        if places.vertex:
            raise ConfigError(
                "`data.interactions.text` is read on this machine, where the encoder's vectors are kept."
                " Received: a run on Vertex AI. Leave the column out there."
            )
        read = {"text": to_json(config.text.pretrained()), "text_cache": places.text_vectors}
        code = code_digest(*REVIEWS) + code
    if media:
        read, code = read | {"media_cache": places.text_vectors}, code_digest(*MEDIA) + code
    return TablesExampleGen(
        tables=to_json(places.tables),
        split=json.dumps(split, sort_keys=True),
        max_reject_share=config.data.max_reject_share,
        reject_folder=places.rejects,
        source_digest=places.source,
        code=code,
        **read,
        generated_texts=written.outputs["generated_texts"] if written else None,
    )


def _code_of_reading() -> str:
    return code_digest(
        "pipeline/components/data_report.py",
        "pipeline/components/example_gen.py",
        "pipeline/components/graph_reading.py",
        "pipeline/components/table_reading.py",
        "pipeline/data/examples.py",
        "tfrec_fusion/datasets",
        "tfrec_fusion/features/columns.py",
        "tfrec_fusion/features/node_vectors.py",
        "tfrec_fusion/features/rows.py",
        "tfrec_fusion/layers/propagation.py",
        "tfrec_fusion/impressions/pseudonyms.py",
    )
