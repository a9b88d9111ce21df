"""TFX components of this pipeline; one module each."""
