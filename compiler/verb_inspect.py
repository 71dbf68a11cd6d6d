"""`chiplan inspect`: what a model holds, before anything else."""

import click

from chiplan.ir import ExitCode

from .cli_options import MODEL, with_json
from .cli_output import page, print_json

EXAMPLES = """
\b
Examples:
  chiplan inspect mymodel.onnx
  chiplan inspect llama2-7b-decode --json
"""


@click.command("inspect", epilog=EXAMPLES)
@MODEL
@with_json
def inspect_verb(model: str, as_json: bool) -> ExitCode:
    """Show what MODEL holds and what of it is not supported, before anything else.

    Inputs, symbolic dimensions with what they mean and what they will be bound to, parameters, operators,
    resident state. No weight is read.
    """
    from .cli_inputs import model_file
    from .cli_inspect import inspect_document, print_inspection

    path = model_file(model)
    if as_json:
        print_json(inspect_document(path))
    else:
        print_inspection(page(), path)
    return ExitCode.DONE
