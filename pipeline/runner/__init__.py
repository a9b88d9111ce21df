"""Local runner of the TFX pipelines, its console and summaries, and batch predictions."""
