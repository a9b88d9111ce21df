"""Tokenizers as layers: Hugging Face's ids from strings, inside the graph (`loading.load_tokenizer`)."""
