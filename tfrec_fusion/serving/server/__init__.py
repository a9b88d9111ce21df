"""Embedded model server: TF Serving's REST and gRPC interfaces over SavedModels."""
