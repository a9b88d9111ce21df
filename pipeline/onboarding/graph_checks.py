"""Findings of `tfrec validate` on the edges of `data.graph`."""

from __future__ import annotations

import collections
from collections.abc import Iterator

from pipeline.config.findings import Finding
from pipeline.config.pipeline_config import PipelineConfig
from tfrec_fusion.config import ConfigError
from tfrec_fusion.datasets.edge_lists import ENTITY, known_ids, read_edges
from tfrec_fusion.datasets.edges import NodeKind
from tfrec_fusion.datasets.tables import Tables

KINDS: tuple[NodeKind, ...] = ("items", "users")


def check_graph(tables: Tables, config: PipelineConfig) -> Iterator[Finding]:
    """How many edges can be used, and how many items or users have any."""
    for kind in KINDS:
        files = tables.graph.of(kind) if tables.graph else ()
        if not files:
            continue
        rule = tables.item_ids if kind == "items" else tables.user_ids
        try:
            known = known_ids(tables, kind)
            edges = read_edges(files, kind, known, rule)
        except ConfigError as error:
            yield Finding("wrong", f"graph.{kind}", str(error))
            continue
        reasons = collections.Counter(reason for reason, _ in edges.rejects)
        lost, read = len(edges.rejects), len(edges) + len(edges.rejects)
        words = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        most = config.data.max_reject_share
        if not len(edges) or lost > most * read:
            seen = f"{words}, such as {edges.rejects[0][1]}" if lost else "there is none"
            yield Finding(
                "wrong",
                f"graph.{kind}",
                f"{lost:,} of {read:,} edges cannot be used ({seen}). `data.max_reject_share` allows"
                f" {most:.1%}. Mend them, or name other columns.",
            )
            continue
        own = sum(not key.startswith(ENTITY) for key in edges.keys)
        further = f" and {len(edges.keys) - own:,} further entities" if own < len(edges.keys) else ""
        rest = f"; not used: {words}" if lost else ""
        yield Finding(
            "ok",
            f"graph.{kind}",
            f"{len(edges):,} edges; {own:,} of {len(known):,} {kind}{further} have any{rest}",
        )
