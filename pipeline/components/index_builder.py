"""IndexBuilder: a trained model and the items as they are now into a new servable version, without training.

A new item enters through its text and features alone, a changed text is encoded again, an item that left is
never recommended; weights, vocabularies and the vectors of everything else stay. The work is done by
`pipeline.callbacks.index_update`.
"""

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts
from tfx.utils import json_utils

from pipeline.components.artifacts import TextVectors
from pipeline.components.trainer import Executor

_ARTIFACTS = {
    "new_items": standard_artifacts.Examples,
    "items": standard_artifacts.Examples,
    "items_transform_graph": standard_artifacts.TransformGraph,
    "text_vectors": TextVectors,
    "examples": standard_artifacts.Examples,
    "transform_graph": standard_artifacts.TransformGraph,
    "users": standard_artifacts.Examples,
    "retrieval_run": standard_artifacts.ModelRun,
    "ranking_run": standard_artifacts.ModelRun,
    "recommender_run": standard_artifacts.ModelRun,
}
_OPTIONAL = ("text_vectors", "ranking_run", "recommender_run")


class IndexBuilderSpec(component_spec.ComponentSpec):
    """Channels and parameters of IndexBuilder."""

    PARAMETERS = {
        "run_fn": component_spec.ExecutionParameter(type=str),
        "custom_config": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        name: component_spec.ChannelParameter(type=artifact, optional=name in _OPTIONAL)
        for name, artifact in _ARTIFACTS.items()
    }
    OUTPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "model_run": component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
    }


class IndexBuilder(base_component.BaseComponent):
    """Rebuilds what is searched of a trained model.

    Args:
        kind: `retrieval`, or `recommender` for the model that does it all.
        settings: `index` (an `IndexConfig` as a mapping), `text_cache` (the folder that keeps text vectors
            between runs), `max_removed_share` and `min_text_share`: how much of the catalogue may leave, and
            must have text.
        new_items: raw Examples of all items that are offered now, from ItemsExampleGen or TablesExampleGen.
        items, items_transform_graph, text_vectors: the items that the model was trained on, transformed;
            their graph; their text vectors, where there is a text tower.
        examples, transform_graph: the interactions that it was trained on, transformed, and their graph.
        users: one Example per user, as served.
        retrieval_run: the retrieval trainer's `model_run`.
        ranking_run, recommender_run: for the kind `recommender`, also the ranking trainer's and the
            RecommenderBuilder's.

    Outputs:
        `model`, for ServingValidator and Pusher. It needs no Evaluator: what was judged, the weights, did not
        change. `model_run`: `report.json` says how many items are new, changed, gone.
    """

    SPEC_CLASS = IndexBuilderSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(self, kind: str, settings: dict[str, Any], **inputs: types.BaseChannel | None):
        super().__init__(
            IndexBuilderSpec(
                run_fn=f"pipeline.callbacks.index_update.build_{kind}",
                custom_config=json_utils.dumps(settings),
                model=types.Channel(type=standard_artifacts.Model),
                model_run=types.Channel(type=standard_artifacts.ModelRun),
                **{name: channel for name, channel in inputs.items() if channel is not None},
            )
        )
