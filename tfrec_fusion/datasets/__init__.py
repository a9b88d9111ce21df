"""Readers of a source into the three tables, and what is done to tables before a pipeline."""
