"""Features, Examples, the catalogue and text vectors as the pipeline's steps read and write them."""
