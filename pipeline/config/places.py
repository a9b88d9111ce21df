"""Places of what a run makes, as its components see them: folders here, or a bucket."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

from pipeline.config.pipeline_config import PipelineConfig, tables_of
from pipeline.config.vertex_config import VertexConfig
from tfrec_fusion import files
from tfrec_fusion.datasets.digests import source_digest
from tfrec_fusion.datasets.tables import Tables


@dataclasses.dataclass(frozen=True)
class Places:
    """Folders and flags of a run.

    Attributes:
        tables: the three tables.
        source: digest of what they hold.
        artifacts, rejects, text_vectors, answers, checkpoints, serving: folders; `answers` of a language
            model's.
        schema: keeps a file's name and text, and returns where components find it.
        beam: flags for the steps that Beam runs.
        vertex: set where components run on Vertex AI.
    """

    tables: Tables
    source: str
    artifacts: str
    rejects: str
    text_vectors: str
    checkpoints: str
    serving: str
    schema: Callable[[str, str], str]
    beam: tuple[str, ...]
    vertex: VertexConfig | None = None
    answers: str = ""


def local_places(config: PipelineConfig) -> Places:
    """Everything in the configuration's home.

    Raises:
        ConfigError: if a table is not there.
    """
    home, tables = config.home, tables_of(config)

    def schema(name: str, text: str) -> str:
        path = home / "schemas" / name
        files.write_text(path, text)
        return str(path)

    return Places(
        tables=tables,
        source=source_digest(tables),
        artifacts=str(home / "artifacts"),
        rejects=str(home / "rejects"),
        text_vectors=str(home / "text_vectors"),
        checkpoints=str(home / "checkpoints"),
        serving=str(config.push_folder),
        schema=schema,
        beam=config.beam,
        answers=str(config.answers_folder),
    )


def schema_name(name: str, text: str) -> str:
    """A file's name that changes with its content, as TFX's cache needs."""
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.pbtxt"
