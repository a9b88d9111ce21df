"""Transformers in Keras layers that read Hugging Face's files: one block, and a family's options for it."""
