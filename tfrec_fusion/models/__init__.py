"""Two-tower, ranking and multi-task models, baselines, and `build`: where config becomes layers."""
