"""`chiplan export`: a plan in terms of its ONNX file, for other tools."""

from pathlib import Path

import click

from chiplan.ir import ExitCode

from .cli_options import MODEL, OUTPUT, PLAN, with_json
from .cli_output import page, print_json
from .collection import collection_paused
from .output_places import check_places, outputs

EXPORT_EXAMPLES = """
\b
Examples:
  chiplan export gpt2.chiplan gpt2 --onnx gpt2.annotated.onnx
  chiplan export gpt2.chiplan gpt2 --split gpt2-stages
  chiplan compile gpt2.annotated.onnx --target groq-node --use-annotations
"""


@click.command("export", epilog=EXPORT_EXAMPLES)
@PLAN
@MODEL
@click.option("--onnx", "annotated", type=OUTPUT, help="Write MODEL with multi-device annotations.")
@click.option("--split", "folder", type=OUTPUT, metavar="DIR", help="Write one ONNX file a stage.")
@with_json
@collection_paused()
def export_verb(
    plan_path: Path, model: str, annotated: Path | None, folder: Path | None, as_json: bool
) -> ExitCode:
    """Write PLAN into MODEL, which it was made from, as standard ONNX."""
    from .cli_inputs import model_file, plan_of

    if annotated is None and folder is None:
        raise click.UsageError("nothing to write; give --onnx FILE or --split DIR, or both")
    source = model_file(model)
    written = outputs({"--onnx": annotated}, folders={"--split": folder})
    check_places({"PLAN": plan_path, "MODEL": source}, written)
    plan = plan_of(plan_path)

    from .cli_export import print_written, written_document
    from .onnx_export import PlannedFile

    file = PlannedFile(plan, source)
    # The annotations go into the model in memory: stages are written without them.
    split = None if folder is None else file.write_split(folder)
    whole = None if annotated is None else file.write_annotated(annotated)
    if as_json:
        print_json(written_document(annotated, whole, folder, split))
    else:
        console = page()
        if annotated is not None and whole is not None:
            print_written(console, annotated, whole)
        if folder is not None and split is not None:
            print_written(console, folder, split)
    return ExitCode.DONE
