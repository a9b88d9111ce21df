"""Figures of the Evaluators, and the gates that a model must pass to be blessed."""
