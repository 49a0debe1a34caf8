"""`hitless completion`: the script that completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """
    Print the script that completes commands.

    \b
    Examples:
      hitless completion bash >> ~/.bashrc
      hitless completion zsh >> ~/.zshrc
      hitless completion fish > ~/.config/fish/completions/hitless.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these three shells"
    script = kind(ctx.find_root().command, {}, "hitless", "_HITLESS_COMPLETE")
    # Not `script.source()`: for bash it starts a shell to ask its version.
    click.echo(ShellComplete.source(script))
