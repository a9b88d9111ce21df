"""Ranking metrics over a whole catalogue, and metrics beyond accuracy."""
