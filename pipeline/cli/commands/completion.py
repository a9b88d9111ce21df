"""`tfrec completion`."""

from __future__ import annotations

import click

from pipeline.cli.command import Section, command


@command(
    Section.HELP,
    """
    eval "$(tfrec completion bash)"                              now, or in ~/.bashrc
    eval "$(tfrec completion zsh)"                               in ~/.zshrc, after compinit
    tfrec completion fish > ~/.config/fish/completions/tfrec.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), help="which shell")
def completion(shell: str) -> int:
    """Print what makes a shell complete commands, options and shipped configurations."""
    from click.shell_completion import get_completion_class

    from pipeline.cli.main import COMPLETE, app

    script = get_completion_class(shell)
    assert script is not None
    print(script(app, {}, "tfrec", COMPLETE).source())
    return 0
