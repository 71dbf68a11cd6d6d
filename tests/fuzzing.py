"""Fuzzing: mutated inputs through the command line, in worker processes with limits on memory and time.

    guard (this process)                    worker (one at a time)
    run_tries(kind, numbers, ...)  ------>  python -m tests.fuzzing SEEDS KIND FIRST LAST SEED
       waits for each line, LIMIT s         for each number: mutate, write the file, run the verb
       a worker that ends or hangs    <---  {"number": ..., "verdict": ..., "seconds": ...}
       is that try's verdict: crash

A try is a number: seed, kind and number give the same bytes on every machine.
"""

import contextlib
import io
import json
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np

from .fuzz_mutations import (
    Mutation,
    change_columns,
    change_document,
    change_structure,
    change_text,
    cut,
    flip_bytes,
    one,
    swap_tokens,
)

MEMORY = 4 * 2**30
"""Bytes of address space that a worker may have."""
LIMIT_SECONDS = 60
"""Of the clock, for one try, on a machine that may be busy."""
MOST_LINES = 120
_FOLDER = Path(__file__).parents[1]


@dataclass(frozen=True)
class Kind:
    """`family`: whose seeds are mutated. `share`: of all tries."""

    name: str
    family: str
    mutation: Mutation
    share: int


KINDS = (
    Kind("model: bytes", "model", flip_bytes, 16),
    Kind("model: cuts", "model", cut, 6),
    Kind("model: structure", "model", change_structure, 26),
    Kind("target: text", "target", change_text, 10),
    Kind("target: tokens", "target", swap_tokens, 10),
    Kind("baseline: text", "baseline", change_text, 8),
    Kind("baseline: tokens", "baseline", swap_tokens, 8),
    Kind("plan: bytes", "plan", flip_bytes, 4),
    Kind("plan: cuts", "plan", cut, 2),
    Kind("plan: document", "plan", change_document, 16),
    Kind("plan: columns", "plan", change_columns, 10),
)


@dataclass(frozen=True)
class Try:
    """What came of one try. verdict: refused (exit code 2, 3 or 4), accepted (0 or 1) or crash.
    seconds: processor time. codes: of the problems that it was refused with. detail: of a crash."""

    number: int
    verdict: str
    seconds: float
    command: str = ""
    codes: tuple[str, ...] = ()
    detail: str = ""


# The guard


def run_tries(seeds: Path, kind: Kind, numbers: range, seed: int) -> Iterator[Try]:
    """Every try once, a new worker after each crash."""
    while numbers:
        done = 0
        for tried in _worker_tries(seeds, kind, numbers, seed):
            done += 1
            yield tried
        numbers = numbers[done:]


def _worker_tries(seeds: Path, kind: Kind, numbers: range, seed: int) -> Iterator[Try]:
    """Those of one worker, the one that ends it too."""
    words = [str(seeds), kind.name, str(numbers.start), str(numbers.stop), str(seed)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fuzzing", *words],
        cwd=_FOLDER, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as worker:  # fmt: skip
        assert worker.stdout is not None
        lines: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_pass_on, args=(worker.stdout, lines), daemon=True)
        reader.start()
        for number in numbers:
            try:
                line = lines.get(timeout=LIMIT_SECONDS)
            except queue.Empty:
                line = f"not done in {LIMIT_SECONDS} s"
            if not line.startswith("{"):
                worker.kill()
                why = line or f"the worker ended with {worker.wait()}"
                yield Try(number, "crash", LIMIT_SECONDS, detail=why)
                return
            found = json.loads(line)
            yield Try(**found | {"codes": tuple(found["codes"])})


def _pass_on(source: IO[str], lines: "queue.Queue[str]") -> None:
    """Every line, and an empty one at the end."""
    for line in source:
        lines.put(line)
    lines.put("")


# The worker


def mutated(seeds: Path, kind: Kind, number: int, seed: int) -> bytes:
    """The input of a try."""
    random = np.random.default_rng([seed, zlib.crc32(kind.name.encode()), number])
    names = sorted(path for path in seeds.iterdir() if path.name.startswith(f"{kind.family}-"))
    return kind.mutation(one(names, random).read_bytes(), random)


def command_of(family: str, number: int, path: Path) -> list[str]:
    """The verb of a try, and every so often another."""
    file, every = str(path), number % 16
    if family == "model":
        compiled = [
            "compile",
            file,
            "--target",
            "tiny-ring",
            "--chips",
            "2",
            "--sequence",
            "8",
            "-o",
            "x.chiplan",
        ]
        return compiled if number % 40 == 0 else ["inspect", file, *["--json"] * (number % 2)]
    if family == "baseline":
        # What the command line gives, a mutated baseline cannot make large.
        given = ["--chips", "1", "--batch", "1", "--sequence", "8", "--users", "1"]
        return ["check", "bert-tiny", "--baseline", file, *given, *["--json"] * (number % 2)]
    if family == "target":
        return ["targets", "show", file, *["--json"] * (number % 2)]
    if number % 3 == 0:
        return ["show", file, *(["--svg", "x.svg", "--dot", "x.dot"] if every % 2 else ["--sharding"])]
    return ["simulate", file, *["--json"] * (number % 2)]


_SUFFIXES = {"model": ".onnx", "target": ".toml", "baseline": ".toml", "plan": ".chiplan"}
_WRITTEN = {"x.chiplan", "x.svg", "x.dot"}


def attempt(data: bytes, family: str, number: int) -> Try:
    """Run the verb of a try in this process, in the current folder, which is empty again afterwards."""
    from chiplan.compiler.cli import main

    path = Path(f"input{_SUFFIXES[family]}")
    path.write_bytes(data)
    command = command_of(family, number, path)
    out, errors = io.StringIO(), io.StringIO()
    begin = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = main(command)
    seconds = round(time.process_time() - begin, 3)
    printed = out.getvalue() + errors.getvalue()
    left = {file.name for file in Path().iterdir()} - {path.name}
    for name in (*left, path.name):
        Path(name).unlink()
    verdict = {0: "accepted", 1: "accepted", 2: "refused", 3: "refused", 4: "refused"}.get(code, "crash")
    detail = _complaint(verdict, printed, left)
    if verdict == "crash" or detail:
        return Try(number, "crash", seconds, " ".join(command), detail=f"{code}: {detail} {printed[:600]}")
    return Try(number, verdict, seconds, " ".join(command), _codes(printed) if verdict == "refused" else ())


def _complaint(verdict: str, printed: str, left: set[str]) -> str:
    """What must not be, whatever the exit code is."""
    if left - _WRITTEN or (verdict == "refused" and left):
        return f"files left: {sorted(left)}"
    if not printed.replace("\n", "").replace("\t", "").isprintable():
        return "prints what a terminal would obey"
    if verdict == "refused" and not printed.startswith("{") and printed.count("\n") > MOST_LINES:
        return f"{printed.count(chr(10))} lines"
    return "Traceback" if "Traceback (most recent call last)" in printed else ""


def _codes(printed: str) -> tuple[str, ...]:
    """Codes of the problems of a refusal under --json; its first line otherwise."""
    if not printed.startswith("{"):
        return (printed.split("\n", 1)[0][:160],)
    return tuple(dict.fromkeys(error["code"] for error in json.loads(printed)["errors"]))[:4]


def main_worker(words: Sequence[str]) -> None:
    """Tries FIRST..LAST-1 of a kind, one JSON object a line."""
    seeds, name, first, last, seed = words
    kind = next(kind for kind in KINDS if kind.name == name)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for number in range(int(first), int(last)):
            data = mutated(Path(seeds), kind, number, int(seed))
            found = attempt(data, kind.family, number)
            sys.stdout.write(json.dumps(asdict(found)) + "\n")
            sys.stdout.flush()


def shares(tries: int) -> Mapping[Kind, int]:
    """How many tries of each kind make `tries` in all, or a few more."""
    whole = sum(kind.share for kind in KINDS)
    return {kind: -(-tries * kind.share // whole) for kind in KINDS}


if __name__ == "__main__":
    main_worker(sys.argv[1:])
