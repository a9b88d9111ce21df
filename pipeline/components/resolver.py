"""Resolver of the model that a candidate is measured against."""

from ml_metadata.metadata_store import metadata_store
from tfx import types
from tfx.dsl.components.common.resolver import ResolverStrategy


class LatestOtherBlessedModelStrategy(ResolverStrategy):
    """The latest blessed model that is not the candidate itself.

    TFX's LatestBlessedModelStrategy gives the candidate back to its own Evaluator in a second, unchanged run:
    the Evaluator's inputs then differ from the first run's, nothing is reused, and the model is compared with
    itself.
    """

    def resolve_artifacts(
        self, store: metadata_store.MetadataStore | None, input_dict: dict[str, list[types.Artifact]]
    ) -> dict[str, list[types.Artifact]] | None:
        """Takes `candidate`, `model` and `model_blessing`; returns the same keys, `model` with one artifact
        or none."""
        candidates = {artifact.uri for artifact in input_dict.get("candidate", [])[-1:]}
        blessings = {
            blessing.get_int_custom_property("current_model_id"): blessing
            for blessing in input_dict.get("model_blessing", [])
            if blessing.get_int_custom_property("blessed") == 1
        }
        for model in sorted(input_dict.get("model", []), key=lambda artifact: artifact.id, reverse=True):
            if model.uri not in candidates and model.id in blessings:
                return {**input_dict, "model": [model], "model_blessing": [blessings[model.id]]}
        return {**input_dict, "model": [], "model_blessing": []}
