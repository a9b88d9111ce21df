"""Functions that TFX components call by dotted name: preprocessing, training, index updates."""
