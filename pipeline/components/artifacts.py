"""Artifact types of this pipeline beside TFX's own.

Vertex AI keeps of a custom type its name alone, and TFX's container imports the class by that name: it must
read `<package>.<class>` (`pipeline/__init__.py` finds it), and can have no typed properties.
"""

from tfx.types.artifact import Artifact


class DataReport(Artifact):
    """What ExampleGen read, kept and rejected: `report.json`, and the rejected rows as JSON lines."""

    TYPE_NAME = "pipeline.DataReport"


class GeneratedTexts(Artifact):
    """What a language model wrote: `items.parquet` and, where users are summarised, `users.parquet` (id,
    text, verdict); `report.json` counts verdicts, requests, tokens and money."""

    TYPE_NAME = "pipeline.GeneratedTexts"


class TextVectors(Artifact):
    """One vector per item from a text encoder: `vectors.npy` (float16 `[items, dim]`) and `ids.txt`, in the
    order of the items' Examples; `report.json` says how many were encoded and how many reused."""

    TYPE_NAME = "pipeline.TextVectors"
