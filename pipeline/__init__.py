"""The TFX pipeline that takes tables to a served model, and the command `tfrec`."""

import tfrec_fusion  # noqa: F401  (selects Keras 2 before anything imports TensorFlow)


def __getattr__(name: str) -> object:
    """Artifact types by name, as TFX's containers look them up: `pipeline.TextVectors`."""
    if name in ("DataReport", "GeneratedTexts", "TextVectors"):
        from pipeline.components import artifacts

        return getattr(artifacts, name)
    raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
