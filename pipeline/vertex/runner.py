"""Compiles the pipeline for Vertex AI.

`python -m pipeline.vertex.runner --config FILE --output pipeline.json` for those who know TFX;
`tfrec vertex compile FILE` is the same.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from pipeline.config.findings import report
from pipeline.config.pipeline_config import PipelineConfig, load_config
from pipeline.runner.process import guarded
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError

READY = "It can be submitted."


def compile_to(config: PipelineConfig, output: str) -> int:
    """Writes the spec to a file.

    Args:
        config: of the run.
        output: the file.

    Returns:
        The exit code.

    Raises:
        ConfigError: if it cannot be compiled, or there is no such folder.
    """
    path = pathlib.Path(output)
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"`--output` must name a file in a folder that exists. Received: {output!r}.")
    # Imported here: TFX takes its time.
    from pipeline.vertex.compiling import compile_pipeline

    compiled = compile_pipeline(config)
    files.write_text(path, compiled.to_json())
    size = sum(upload.size for upload in compiled.uploads)
    print(
        f"{path}: {compiled.steps} steps. It reads {len(compiled.uploads)} files ({size / 1e6:.1f} MB) that"
        f" must be in {compiled.vertex.bucket} before."
    )
    return 0


def check(config: PipelineConfig, offline: bool, as_json: bool = False) -> int:
    """Prints what would go wrong.

    Args:
        config: of the run.
        offline: asks nobody.
        as_json: prints the findings for a program.

    Returns:
        The exit code: 1 if something must be mended.
    """
    from pipeline.vertex import checking
    from pipeline.vertex.compiling import compile_pipeline

    return report(checking.check(compile_pipeline(config), offline), READY, as_json)


def submit(config: PipelineConfig, offline: bool, force: bool, wait: bool) -> int:
    """Compiles, checks, uploads what is missing, and starts the run.

    Args:
        config: of the run.
        offline: asks nobody in the check.
        force: in spite of what the check says.
        wait: until the run is over.

    Returns:
        The exit code: 1 if nothing was sent, or the run failed.
    """
    from pipeline.vertex import checking, submitting
    from pipeline.vertex.compiling import compile_pipeline

    compiled = compile_pipeline(config)
    if report(checking.check(compiled, offline), READY) and not force:
        print("Nothing was sent. Mend it, or submit with --force.")
        return 1
    submitted = submitting.submit(compiled)
    print(f"{'Runs already' if submitted.found else 'Started'}: {submitted.console}")
    if wait and not submitting.wait(submitted, compiled.vertex):
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The entry point for those who know TFX; prints and ends as `tfrec vertex compile` does."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.vertex.runner", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--config", required=True, help="a YAML file, or the name of one that is shipped")
    parser.add_argument("--output", default="pipeline.json", help="the file that receives the spec")
    options = parser.parse_args(arguments)
    return guarded(lambda: compile_to(load_config(options.config), options.output))


if __name__ == "__main__":
    sys.exit(main())
