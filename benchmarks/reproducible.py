"""The same plans by other interpreters: `python -m benchmarks.reproducible --python PATH ...`.

Each interpreter gets an environment of its own, with chiplan and what it needs, in a scratch folder; then it
compiles the same models there. Exit code 1 when the bytes differ.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click

FOLDER = Path(__file__).parents[1]
CASES = (
    ("bert-tiny", "tiny-ring", {"chips": 2, "groups": (2,)}),
    ("llama-tiny-gqa-past", "tiny-ring", {"chips": 4, "context": 64}),
    ("gpt2-tiny-qdq-int8", "tiny-ring", {"chips": 3}),
    ("mixtral-tiny", "groq-node", {"chips": 4}),
    ("gpt2", "groq-node", {"chips": 8}),
)
_SCRIPT = """
import hashlib, json, platform, sys
from importlib.metadata import version
from chiplan.compiler import compile_model
from chiplan.ir import plan_bytes
from chiplan.models import find_model, load_target

found = {}
for model, target, options in json.loads(sys.stdin.read()):
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    plan = compile_model(find_model(model), target=load_target(target), **options).plan
    found[f"{model} on {target}"] = hashlib.sha256(plan_bytes(plan)).hexdigest()
versions = {name: version(name) for name in ("numpy", "onnx", "ortools")}
print(json.dumps({"python": platform.python_version(), "versions": versions, "plans": found}))
"""


def environment(python: str, scratch: Path) -> Path:
    """A fresh environment of an interpreter with chiplan installed; its interpreter."""
    subprocess.run([python, "-m", "venv", str(scratch)], check=True)
    own = scratch / "bin/python"
    subprocess.run([own, "-m", "pip", "install", "--quiet", str(FOLDER)], check=True, cwd=scratch)
    return own


def plans(python: Path | str, folder: Path) -> dict[str, object]:
    """What an interpreter makes of the cases."""
    done = subprocess.run(
        [python, "-c", _SCRIPT],
        input=json.dumps(CASES),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def table(results: list[Mapping[str, object]]) -> str:
    """One row a case, one column an interpreter."""
    names = [f"Python {result['python']}" for result in results]
    lines = [f"| plan | {' | '.join(names)} | |", f"|---|{'---|' * len(names)}---|"]
    for case in results[0]["plans"]:
        sums = [str(result["plans"][case]) for result in results]
        verdict = "equal" if len(set(sums)) == 1 else "DIFFERENT"
        lines.append(f"| {case} | {' | '.join(f'`{text[:16]}`' for text in sums)} | {verdict} |")
    return "\n".join(lines)


@click.command()
@click.option(
    "--python", "pythons", multiple=True, metavar="PATH", help="Another interpreter; may be repeated."
)
def main(pythons: tuple[str, ...]) -> None:
    """Print the table; exit 1 when plans differ."""
    with tempfile.TemporaryDirectory() as scratch:
        results = [plans(sys.executable, Path(scratch))]
        for number, python in enumerate(pythons):
            place = Path(scratch) / f"python{number}"
            results.append(plans(environment(python, place), place))
    click.echo(table(results))
    for result in results:
        click.echo(f"Python {result['python']}: {result['versions']}")
    raise SystemExit(0 if all(result["plans"] == results[0]["plans"] for result in results) else 1)


if __name__ == "__main__":
    main()
