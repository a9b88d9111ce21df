"""Runs a compiled spec's containers as subprocesses on this machine, as Vertex AI's driver would in the
cloud.

The bucket, and its mount under `/gcs`, are a folder here: both prefixes are replaced in the whole spec.
Everything else is taken as the spec has it: command, arguments, parameters, the schemas of artifacts; and
between steps goes only what a container wrote to its `executor_output.json`.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import subprocess
import sys

from pipeline.config.pipeline_config import PipelineConfig
from pipeline.vertex.compiling import Compiled
from tests.pipeline.small_shop import write_shop
from tests.pipeline.vertex_settings import plain_vertex

# One of each class that a container is told to run, and what they need.
RETRIEVAL = ("Trainer", "Baseline", "Evaluator", "ServingValidator", "Pusher")
TASKS = [
    "TablesExampleGen",
    "InteractionsStatistics",
    "InteractionsSchema",
    "InteractionsValidator",
    "InteractionsTransform",
    "ItemsSchema",
    "ItemsTransform",
    "TextEmbeddings",
    "EvaluationExamples",
    *(f"Retrieval{name}" for name in RETRIEVAL),
]
ROOT = pathlib.Path(__file__).parents[2]


def small_run(folder: pathlib.Path) -> PipelineConfig:
    """A shop that trains in seconds and whose model is pushed however good it is."""
    shop = write_shop(folder)
    evaluation = dataclasses.replace(
        shop.evaluation,
        k=(5,),
        baselines={"popularity": "show", "als": "off", "content_knn": "show"},
        thresholds={"recall@5": 0.0},
    )
    serving = dataclasses.replace(shop.serving, recommender=False, queries=("red tea",))
    # Nothing is drawn in a step, so that several machines can be held to one.
    tower = dataclasses.replace(shop.retrieval.tower, id_dropout=0.0)
    return dataclasses.replace(
        shop,
        vertex=plain_vertex(),
        evaluation=evaluation,
        serving=serving,
        retrieval=dataclasses.replace(shop.retrieval, tower=tower),
    )


class Cluster:
    """Containers of a spec.

    Args:
        compiled: the run.
        bucket: the folder that stands for `vertex.bucket`; uploads are put there.
        environment: further variables of the containers.
        beam: flags of Beam instead of the spec's.
        run: names the folder of what is made.
    """

    def __init__(
        self,
        compiled: Compiled,
        bucket: pathlib.Path,
        environment: dict[str, str] | None = None,
        beam: list[str] | None = None,
        run: str = "run-1",
    ):
        prefix = compiled.vertex.folder
        text = compiled.to_json()
        for name in (prefix, "/gcs/" + prefix.removeprefix("gs://")):
            text = text.replace(name, str(bucket))
        assert "gs://" not in text
        assert "/gcs/" not in text
        self.spec = json.loads(text)["pipelineSpec"]
        self.bucket, self.made, self.beam, self.run_name = bucket, {}, beam, run
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        for upload in compiled.uploads:
            target = pathlib.Path(upload.target.replace(prefix, str(bucket)))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(
                upload.source if isinstance(upload.source, bytes) else upload.source.read_bytes()
            )

    def command(self, task: str) -> list[str]:
        """What the container of a task runs; its inputs must have been made."""
        component = self._component(task)
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        python, *rest = container["command"]
        assert python == "python"
        arguments = container["args"]
        if self.beam is not None:
            first = next(position for position, word in enumerate(arguments) if word.startswith("--runner="))
            arguments = [*arguments[:first], *self.beam]
        return [
            sys.executable,
            *rest,
            *(json.dumps(self._input(task)) if word == "{{$}}" else word for word in arguments),
        ]

    def start(self, task: str) -> subprocess.Popen:
        """Starts a task's container."""
        return subprocess.Popen(
            self.command(task),
            env=self.environment,
            cwd=self.bucket,
            stdout=subprocess.DEVNULL,
            stderr=self.log(task).open("w"),
        )

    def log(self, task: str) -> pathlib.Path:
        """What a task's container said."""
        return self.bucket / f"{self.run_name}-{task}.log"

    def run(self, task: str) -> dict:
        """Runs a task's container to its end; returns what it wrote of its artifacts."""
        process = self.start(task)
        assert process.wait(timeout=600) == 0, self.log(task).read_text()[-4000:]
        return self.finish(task)

    def finish(self, task: str) -> dict:
        """Takes over what a task's container wrote."""
        written = json.loads(self._output_file(task).read_text())["artifacts"]
        for key, entry in written.items():
            (artifact,) = entry["artifacts"]
            self.made[task, key] = artifact
        return {key: entry["artifacts"][0] for key, entry in written.items()}

    def run_all(self, tasks: list[str], at_once: int = 2) -> dict[str, dict]:
        """Runs tasks in the order of their inputs, several at once."""
        results: dict[str, dict] = {}
        waiting, running = list(tasks), {}
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            while waiting or running:
                ready = [
                    task
                    for task in waiting
                    if all(
                        source in results
                        for source in self._task(task).get("dependentTasks", [])
                        if source in tasks
                    )
                ]
                for task in ready[: at_once - len(running)]:
                    running[pool.submit(self.run, task)] = task
                    waiting.remove(task)
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in done:
                    results[running.pop(future)] = future.result()
        return results

    def _task(self, task: str) -> dict:
        return self.spec["root"]["dag"]["tasks"][task]

    def _component(self, task: str) -> dict:
        return self.spec["components"][self._task(task)["componentRef"]["name"]]

    def _folder(self, task: str) -> pathlib.Path:
        return self.bucket / "shop" / "artifacts" / "123" / self.run_name / task

    def _output_file(self, task: str) -> pathlib.Path:
        return self._folder(task) / "executor_output.json"

    def _input(self, task: str) -> dict:
        component, given = self._component(task), self._task(task)["inputs"]
        inputs = {}
        for name, source in given.get("artifacts", {}).items():
            where = source["taskOutputArtifact"]
            made = self.made[where["producerTask"], where["outputArtifactKey"]]
            schema = component["inputDefinitions"]["artifacts"][name]["artifactType"]
            inputs[name] = {"artifacts": [{**made, "type": schema}]}
        outputs = {
            name: {
                "artifacts": [
                    {
                        "name": (
                            f"projects/1/locations/europe-west4/metadataStores/default/artifacts/{task}-{name}"
                        ),
                        "type": artifact["artifactType"],
                        # Folders do not exist in a bucket before something is in them.
                        "uri": str(self._folder(task) / name),
                    }
                ]
            }
            for name, artifact in component["outputDefinitions"]["artifacts"].items()
        }
        parameters = {
            name: value["runtimeValue"]["constantValue"]
            for name, value in given.get("parameters", {}).items()
        }
        return {
            "inputs": {"artifacts": inputs, "parameters": parameters},
            "outputs": {"artifacts": outputs, "outputFile": str(self._output_file(task))},
        }
