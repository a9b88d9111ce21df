"""Clients of a model, over REST, gRPC, Vertex AI endpoints, or a SavedModel in this process."""
