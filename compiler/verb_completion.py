"""`chiplan completion`: the script by which a shell completes verbs, options, models and targets."""

import click
from click.shell_completion import get_completion_class

from chiplan.ir import ExitCode

EXAMPLES = """
\b
Examples:
  chiplan completion bash > ~/.local/share/bash-completion/completions/chiplan
  chiplan completion zsh > "${fpath[1]}/_chiplan"
  chiplan completion fish > ~/.config/fish/completions/chiplan.fish
"""


@click.command("completion", epilog=EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_verb(context: click.Context, shell: str) -> ExitCode:
    """Print the script that completes chiplan's words in SHELL.

    It asks chiplan itself, so it knows the verbs, options, shipped models and targets of whatever version is
    installed.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "chiplan", "_CHIPLAN_COMPLETE").source(), nl=False)
    return ExitCode.DONE
