"""A server that speaks the protocol of TF Serving, clients for it, and the launcher that chooses a server.

`RestClient` needs neither TensorFlow nor NumPy.
"""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "AsyncGrpcClient",
    "AsyncRestClient",
    "AsyncVertexClient",
    "BatchingOptions",
    "EmbeddedServer",
    "GrpcClient",
    "Launched",
    "ModelConfig",
    "Recommended",
    "RestClient",
    "RetryPolicy",
    "ServingError",
    "TlsConfig",
    "VersionPolicy",
    "VertexClient",
    "launch",
]

if TYPE_CHECKING:
    from tfrec_fusion.serving.client.calls import Recommended, ServingError
    from tfrec_fusion.serving.client.grpc_client import AsyncGrpcClient, GrpcClient
    from tfrec_fusion.serving.client.http_transport import RetryPolicy
    from tfrec_fusion.serving.client.rest_client import AsyncRestClient, RestClient
    from tfrec_fusion.serving.client.vertex_client import AsyncVertexClient, VertexClient
    from tfrec_fusion.serving.launcher import Launched, launch
    from tfrec_fusion.serving.server.batching import BatchingOptions
    from tfrec_fusion.serving.server.config_file import ModelConfig, VersionPolicy
    from tfrec_fusion.serving.server.embedded import EmbeddedServer, TlsConfig
else:
    __getattr__, __dir__ = lazy_names(__name__)
