"""Artifact types of this pipeline beside TFX's own."""

from tfx.types.artifact import Artifact, Property, PropertyType


class DataReport(Artifact):
    """What ExampleGen read, kept and rejected: `report.json`, and the rejected rows as JSON lines."""

    TYPE_NAME = "DataReport"


class TextVectors(Artifact):
    """One vector per item from a text encoder: `vectors.npy` (float16 `[items, dim]`) and `ids.txt`, in the order of the
    items' Examples; `report.json` says how many were encoded and how many reused."""

    TYPE_NAME = "TextVectors"
    PROPERTIES = {"dim": Property(type=PropertyType.INT)}
