"""Arguments and options that several commands have."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import pathlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

import click
from click.shell_completion import CompletionItem

from tfrec_fusion.serving.launcher import Engine

if TYPE_CHECKING:
    from pipeline.config.pipeline_config import PipelineConfig

DEFAULT_CONFIG = "movielens_100k"
Function = Callable[..., int]


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The configuration that a command line names.

    Attributes:
        name: a YAML file, or a shipped one's name.
        root: the folder that receives everything, where it is not the configuration's own.
        overrides: `KEY=VALUE` pairs of `--set`.
    """

    name: str
    root: str | None = None
    overrides: tuple[str, ...] = ()

    def load(self) -> PipelineConfig:
        """Reads and checks it.

        Raises:
            ConfigError: if it cannot be used.
        """
        from pipeline.config.pipeline_config import load_config

        root = () if self.root is None else (f"root={self.root}",)
        return load_config(self.name, [*self.overrides, *root])


def _complete_config(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shipped configurations, then what the shell knows of files."""
    folder = pathlib.Path(__file__).parent.parent / "config"
    shipped = sorted(path.stem for path in folder.glob("*.yaml") if path.stem.startswith(incomplete))
    return [CompletionItem(name) for name in shipped] + [CompletionItem(incomplete, type="file")]


def settings(function: Function) -> Function:
    """Adds `--root` and `--set`; the function's first argument is the default configuration with these."""

    @functools.wraps(function)
    def chosen(
        root: str | None, overrides: tuple[str, ...], config: str = DEFAULT_CONFIG, **rest: Any
    ) -> int:
        return function(Chosen(config, root or None, overrides), **rest)

    return click.option("--root", help="folder that receives everything, instead of the configuration's")(
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="another value for a key, e.g. text=none; may be given several times",
        )(chosen)
    )


def configured(function: Function) -> Function:
    """Adds the argument CONFIG, `--root` and `--set`; the function's first argument is what was chosen."""
    return click.argument(
        "config",
        default=DEFAULT_CONFIG,
        shell_complete=_complete_config,
        help=f"a YAML file, or a shipped one's name (default: {DEFAULT_CONFIG})",
    )(settings(function))


def server(function: Function) -> Function:
    """Adds where and by what models are served: `rest_api_port`, `host`, `engine`."""
    for option in (
        click.option(
            "--engine",
            type=click.Choice(get_args(Engine)),
            default="auto",
            help="what serves (default: auto, the first of them that is here)",
        ),
        click.option("--host", default="127.0.0.1", help="address to listen at (default: this machine only)"),
        click.option("--rest_api_port", type=int, help="port (default: the configuration's, 8501)"),
    ):
        function = option(function)
    return function


def learning_on(function: Function) -> Function:
    """Adds `replay` and `epochs`: how pushed models learn on."""
    for option in (
        click.option("--epochs", type=click.IntRange(1), default=3, help="at most (default: 3)"),
        click.option(
            "--replay",
            type=click.FloatRange(0, 1),
            default=0.2,
            help="share of older interactions that are learned again (default: 0.2)",
        ),
    ):
        function = option(function)
    return function


def findings_as_json(function: Function) -> Function:
    """Adds `--json` as `as_json`, for commands whose result is a list of findings."""
    return click.option("--json", "as_json", is_flag=True, help="as JSON, for a program or an issue")(
        function
    )


def page_port(function: Function) -> Function:
    """Adds `ui_port`."""
    return click.option(
        "--ui_port",
        type=click.IntRange(0, 65_535),
        help="port of the page; 0 takes a free one (default: the configuration's, 8502)",
    )(function)


def json_file(words: str) -> Callable[[Function], Function]:
    """Adds `--json FILE` as `json_path`: a file in a folder that exists, checked before hours are spent."""

    def check(_: click.Context, __: click.Parameter, path: str | None) -> str | None:
        from tfrec_fusion.config import ConfigError

        if path and not pathlib.Path(path).absolute().parent.is_dir():
            raise ConfigError(
                f"`--json` must name a file in a folder that exists. Received: {path!r}. Make the folder, or"
                " name another."
            )
        return path

    return click.option("--json", "json_path", metavar="FILE", callback=check, help=words)


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's own messages off the terminal; call it before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
