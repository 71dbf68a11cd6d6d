"""Plans written as ONNX, and read back: `python -m benchmarks.round_trips DIR`.

For every model in the folder that carries its weights, and every case, three round trips: the annotated file
runs in onnxruntime with equal outputs; so do the files of the stages, one after the other; and the annotated
file compiles back to the same stages, meshes and splits.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from traceback import format_exc

import click
import numpy as np

from chiplan.compiler import compile_model
from chiplan.compiler.onnx_export import MANIFEST, PlannedFile
from chiplan.compiler.reference import run_original
from chiplan.compiler.reference_inputs import random_inputs
from chiplan.ir import BadInput, ChiplanError, Plan
from chiplan.models import load_target

CASES = ("groq-node:2,2", "tiny-ring:1,1,1")
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class RoundTrips:
    """annotated, split: the largest difference of an output from the model's own. cut, moved: nodes that are
    not where the plan has all of their operators. kept: (operators that split alike after compiling back,
    all of them); stages: whether stages, meshes and their operators are the same."""

    annotated: float
    split: float
    crossing: int
    cut: int
    moved: int
    kept: tuple[int, int]
    stages: bool

    @property
    def ok(self) -> bool:
        """Where a cut lies inside a node the stages cannot be the same; fp16 files round what crosses."""
        same = self.stages and self.kept[0] == self.kept[1]
        return self.annotated == 0.0 and self.split <= 1e-3 and (same or self.cut > 0)


def run_stages(folder: Path, inputs: Arrays) -> Arrays:
    """The model's outputs by the files of its stages, in the order of the manifest."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    values = dict(inputs)
    for stage in manifest["stages"]:
        given = {value["name"]: values[value["name"]] for value in stage["inputs"]}
        values |= run_original(folder / stage["file"], given)
    return {output["name"]: values[output["name"]] for output in manifest["outputs"]}


def largest_difference(found: Arrays, wanted: Arrays) -> float:
    """Between outputs of the same names; infinite where one is missing."""
    if found.keys() != wanted.keys():
        return float("inf")
    pairs = [(found[name].astype(np.float64), wanted[name].astype(np.float64)) for name in wanted]
    return max((float(np.abs(a - b).max(initial=0.0)) for a, b in pairs), default=0.0)


def round_trips(path: Path, target: str, groups: tuple[int, ...]) -> RoundTrips:
    """Compile, write, run, and compile back."""
    plan = compile_model(path, target=load_target(target), groups=groups).plan
    file = PlannedFile(plan, path)
    inputs = random_inputs(file.imported, 0)
    wanted = run_original(path, inputs)
    with TemporaryDirectory() as name:
        folder, annotated = Path(name) / "stages", Path(name) / path.name
        file.write_split(folder)
        split = largest_difference(run_stages(folder, inputs), wanted)
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        written = file.write_annotated(annotated)
        whole = largest_difference(run_original(annotated, inputs), wanted)
        back = compile_model(annotated, target=load_target(target), use_annotations=True).plan
    passed = [v for stage in manifest["stages"] for v in stage["inputs"] if v["from"] != "model"]
    first, second = splits(plan), splits(back)
    kept = sum(first.get(place) == how for place, how in second.items())
    same = first.keys() == second.keys() and _meshes(plan) == _meshes(back)
    counts = len(passed), len(written.cut), len(written.moved)
    return RoundTrips(whole, split, *counts, (kept, len(first)), same)


def splits(plan: Plan) -> dict[tuple[int, str], object]:
    """What every operator of every stage splits over which axes of its mesh, by stage and name."""
    return {
        (number, operator.name): [(operator.factors[s.factor].name, s.axes) for s in operator.splits]
        for number, stage in enumerate(plan.stages)
        for operator in (plan.graph.operators[index] for index in stage.program.operators)
    }


def _meshes(plan: Plan) -> list[tuple[int, ...]]:
    return [stage.mesh for stage in plan.stages]


def row(path: Path, target: str, groups: tuple[int, ...]) -> tuple[bool, str]:
    """Whether all is well, and the line of the table; a model without weights has none."""
    try:
        found = round_trips(path, target, groups)
    except BadInput as refusal:
        return refusal.problems[0].code == "reference_failed", f"left out: {refusal.problems[0].code}"
    except ChiplanError as refusal:
        return False, f"refused: {refusal.problems[0].message[:200]}"
    except Exception:
        return False, format_exc()
    kept, operators = found.kept
    return found.ok, (
        f"{found.annotated:9.1e} {found.split:9.1e} {found.crossing:6} {found.cut:4} {found.moved:6}"
        f" {'same' if found.stages else 'other':6} {kept:5}/{operators}"
    )


def cases(texts: tuple[str, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """`TARGET:N,N`: a target and the sizes of the groups."""
    for text in texts:
        target, _, sizes = text.partition(":")
        yield target, tuple(map(int, sizes.split(",")))


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--match", default="*.onnx", help="Glob of the files.")
@click.option("--case", "chosen", multiple=True, default=CASES, help="TARGET:SIZES of groups; repeatable.")
def main(folder: Path, match: str, chosen: tuple[str, ...]) -> None:
    """Print the table; exit 1 when a row is not well."""
    good = True
    click.echo(f"{'':5}{'model':36} {'case':15} annotated     split passed  cut  moved stages splits kept")
    for path in sorted(folder.glob(match)):
        for target, groups in cases(chosen):
            fine, text = row(path, target, groups)
            good &= fine
            case = f"{target}:{','.join(map(str, groups))}"
            click.echo(f"{'ok' if fine else 'BAD':4} {path.stem:36} {case:15} {text}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
