"""Prints the commands that build a configuration's images, labelled with what they were built from.

`python -m pipeline.vertex.image CONFIG`: `tfrec vertex check` compares the labels with the checkout.
"""

from __future__ import annotations

import argparse
import shlex

from pipeline.config.pipeline_config import load_config
from pipeline.config.vertex_config import VertexConfig
from pipeline.vertex.cloud_checks import image_facts
from tfrec_fusion.config import ConfigError


def commands(vertex: VertexConfig) -> list[str]:
    """`docker build` and `docker push` of each image, to be run in the checkout's root."""
    variants = {vertex.image: "cpu"}
    job = vertex.training
    if job and job.accelerator and job.accelerator.startswith("NVIDIA"):
        variants[vertex.training_image] = "cuda"
    lines = []
    for image, variant in variants.items():
        labels = [f"--label={name}={value}" for name, value in image_facts().items()]
        build = [
            "docker",
            "build",
            "--file=docker/pipeline.Dockerfile",
            f"--build-arg=VARIANT={variant}",
            *labels,
            f"--tag={image}",
            ".",
        ]
        lines += [shlex.join(build), shlex.join(["docker", "push", image])]
    return lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.vertex.image", description=__doc__.split("\n")[0]
    )
    parser.add_argument("config", help="a YAML file with `vertex`")
    config = load_config(parser.parse_args().config)
    if config.vertex is None:
        raise ConfigError("The configuration has no key `vertex`. See docs/howto/vertex.md.")
    print("\n".join(commands(config.vertex)))


if __name__ == "__main__":
    main()
