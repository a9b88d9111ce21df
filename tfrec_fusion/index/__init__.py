"""Top-k indexes over candidate embeddings in plain TensorFlow ops."""
