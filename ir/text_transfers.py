"""Transfers and their hops in the text form: a line for a tensor between two stages, or inside one.

    send = "send" "%name" [ "into" "%name" ] "from" column ( "to" | "skipping" ) column "at" column
           "elements" column "each" column [ "place" column ]
           [ "hops" column ] [ "over" column ] [ "leaves" column ] [ "holds" column ]

Every column has an entry a transfer: source chips, destinations, start cycles, the first element and how
many. `skipping` counts the destinations without the source itself, so that all to all others is short.
The rest is left out where it is as usual: written to the same `place`; one hop, over the first cable
from source to destination; each hop leaves as soon as cut-through allows, and holds its link for its flits.
Transfers are in the order (start, source, destination, tensor, first); a plan with another order, or with
hops that are not in theirs, prints whole columns.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from .plan import HopColumns, Plan, TransferColumns
from .plan_columns import HOPS, TRANSFERS
from .target import Target
from .text_columns import as_dict, columns_text, complete
from .text_lexer import Line
from .text_names import tensor_ref
from .text_sequences import MOST_ROWS, column_text, read_column
from .types import DType

Columns = dict[str, np.ndarray]
_ORDER = ("first", "tensor", "destination", "source", "start")
"""Sorted by, the last one first, as numpy's lexsort has it."""


class Wiring:
    """What the usual hops of a transfer follow from. dtypes: of the tensors by position."""

    def __init__(self, target: Target, dtypes: Sequence[DType]) -> None:
        self._chips, self._link = target.topology.chips, target.link
        self._itemsize = np.array([dtype.itemsize for dtype in dtypes], dtype=np.int64)
        links = np.array(target.topology.links, dtype=np.int64).reshape(-1, 3)
        self._pairs, self._first = np.unique(links[:, 0] * self._chips + links[:, 1], return_index=True)

    def direct(self, source: np.ndarray, destination: np.ndarray) -> np.ndarray:
        """The first link from each source to its destination; -1 where there is none."""
        wanted = source * self._chips + destination
        if not len(self._pairs):
            return np.full(len(wanted), -1)
        place = np.minimum(np.searchsorted(self._pairs, wanted), len(self._pairs) - 1)
        return np.where(self._pairs[place] == wanted, self._first[place], -1)

    def holds(self, transfers: Mapping[str, np.ndarray]) -> np.ndarray:
        """Cycles for which each transfer holds a link."""
        nbytes = (transfers["last"] - transfers["first"]) * self._itemsize[transfers["tensor"]]
        flits: np.ndarray = -(-nbytes // self._link.flit_bytes)
        return flits * self._link.cycles_per_flit

    def leaves(self, start: np.ndarray, hop: np.ndarray) -> np.ndarray:
        later: np.ndarray = start + hop * (self._link.cycles_per_flit + self._link.hop_latency)
        return later


def transfer_lines(plan: Plan, wiring: Wiring, rows: np.ndarray | None = None) -> Iterator[str]:
    """All transfers of a plan, or those of some rows."""
    transfers = as_dict(plan.transfers, TRANSFERS)
    hops = as_dict(plan.hops, HOPS)
    count = len(transfers["tensor"])
    per = np.bincount(hops["transfer"], minlength=count)
    if not (_in_order(transfers) and _hops_in_order(hops, per)):
        yield from columns_text("transfers", TRANSFERS, transfers)
        yield from columns_text("hops", HOPS, hops)
        return
    usual = _Usual(transfers, hops, per, wiring)
    groups, order = _grouped(plan, transfers)
    if rows is not None:
        kept = np.isin(order, rows)
        groups, order = groups[kept], order[kept]
    bounds = np.flatnonzero(np.diff(groups, prepend=-1, append=-1))
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        yield usual.line(order[low:high], plan.tensor_names)


def _in_order(transfers: Columns) -> bool:
    order = np.lexsort([transfers[name] for name in _ORDER])
    return bool((order == np.arange(len(order))).all())


def _hops_in_order(hops: Columns, per: np.ndarray) -> bool:
    return bool((hops["transfer"] == np.repeat(np.arange(len(per)), per)).all()) and bool(
        (hops["hop"] == _counted(per)).all()
    )


def _counted(per: np.ndarray) -> np.ndarray:
    """0, 1, ... for each transfer's hops."""
    ends = np.cumsum(per)
    counted: np.ndarray = np.arange(per.sum()) - np.repeat(ends - per, per)
    return counted


def _grouped(plan: Plan, transfers: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Rows by source stage, destination stage and tensors, groups as their first rows come inside a stage:
    the number of the group, ascending, and the row."""
    stage_of = np.full(plan.target.topology.chips, -1)
    for number, stage in enumerate(plan.stages):
        stage_of[np.array(stage.chips, dtype=np.int64)] = number
    source, destination = stage_of[transfers["source"]], stage_of[transfers["destination"]]
    # Positions tell rows of one key apart: duplicates must come back in their order.
    keys = np.stack([source, destination, transfers["tensor"], transfers["into"]])
    _, first, inverse = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    place = np.empty(len(first), dtype=np.int64)
    place[np.lexsort([first, source[first]])] = np.arange(len(first))
    groups = place[inverse.reshape(-1)]
    order = np.argsort(groups, kind="stable")
    return groups[order], order


class _Usual:
    """Transfers with what is unusual about their hops."""

    def __init__(self, transfers: Columns, hops: Columns, per: np.ndarray, wiring: Wiring) -> None:
        self._transfers, self._hops, self._per = transfers, hops, per
        self._first_hop = np.cumsum(per) - per
        row = hops["transfer"]
        holds = hops["end"] - hops["start"]
        leaves = wiring.leaves(transfers["start"][row], hops["hop"])
        direct = wiring.direct(transfers["source"], transfers["destination"])
        self._odd = {
            "over": (per != 1) | (direct < 0),
            "leaves": np.zeros(len(per), dtype=bool),
            "holds": np.zeros(len(per), dtype=bool),
        }
        self._odd["over"][row[hops["link"] != direct[row]]] = True
        self._odd["leaves"][row[hops["start"] != leaves]] = True
        self._odd["holds"][row[holds != wiring.holds(transfers)[row]]] = True
        self._by_hop = {"over": hops["link"], "leaves": hops["start"], "holds": holds}

    def line(self, rows: np.ndarray, names: tuple[str, ...]) -> str:
        columns = {name: column[rows] for name, column in self._transfers.items()}
        tensor, into = int(columns["tensor"][0]), int(columns["into"][0])
        parts = [f"send {tensor_ref(names[tensor])}"]
        if into != tensor:
            parts.append(f"into {tensor_ref(names[into])}")
        parts.append(f"from {column_text(columns['source'])} {_destinations(columns)}")
        parts.append(f"at {column_text(columns['start'])} elements {column_text(columns['first'])}")
        parts.append(f"each {column_text(columns['last'] - columns['first'])}")
        if (columns["at"] != columns["first"]).any():
            parts.append(f"place {column_text(columns['at'])}")
        if (self._per[rows] != 1).any():
            parts.append(f"hops {column_text(self._per[rows])}")
        for word, odd in self._odd.items():
            if odd[rows].any():
                parts.append(f"{word} {column_text(self._by_hop[word][self._hop_rows(rows)])}")
        return " ".join(parts)

    def _hop_rows(self, rows: np.ndarray) -> np.ndarray:
        per = self._per[rows]
        hops: np.ndarray = np.repeat(self._first_hop[rows], per) + _counted(per)
        return hops


def _destinations(columns: Columns) -> str:
    """The shorter of both ways to say them; nobody sends to himself where `skipping` is said."""
    source, destination = columns["source"], columns["destination"]
    plain = f"to {column_text(destination)}"
    if len(source) < 4 or (source == destination).any():
        return plain
    return min(plain, f"skipping {column_text(destination - (destination > source))}", key=len)


class TransferReader:
    """Takes the lines of transfers, then puts transfers and hops in their order."""

    def __init__(self, numbers: Mapping[str, int], wiring: Wiring) -> None:
        self._numbers, self._wiring = numbers, wiring
        self._transfers: list[Columns] = []
        self._hops: list[Columns] = []

    def read(self, line: Line) -> None:
        """One line, the cursor behind its first word."""
        tensor = self._tensor(line)
        into = self._tensor(line) if line.accept("into") else tensor
        line.expect("from")
        source = read_column(line)
        count = len(source)
        skipping = line.peek().text == "skipping"
        destination = _counted_column(line, "skipping" if skipping else "to", count)
        if skipping:
            destination = destination + (destination >= source)
        start, first = _counted_column(line, "at", count), _counted_column(line, "elements", count)
        columns = {
            "tensor": np.full(count, tensor),
            "source": source,
            "destination": destination,
            "first": first,
            "last": first + _counted_column(line, "each", count),
            "start": start,
            "into": np.full(count, into),
            "at": _counted_column(line, "place", count) if line.peek().text == "place" else first,
        }
        self._transfers.append(columns)
        self._hops.append(self._read_hops(line, columns))
        line.end()

    def _tensor(self, line: Line) -> int:
        name = line.tensor()
        if name not in self._numbers:
            raise line.refusal("a tensor of the graph", f"%{name}")
        return self._numbers[name]

    def _read_hops(self, line: Line, transfers: Columns) -> Columns:
        count = len(transfers["source"])
        per = np.ones(count, dtype=np.int64)
        if line.peek().text == "hops":
            per = _counted_column(line, "hops", count)
            if per.size and not (0 <= per.min() <= per.max() <= MOST_ROWS and per.sum() <= MOST_ROWS):
                raise line.refusal(f"counts of hops, {MOST_ROWS} together at most")
        row, hop = np.repeat(np.arange(count), per), _counted(per)
        usual = {
            "over": self._wiring.direct(transfers["source"], transfers["destination"])[row],
            "leaves": self._wiring.leaves(transfers["start"][row], hop),
            "holds": self._wiring.holds(transfers)[row],
        }
        said = {
            word: _counted_column(line, word, len(row)) if line.peek().text == word else column
            for word, column in usual.items()
        }
        if said["over"].size and said["over"].min() < 0:
            raise line.refusal("links behind over, where no link joins the ends of a transfer directly")
        start = said["leaves"]
        return {"per": per, "hop": hop, "link": said["over"], "start": start, "end": start + said["holds"]}

    def columns(self) -> tuple[TransferColumns, HopColumns]:
        """All that was read, in the order of a plan."""
        none = np.zeros(0, dtype=np.int64)
        transfers = {n: np.concatenate([none, *(part[n] for part in self._transfers)]) for n, _ in TRANSFERS}
        hops = {
            name: np.concatenate([none, *(part[name] for part in self._hops)])
            for name in ("per", "hop", "link", "start", "end")
        }
        order = np.lexsort([transfers[name] for name in _ORDER])
        per = hops.pop("per")
        first = np.cumsum(per) - per
        rows = np.repeat(first[order], per[order]) + _counted(per[order])
        sorted_hops = {name: column[rows] for name, column in hops.items()}
        sorted_hops["transfer"] = np.repeat(np.arange(len(order)), per[order])
        sorted_transfers = {name: column[order] for name, column in transfers.items()}
        return (
            TransferColumns(**complete("transfers", TRANSFERS, sorted_transfers)),
            HopColumns(**complete("hops", HOPS, sorted_hops)),
        )


def _counted_column(line: Line, word: str, count: int) -> np.ndarray:
    """The column behind `word`, of `count` numbers."""
    line.expect(word)
    column = read_column(line)
    if len(column) != count:
        raise line.refusal(f"{count} numbers behind {word}", str(len(column)))
    return column
