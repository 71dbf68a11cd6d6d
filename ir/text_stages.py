"""Stages and their tile programs in the text form: a line a stage, then a line for each of its operators.

    stage   = "stage" number "chips" column "mesh" ints [ "recomputes" op { "," op } ]
    op      = "@name" | "@#" number            by place in the graph where the name is not the only one
    program = op { ref ":" block } | op "blocks" ints "order" ints
              [ "at" column "for" column ] [ "on" column ] [ "tile" column ] [ "unit" column ]

`ref:block` are the loops over tiles, the outermost first, with the extent of a tile. `at` are the tiles'
start cycles in the order of their numbers, `for` the cycles that each takes, `on` the instance of the unit
(left out: 0). Tiles that are not numbered 0, 1, 2, ..., or not on the operator's unit, say so.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .graph import Operator, Unit
from .plan import Stage, TileColumns, TileProgram
from .plan_columns import TILES
from .text_columns import as_dict, columns_text, complete, read_raw
from .text_factors import FactorNames
from .text_lexer import Line, integers_text
from .text_names import operator_ref
from .text_sequences import column_text, read_column
from .tiling import Tiling
from .types import ChipId

_NUMBERED = re.compile(r"#\d+")
_UNITS = tuple(Unit)


class OperatorNames:
    """How the operators of a graph are referred to."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = operators
        self._numbers: dict[str, int] = {}
        several = set()
        for number, operator in enumerate(operators):
            if operator.name in self._numbers or _NUMBERED.fullmatch(operator.name):
                several.add(operator.name)
            self._numbers[operator.name] = number
        for name in several:
            del self._numbers[name]

    def ref(self, number: int) -> str:
        if 0 <= number < len(self.operators) and self.operators[number].name in self._numbers:
            return operator_ref(self.operators[number].name)
        return f"@#{number}"

    def read(self, line: Line) -> int:
        name = line.at()
        if name in self._numbers:
            return self._numbers[name]
        if not _NUMBERED.fullmatch(name[:12]):
            raise line.refusal("an operator of the graph", f"@{name}")
        return int(name[1:])

    def get(self, number: int) -> Operator | None:
        return self.operators[number] if 0 <= number < len(self.operators) else None


def stage_lines(number: int, stage: Stage, names: OperatorNames) -> Iterator[str]:
    """Stage `number` and its program, a line each."""
    chips = column_text(np.array(stage.chips, dtype=np.int64))
    line = f"stage {number} chips {chips} mesh {integers_text(stage.mesh)}"
    if stage.recomputed:
        line += f" recomputes {', '.join(map(names.ref, stage.recomputed))}"
    yield line
    yield from program_lines(stage.program, names)


def program_lines(program: TileProgram, names: OperatorNames) -> Iterator[str]:
    owner = program.tiles.operator.astype(np.int64)
    count = len(program.operators)
    sorted_rows = bool((np.diff(owner) >= 0).all()) and (not owner.size or 0 <= owner[0] <= owner[-1] < count)
    bounds = np.searchsorted(owner, np.arange(count + 1)) if sorted_rows else np.zeros(count + 1, dtype=int)
    for place, tiling in enumerate(program.tilings):
        number = program.operators[place]
        rows = slice(int(bounds[place]), int(bounds[place + 1]))
        parts = [names.ref(number), _tiling_text(tiling, names.get(number))]
        parts += _tiles_text(program.tiles, rows, names.get(number))
        yield " ".join(part for part in parts if part)
    if not sorted_rows:
        yield from columns_text("tiles", TILES, as_dict(program.tiles, TILES))


def _tiling_text(tiling: Tiling, operator: Operator | None) -> str:
    count = len(tiling.blocks)
    whole = operator is not None and len(operator.factors) == count
    if operator is None or not whole or sorted(tiling.order) != list(range(count)):
        return f"blocks {integers_text(tiling.blocks)} order {integers_text(tiling.order)}"
    names = FactorNames(operator.factors)
    return " ".join(f"{names.ref(factor)}:{tiling.blocks[factor]}" for factor in tiling.order)


def _tiles_text(tiles: TileColumns, rows: slice, operator: Operator | None) -> Iterator[str]:
    start, end = tiles.start[rows].astype(np.int64), tiles.end[rows].astype(np.int64)
    if not start.size:
        return
    yield f"at {column_text(start)} for {column_text(end - start)}"
    if tiles.instance[rows].any():
        yield f"on {column_text(tiles.instance[rows])}"
    if (tiles.tile[rows] != np.arange(len(start))).any():
        yield f"tile {column_text(tiles.tile[rows])}"
    if operator is None or (tiles.unit[rows] != _UNITS.index(operator.unit)).any():
        yield f"unit {column_text(tiles.unit[rows])}"


@dataclass
class StageReader:
    """Takes the lines of one stage, the first one read."""

    names: OperatorNames
    chips: tuple[ChipId, ...]
    mesh: tuple[int, ...]
    recomputed: tuple[int, ...]
    _operators: list[int] = field(default_factory=list)
    _tilings: list[Tiling] = field(default_factory=list)
    _tiles: list[Mapping[str, np.ndarray]] = field(default_factory=list)
    _raw: dict[str, np.ndarray] = field(default_factory=dict)

    def read_program(self, line: Line) -> None:
        """One operator and its tiles."""
        number = self.names.read(line)
        operator = self.names.get(number)
        tiling = _read_tiling(line, operator)
        self._tiles.append(_read_tiles(line, len(self._operators), operator))
        self._operators.append(number)
        self._tilings.append(tiling)
        line.end()

    def read_column(self, line: Line) -> None:
        read_raw(line, TILES, self._raw)

    def stage(self) -> Stage:
        none = np.zeros(0, dtype=np.int64)
        said = {name: np.concatenate([none, *(tiles[name] for tiles in self._tiles)]) for name, _ in TILES}
        tiles = TileColumns(**complete("tiles", TILES, said | self._raw))
        program = TileProgram(tuple(self._operators), tuple(self._tilings), tiles)
        return Stage(self.chips, self.mesh, program, self.recomputed)


def read_stage(line: Line, number: int, names: OperatorNames) -> StageReader:
    """The reader for stage `number`, its first line at the cursor."""
    line.expect("stage")
    if line.peek().text != str(number):
        raise line.refusal(f"stage {number}; stages come in their order")
    line.integer()
    line.expect("chips")
    chips = tuple(map(ChipId, read_column(line).tolist()))
    line.expect("mesh")
    mesh = line.integers()
    recomputed = line.items(lambda: names.read(line)) if line.accept("recomputes") else ()
    line.end()
    return StageReader(names, chips, mesh, recomputed)


def _read_tiling(line: Line, operator: Operator | None) -> Tiling:
    if line.accept("blocks"):
        blocks = line.integers()
        line.expect("order")
        return Tiling(blocks, line.integers())
    names = FactorNames(() if operator is None else operator.factors)
    sizes: dict[int, int] = {}
    while line.peek(1).text == ":" or line.peek(2).text == ":":
        factor = names.read(line)
        line.expect(":")
        sizes[factor] = line.integer()
    order = tuple(sizes)
    if sorted(order) != list(range(len(order))):
        raise line.refusal("a block for every factor")
    return Tiling(tuple(sizes[factor] for factor in range(len(order))), order)


def _read_tiles(line: Line, place: int, operator: Operator | None) -> Mapping[str, np.ndarray]:
    start = read_column(line) if line.accept("at") else np.zeros(0, dtype=np.int64)
    count = len(start)
    cycles = _column(line, "for", count, None) if count else start
    unit = None if operator is None else np.full(count, _UNITS.index(operator.unit))
    return {
        "operator": np.full(count, place),
        "instance": _column(line, "on", count, np.zeros(count, dtype=np.int64)),
        "tile": _column(line, "tile", count, np.arange(count)),
        "unit": _column(line, "unit", count, unit),
        "start": start,
        "end": start + cycles,
    }


def _column(line: Line, word: str, count: int, usual: np.ndarray | None) -> np.ndarray:
    """The column behind `word`, or the usual one; all columns of a line are of one length."""
    if usual is not None and not line.accept(word):
        return usual
    if usual is None and count:
        line.expect(word)
    elif usual is None:
        return np.zeros(0, dtype=np.int64)
    column = read_column(line)
    if len(column) != count:
        raise line.refusal(f"{count} numbers behind {word}", str(len(column)))
    return column
