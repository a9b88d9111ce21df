"""Compiles the pipeline for Vertex AI.

`python -m pipeline.vertex.runner --config FILE --output pipeline.json` for people who know TFX;
`tfrec vertex compile FILE` is the same.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from pipeline.config.pipeline_config import PipelineConfig, load_config
from tfrec_fusion import files
from tfrec_fusion.config import ConfigError


def compile_action(config: PipelineConfig, options: argparse.Namespace) -> int:
    """`tfrec vertex compile`: writes the spec to `options.output`."""
    path = pathlib.Path(options.output)
    if not path.absolute().parent.is_dir():
        raise ConfigError(
            f"`--output` must name a file in a folder that exists. Received: {options.output!r}."
        )
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


def check_action(config: PipelineConfig, options: argparse.Namespace) -> int:
    """`tfrec vertex check`: prints findings; 1 where one must be mended."""
    from pipeline.vertex import checking
    from pipeline.vertex.compiling import compile_pipeline

    findings = checking.check(compile_pipeline(config), options.offline)
    print("\n".join([*map(str, findings), checking.summary(findings)]))
    return 1 if checking.errors(findings) else 0


def submit_action(config: PipelineConfig, options: argparse.Namespace) -> int:
    """`tfrec vertex submit`: compiles, checks, uploads what is missing, and starts the run."""
    from pipeline.vertex import checking, submitting
    from pipeline.vertex.compiling import compile_pipeline

    compiled = compile_pipeline(config)
    findings = checking.check(compiled, options.offline)
    if findings:
        print("\n".join([*map(str, findings), checking.summary(findings)]))
    if checking.errors(findings) and not options.force:
        print("Nothing was sent. Mend it, or submit with --force.")
        return 1
    submitted = submitting.submit(compiled)
    print(f"{'Runs already' if submitted.found else 'Started'}: {submitted.console}")
    if options.wait and not submitting.wait(submitted, compiled.vertex):
        return 1
    return 0


ACTIONS = {"compile": compile_action, "check": check_action, "submit": submit_action}


def main(arguments: list[str] | None = None) -> int:
    """The entry point for people who know TFX."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.vertex.runner", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--config", required=True, help="a YAML file, or the name of one that is shipped")
    parser.add_argument("--output", default="pipeline.json", help="the file that receives the spec")
    options = parser.parse_args(arguments)
    try:
        return compile_action(load_config(options.config), options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
