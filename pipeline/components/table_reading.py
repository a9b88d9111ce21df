"""The library's readers of tables as Beam's functions: rejects are tagged."""

from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam

from tfrec_fusion.datasets.tables import IdRule, Items, Tables, Users
from tfrec_fusion.features.rows import EntityReader, InteractionReader, Reject


def _tagged(entry: Any) -> Any:
    return beam.pvalue.TaggedOutput("rejects", tuple(entry)) if isinstance(entry, Reject) else entry


class ReadInteractions(beam.DoFn):
    """File → what `InteractionReader` makes of it."""

    def __init__(self, tables: Tables, table: str = "interactions", names: Mapping[str, str] | None = None):
        self.reader = InteractionReader(tables, table, names)

    def process(self, path: str) -> Iterator[Any]:
        yield from map(_tagged, self.reader.read(path))


class ReadEntities(beam.DoFn):
    """File of items or users → what `EntityReader` makes of it."""

    def __init__(self, table: Items | Users, name: str, rule: IdRule = "as_written"):
        self.reader = EntityReader(table, name, rule)

    def process(self, path: str) -> Iterator[Any]:
        yield from map(_tagged, self.reader.read(path))
