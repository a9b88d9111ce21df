"""Inputs of a run on Vertex AI: local tables, encoders and schemas as objects of the bucket, named by their
content.

An object's name holds a digest, so the same input is never sent twice, and a half-finished upload is told
from a whole one by name, size and checksum.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from typing import Any

from pipeline.components.mount import on_mount
from pipeline.config.pipeline_config import IN_PROCESS, PipelineConfig, tables_of
from pipeline.config.places import Places
from pipeline.config.vertex_config import Dataflow, VertexConfig
from tfrec_fusion.config import ConfigError
from tfrec_fusion.config.pretrained import check_start
from tfrec_fusion.datasets.digests import source_digest
from tfrec_fusion.datasets.files import find_files
from tfrec_fusion.datasets.storage import is_remote
from tfrec_fusion.datasets.tables import Tables

BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Upload:
    """An object that a run needs.

    Attributes:
        target: its `gs://` name.
        source: a local file, or the object's content.
    """

    target: str
    source: pathlib.Path | bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


class Inputs:
    """Collects what must be in the bucket before a run, and says what components call it there.

    Args:
        config: with `vertex`.
    """

    def __init__(self, config: PipelineConfig):
        if config.vertex is None:
            raise ConfigError(
                "Vertex AI needs a key `vertex` in the configuration. Received: none. See"
                " docs/howto/vertex.md, or the shipped configuration vertex_movielens_100k."
            )
        self.config, self.vertex = config, config.vertex
        self.folder = f"{self.vertex.folder}/{config.name}"
        self.uploads: dict[str, Upload] = {}

    def places(self) -> Places:
        """Where components find everything. What they open as plain files is named as the container's mount
        shows it."""
        tables = tables_of(self.config)
        mounted = on_mount(self.folder)
        return Places(
            tables=self._tables(tables),
            source=source_digest(tables),
            artifacts=f"{self.folder}/artifacts",
            rejects=f"{self.folder}/rejects",
            text_vectors=f"{mounted}/text_vectors",
            checkpoints=f"{mounted}/checkpoints",
            serving=f"{self.folder}/serving",
            schema=self._schema,
            beam=beam_flags(self.vertex, f"{self.folder}/dataflow"),
            vertex=self.vertex,
        )

    def with_folders(self) -> PipelineConfig:
        """The configuration with a local encoder's folder, and the one that the retrieval model starts from,
        put into the bucket."""
        config, text, start = self.config, self.config.text, self.config.retrieval.warm_start
        if text is not None and pathlib.Path(text.encoder).expanduser().is_dir():
            encoder = self._folder("encoder", pathlib.Path(text.encoder).expanduser())
            config = dataclasses.replace(config, text=dataclasses.replace(text, encoder=encoder))
        if start is not None and not start.startswith("/gcs/"):
            check_start(self.config.retrieval, text, self.config.split.history_length)
            retrieval = dataclasses.replace(
                config.retrieval, warm_start=self._folder("tower", pathlib.Path(start))
            )
            config = dataclasses.replace(config, retrieval=retrieval)
        return config

    def _folder(self, name: str, folder: pathlib.Path) -> str:
        files = [file for file in sorted(folder.iterdir()) if file.is_file()]
        target = f"{self.folder}/inputs/{name}-{_digest(files)}"
        for file in files:
            self._add(f"{target}/{file.name}", file)
        return on_mount(target)

    def _tables(self, tables: Tables) -> Tables:
        changes: dict[str, Any] = {}
        for name in ("interactions", "items", "users"):
            table = getattr(tables, name)
            if table and not is_remote(table.path):
                changes[name] = dataclasses.replace(table, path=self._table(name, table.path))
        texts = tables.items.generated
        if texts and texts.path and not is_remote(texts.path):
            texts = dataclasses.replace(texts, path=self._table("generated", texts.path))
            changes["items"] = dataclasses.replace(changes.get("items", tables.items), generated=texts)
        if tables.graph:
            changes["graph"] = tables.graph.moved(
                lambda name, path: path if is_remote(path) else self._table(name, path)
            )
        join = tables.interactions.join
        if join and not is_remote(join.path):
            join = dataclasses.replace(join, path=self._table("join", join.path))
            changes["interactions"] = dataclasses.replace(
                changes.get("interactions", tables.interactions), join=join
            )
        return dataclasses.replace(tables, **changes)

    def _table(self, name: str, path: str) -> str:
        files = [pathlib.Path(file) for file in find_files(path, name)]
        folder = f"{self.folder}/inputs/{name}-{_digest(files)}"
        if len(files) == 1:
            return self._add(f"{folder}/{files[0].name}", files[0])
        for number, file in enumerate(files):
            self._add(f"{folder}/{number:05d}-{file.name}", file)
        return f"{folder}/*"

    def _schema(self, name: str, text: str) -> str:
        return self._add(f"{self.folder}/inputs/{name}", text.encode())

    def _add(self, target: str, source: pathlib.Path | bytes) -> str:
        self.uploads[target] = Upload(target, source)
        return target


def beam_flags(vertex: VertexConfig, staging: str) -> tuple[str, ...]:
    """Flags of the steps that Beam runs: in their own containers, or on Dataflow with the steps' own
    image."""
    flow: Dataflow | None = vertex.dataflow
    if flow is None:
        return IN_PROCESS
    flags = [
        "--runner=DataflowRunner",
        f"--project={vertex.project}",
        f"--region={vertex.region}",
        f"--temp_location={staging}/temp",
        f"--staging_location={staging}/staging",
        f"--sdk_container_image={vertex.image}",
        # The image holds all code: nothing is fetched when a worker starts.
        "--sdk_location=container",
        "--experiments=use_runner_v2",
        f"--worker_machine_type={flow.machine}",
        f"--max_num_workers={flow.max_workers}",
        f"--disk_size_gb={flow.disk_gb}",
    ]
    if vertex.service_account:
        flags.append(f"--service_account_email={vertex.service_account}")
    if flow.subnetwork:
        flags.append(f"--subnetwork={flow.subnetwork}")
    if not flow.public_ips:
        flags.append("--no_use_public_ips")
    flags += [f"--labels={name}={value}" for name, value in sorted(vertex.labels.items())]
    return (*flags, *flow.flags)


def _digest(files: list[pathlib.Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()[:16]
