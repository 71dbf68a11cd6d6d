"""`chiplan targets` and `chiplan models`: what ships."""

import click

from chiplan.ir import ExitCode

from .cli_options import with_json
from .cli_output import page, print_json, shown_lines

TARGETS_EXAMPLES = """
\b
Examples:
  chiplan targets
  chiplan targets show groq-node
"""
SHOW_EXAMPLES = """
\b
Examples:
  chiplan targets show groq-node
  chiplan targets show generic-ring > mychip.toml
  chiplan targets show ./mychip.toml --json
"""
MODELS_EXAMPLES = """
\b
Examples:
  chiplan models
  chiplan models --json
"""


@click.group("targets", invoke_without_command=True, epilog=TARGETS_EXAMPLES)
@with_json
@click.pass_context
def targets_group(context: click.Context, as_json: bool) -> ExitCode | None:
    """List the targets that ship; `show NAME` prints one with its sources."""
    context.obj = as_json
    if context.invoked_subcommand is not None:
        return None
    from .cli_catalogue import print_targets, targets_document

    if as_json:
        print_json(targets_document())
    else:
        print_targets(page())
    return ExitCode.DONE


@targets_group.command("show", epilog=SHOW_EXAMPLES)
@click.argument("name", metavar="NAME|FILE")
@with_json
@click.pass_obj
def show_target_verb(listed_as_json: bool, name: str, as_json: bool) -> ExitCode:
    """Print a target file: every hardware number and its source."""
    from .cli_catalogue import target_document

    document = target_document(name)
    if as_json or listed_as_json:
        print_json(document)
    else:
        click.echo(shown_lines(str(document["toml"])), nl=False)
    return ExitCode.DONE


@click.command("models", epilog=MODELS_EXAMPLES)
@with_json
def models_verb(as_json: bool) -> ExitCode:
    """List the models that ship."""
    from .cli_catalogue import models_document, print_models

    if as_json:
        print_json(models_document())
    else:
        print_models(page())
    return ExitCode.DONE
