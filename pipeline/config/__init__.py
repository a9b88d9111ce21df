"""Configuration of a run: the YAML's keys, their checks, and the folders of a run."""
