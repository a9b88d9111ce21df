"""What the Evaluators compute, and what a model must show to be blessed."""
