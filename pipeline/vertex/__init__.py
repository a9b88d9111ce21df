"""The pipeline on Vertex AI: what goes into the bucket, the compiled spec, what is checked before, and
sending it off."""
