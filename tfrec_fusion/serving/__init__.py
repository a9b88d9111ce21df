"""A server that speaks the protocol of TF Serving, clients for it, and the launcher that chooses a server.

`Client` over REST needs neither TensorFlow nor NumPy.
"""

from typing import TYPE_CHECKING

from tfrec_fusion.lazy import lazy_names

__all__ = [
    "AccessDenied",
    "AnswerTimeout",
    "AsyncClient",
    "BatchingOptions",
    "Client",
    "EmbeddedServer",
    "Explanation",
    "Explanations",
    "GrpcTransport",
    "InProcessTransport",
    "InvalidRequest",
    "Launched",
    "ModelConfig",
    "NotFound",
    "PageServer",
    "Recommendations",
    "Recommended",
    "RequestError",
    "RestTransport",
    "RetryPolicy",
    "Scores",
    "ServerFailure",
    "ServingError",
    "Source",
    "TlsConfig",
    "Transport",
    "Unavailable",
    "VersionPolicy",
    "VertexTransport",
    "launch",
]

if TYPE_CHECKING:
    from tfrec_fusion.serving.client.answers import Recommendations, Recommended, Scores
    from tfrec_fusion.serving.client.client import AsyncClient, Client
    from tfrec_fusion.serving.client.errors import (
        AccessDenied,
        AnswerTimeout,
        InvalidRequest,
        NotFound,
        RequestError,
        ServerFailure,
        ServingError,
        Unavailable,
    )
    from tfrec_fusion.serving.client.explanations import Explanation, Explanations, Source
    from tfrec_fusion.serving.client.grpc_transport import GrpcTransport
    from tfrec_fusion.serving.client.in_process import InProcessTransport
    from tfrec_fusion.serving.client.rest_transport import RestTransport
    from tfrec_fusion.serving.client.retries import RetryPolicy
    from tfrec_fusion.serving.client.transport import Transport
    from tfrec_fusion.serving.client.vertex_transport import VertexTransport
    from tfrec_fusion.serving.launcher import Launched, launch
    from tfrec_fusion.serving.page.server import PageServer
    from tfrec_fusion.serving.server.batching import BatchingOptions
    from tfrec_fusion.serving.server.config_file import ModelConfig, VersionPolicy
    from tfrec_fusion.serving.server.embedded import EmbeddedServer, TlsConfig
else:
    __getattr__, __dir__ = lazy_names(__name__)
