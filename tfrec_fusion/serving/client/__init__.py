"""Clients of TF Serving's interfaces: REST, gRPC and Vertex AI endpoints."""
