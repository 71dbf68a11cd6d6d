"""`chiplan compile --check-reproducible`: the same once more, elsewhere, byte for byte.

The second time is a fresh process with another hash seed, in another folder.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from chiplan.ir import InternalFault, Problem, first_difference, plan_bytes
from chiplan.models import load_target, target_names

Request: TypeAlias = Mapping[str, Any]
"""What `compile_model` is called with, as JSON values: `model` is a path, `target` a name or a path."""

_CHILD = "from chiplan.compiler.reproducible import answer; answer()"


def compile_request(model: Path, target: str, **options: Any) -> Request:
    """A request that means the same in every folder."""
    place = target if target in target_names() else str(Path(target).absolute())
    return {"model": str(model.absolute()), "target": place, "options": options}


def check_reproducible(data: bytes, request: Request, again: Callable[[Request], bytes]) -> None:
    """Raises InternalFault (`not_reproducible`) unless `again` gives the very bytes `data`."""
    difference = first_difference(data, again(request))
    if difference is not None:
        raise _fault(f"compiled twice, the plan differs: {difference}")


def compile_again(request: Request) -> bytes:
    """The plan's bytes from a fresh process. Raises InternalFault (`not_reproducible`) where it fails."""
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    # Where this process found its modules, told so that it holds in another folder.
    places = os.pathsep.join(str(Path(place).absolute()) for place in sys.path if place)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _CHILD],
            input=json.dumps(request).encode(),
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": places},
            capture_output=True,
            check=False,
        )
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise _fault(f"compiled a second time, it failed: {words[-1]}")
    return done.stdout


def answer() -> None:
    """In the fresh process: a request on standard input, the plan's bytes on standard output."""
    from .compile import compile_model

    request = json.loads(sys.stdin.buffer.read())
    options = {name: _as_given(value) for name, value in request["options"].items()}
    compiled = compile_model(Path(request["model"]), target=load_target(request["target"]), **options)
    sys.stdout.buffer.write(plan_bytes(compiled.plan))


def _as_given(value: Any) -> Any:
    """JSON knows no tuples: lists of options are tuples."""
    return tuple(map(_as_given, value)) if isinstance(value, list) else value


def _fault(message: str) -> InternalFault:
    return InternalFault(Problem("not_reproducible", f"{message}. Nothing is written."))
