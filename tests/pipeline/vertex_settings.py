"""Places on Vertex AI that the fake Google knows."""

from pipeline.config.vertex_config import VertexConfig
from tests.pipeline.fake_google import BUCKET, PROJECT, REGION


def plain_vertex() -> VertexConfig:
    """All in the steps' own containers."""
    return VertexConfig(
        PROJECT,
        REGION,
        f"gs://{BUCKET}/recommenders",
        f"{REGION}-docker.pkg.dev/{PROJECT}/images/tfrec:1.2.3",
        training=None,
    )
