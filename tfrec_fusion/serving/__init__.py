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
    from tfrec_fusion.serving.batching import BatchingOptions
    from tfrec_fusion.serving.client import AsyncRestClient, RestClient
    from tfrec_fusion.serving.client_calls import Recommended, ServingError
    from tfrec_fusion.serving.config_file import ModelConfig, VersionPolicy
    from tfrec_fusion.serving.grpc_client import AsyncGrpcClient, GrpcClient
    from tfrec_fusion.serving.http_transport import RetryPolicy
    from tfrec_fusion.serving.launcher import Launched, launch
    from tfrec_fusion.serving.server import EmbeddedServer, TlsConfig
    from tfrec_fusion.serving.vertex_client import AsyncVertexClient, VertexClient
else:
    __getattr__, __dir__ = lazy_names(__name__)
