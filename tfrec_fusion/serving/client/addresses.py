"""The transport that an address names."""

from __future__ import annotations

from typing import Any

from tfrec_fusion.export.request import RequestError
from tfrec_fusion.serving.client.transport import Transport


def open_transport(address: str, model_name: str = "default", **options: Any) -> Transport:
    """The transport that an address names.

    Args:
        address: `http://host:port` or `https://…` (or no scheme) for REST, `grpc://host:port` or `grpcs://…`
            (with TLS) for gRPC, `projects/PROJECT/locations/REGION/endpoints/ID` for a Vertex AI endpoint.
        model_name: the model's name on the server; an endpoint of Vertex AI has one model.
        **options: further arguments of `RestTransport`, `GrpcTransport` or `VertexTransport`.

    Raises:
        RequestError: the address is of another kind.
    """
    # Imported here: whoever only speaks REST needs neither gRPC, TensorFlow nor Google's libraries.
    if address.startswith("projects/"):
        from tfrec_fusion.serving.client.vertex_transport import VertexTransport

        if model_name != "default":
            raise RequestError(
                f"An endpoint of Vertex AI serves one model: leave its name out. Received: {model_name!r}."
            )
        return VertexTransport(address, **options)
    scheme, sign, target = address.partition("://")
    if sign and scheme in ("grpc", "grpcs"):
        from tfrec_fusion.serving.client.grpc_transport import GrpcTransport

        return GrpcTransport(target, model_name, **{"tls": scheme == "grpcs", **options})
    if sign and scheme not in ("http", "https"):
        raise RequestError(
            "`address` must begin with http://, https://, grpc://, grpcs:// or projects/. "
            f"Received: {address!r}."
        )
    from tfrec_fusion.serving.client.rest_transport import RestTransport

    return RestTransport(address, model_name, **options)
