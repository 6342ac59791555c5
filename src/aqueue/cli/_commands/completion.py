"""``aqueue completion``: prints the script with which a shell completes the command's words."""

import click
from click.shell_completion import get_completion_class

from aqueue.cli._app import app, help_of_examples

__all__ = ["completion"]


@app.command(
    short_help="Print a shell completion script.",
    epilog=help_of_examples(
        "aqueue completion bash > ~/.local/share/bash-completion/completions/aqueue",
        "aqueue completion zsh > ~/.zfunc/_aqueue      # in a folder of $fpath, before compinit",
        "aqueue completion fish > ~/.config/fish/completions/aqueue.fish",
    ),
)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes subcommands, options, events and item types in SHELL: bash, zsh or fish.

    The script calls aqueue to get the words, so it stays up to date by itself.
    """
    cls = get_completion_class(shell)
    assert cls is not None
    click.echo(cls(app, {}, "aqueue", "_AQUEUE_COMPLETE").source())
