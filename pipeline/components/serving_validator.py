"""ServingValidator: the candidate is loaded by the server that will serve it, and asked over HTTP, before it
is pushed.

TFX's InfraValidator drives Docker or Kubernetes only. This one gives Pusher the same kind of blessing.
"""

import json
import math
import os
import pathlib
import tempfile
import time
from typing import Any

import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.types.channel import BaseChannel
from tfx.utils import path_utils

from pipeline.components.mount import with_mounted_files
from pipeline.data.catalogue_reading import split_files
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError
from tfrec_fusion.serving.client.client import Client

LATENCY_REQUESTS = 20


def check_recommendations(results: list, k: int) -> None:
    """Raises ConfigError unless the answer holds `k` distinct items, with titles, best first."""
    ids, scores = [item.item_id for item in results], [item.score for item in results]
    if len(ids) != k or len(set(ids)) != k:
        raise ConfigError(f"The model must answer with {k} distinct items. Received: {ids}.")
    if scores != sorted(scores, reverse=True) or not all(map(math.isfinite, scores)):
        raise ConfigError(f"Scores must be numbers, best first. Received: {scores}.")
    if not all(item.title for item in results):
        raise ConfigError(f"Every item must have a title. Received: {[item.title for item in results]}.")


def ask_retrieval(client: Client, questions: dict) -> dict:
    """The questions that a retrieval model must answer; returns what it said."""
    answers = {}
    asked = [{"user_id": user} for user in questions["users"]] + [
        {"text": text} for text in questions["texts"]
    ]
    for question in asked:
        result = client.recommend(**question, k=questions["k"], include_seen=True)
        check_recommendations(result, questions["k"])
        answers[next(iter(question.values()))] = result[0].title
    return answers


def ask_ranking(client: Client, questions: dict) -> dict:
    """The questions that a ranking model must answer; returns what it said."""
    answers = {}
    for user in questions["users"]:
        answer = client.rank(user_id=user, item_ids=questions["candidates"])
        check_scores(answer, len(questions["candidates"]))
        answers[user] = {name: values[0] for name, values in answer.items()}
    for text in questions["texts"]:
        answer = client.rank(user_id=questions["users"][0], item_ids=[""], texts=[text])
        check_scores(answer, 1)
        answers[text] = {name: values[0] for name, values in answer.items()}
    return answers


def ask_recommender(client: Client, questions: dict) -> dict:
    """What the model that does it all must answer: both parts' questions, and one for diversity."""
    answers = ask_retrieval(client, questions) | ask_ranking(client, questions)
    spread = client.recommend(
        user_id=questions["users"][0], k=questions["k"], include_seen=True, diversity=0.5
    )
    if len({item.item_id for item in spread}) != questions["k"]:
        raise ConfigError(f"Diversity must leave {questions['k']} distinct items. Received: {spread}.")
    return answers


def ask_classifier(client: Client, questions: dict) -> dict:
    """The texts that a classifier must give a class; returns which."""
    texts = questions["texts"] or ["a text"]
    asked = {"text": texts, **{name: [""] * len(texts) for name in ("user_id", "item_id")}}
    answer = client.predict(inputs=asked, signature_name="classify")
    for shares in answer["probabilities"]:
        if not all(map(math.isfinite, shares)) or abs(sum(shares) - 1) > 1e-3:
            raise ConfigError(f"Probabilities must sum to 1. Received: {shares}.")
    return dict(zip(texts, answer["label"], strict=True))


ASK = {
    "retrieval": ask_retrieval,
    "ranking": ask_ranking,
    "recommender": ask_recommender,
    "classifier": ask_classifier,
}


def check_scores(answer: dict, candidates: int) -> None:
    """Raises ConfigError unless every candidate has a finite score of each kind."""
    for name, values in answer.items():
        if len(values) != candidates:
            raise ConfigError(
                f"`{name}` must hold one value a candidate ({candidates}). Received: {len(values)}."
            )
        if name != "titles" and not all(map(math.isfinite, values)):
            raise ConfigError(f"Scores must be numbers. Received: {name}={values}.")


def first_ids(examples_uri: str, name: str, count: int) -> list[str]:
    """The first `count` ids of an Examples artifact."""
    records = tf.data.TFRecordDataset(split_files(examples_uri, "all"), compression_type="GZIP").take(count)
    return [
        tf.train.Example.FromString(record).features.feature[name].bytes_list.value[0].decode()
        for record in records.as_numpy_iterator()
    ]


def count_examples(examples_uri: str) -> int:
    """How many Examples an artifact holds."""
    records = tf.data.TFRecordDataset(split_files(examples_uri, "all"), compression_type="GZIP")
    return int(records.batch(8192).reduce(0, lambda total, batch: total + tf.size(batch)))


class Executor(base_executor.BaseExecutor):
    """Serves the candidate from a folder of its own, asks, and blesses."""

    @with_mounted_files
    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        # Imported here: whoever only wires a pipeline needs no server.
        from tfrec_fusion.serving.server.embedded import EmbeddedServer

        model = artifact_utils.get_single_instance(input_dict["model"])
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        saved = path_utils.serving_model_path(model.uri, path_utils.is_old_model_artifact(model))
        questions = self._questions(input_dict, json.loads(exec_properties["queries"]))
        os.makedirs(blessing.uri, exist_ok=True)
        report: dict = {"ok": True}
        with tempfile.TemporaryDirectory() as folder:
            base = pathlib.Path(folder, "candidate")
            base.mkdir()
            (base / "1").symlink_to(saved, target_is_directory=True)
            start = time.perf_counter()
            try:
                # A folder without a model would be waited for: a server takes it for a push that is under
                # way.
                if not os.path.isfile(os.path.join(saved, "saved_model.pb")):
                    raise ConfigError("there is no candidate; a part of it was not blessed")
                with EmbeddedServer({"candidate": str(base)}) as server:
                    server.wait_ready(120)
                    report["load_seconds"] = round(time.perf_counter() - start, 3)
                    client = Client.connect(f"http://127.0.0.1:{server.rest_port}", "candidate")
                    report["answers"] = ASK[exec_properties["kind"]](client, questions)
                    report["milliseconds"] = self._latency(client, exec_properties["kind"], questions)
            except (
                Exception
            ) as error:  # whatever went wrong, the model is not to be pushed and the reason is to be kept
                report = {"ok": False, "reason": f"{type(error).__name__}: {error}"}
        files.write_json(os.path.join(blessing.uri, "report.json"), report)
        pathlib.Path(blessing.uri, "INFRA_BLESSED" if report["ok"] else "INFRA_NOT_BLESSED").touch()
        blessing.set_int_custom_property("blessed", int(report["ok"]))

    def _questions(self, input_dict: dict[str, list[types.Artifact]], queries: list[str]) -> dict:
        """Known users, an unknown user, free text, candidates in the catalogue and one that is not."""
        items = first_ids(artifact_utils.get_single_uri(input_dict["items"]), "item_id", 20)
        users = first_ids(artifact_utils.get_single_uri(input_dict["users"]), "user_id", 3)
        return {
            "k": min(10, count_examples(artifact_utils.get_single_uri(input_dict["items"]))),
            "users": [*users, "somebody nobody knows"],
            "texts": queries,
            "candidates": items,
        }

    def _latency(self, client: Client, kind: str, questions: dict) -> float:
        """Median milliseconds of one request, the client's own time included."""
        times = []
        for _ in range(LATENCY_REQUESTS):
            start = time.perf_counter()
            if kind == "classifier":
                ask_classifier(client, questions)
            elif kind != "ranking":
                client.recommend(user_id=questions["users"][0], k=questions["k"])
            else:
                client.rank(user_id=questions["users"][0], item_ids=questions["candidates"])
            times.append(time.perf_counter() - start)
        return round(1000 * sorted(times)[len(times) // 2], 2)


class ServingValidatorSpec(component_spec.ComponentSpec):
    """Channels and parameters of ServingValidator."""

    PARAMETERS = {
        "kind": component_spec.ExecutionParameter(type=str),
        "queries": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "items": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "users": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)}


class ServingValidator(base_component.BaseComponent):
    """Loads and asks a candidate.

    Args:
        model: the candidate.
        items, users: raw Examples, whose first ids are asked about.
        kind: `retrieval`, `ranking`, `recommender` or `classifier`.
        queries: JSON list of free-text questions; empty with `text: none`.
        code: digest of the code, for TFX's cache.
    """

    SPEC_CLASS = ServingValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self, model: BaseChannel, items: BaseChannel, users: BaseChannel, kind: str, queries: str, code: str
    ) -> None:
        blessing = types.Channel(type=standard_artifacts.InfraBlessing)
        super().__init__(
            ServingValidatorSpec(
                model=model,
                items=items,
                users=users,
                kind=kind,
                queries=queries,
                code=code,
                blessing=blessing,
            )
        )
