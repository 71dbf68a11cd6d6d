"""Finds and reads target files: a chip, its links and a system as TOML text to `ir.Target`."""

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path

from chiplan.ir import BadInput, Lines, Problem, Target, TooLarge, printable, read_regular

from .target_schema import read_chip, read_cost, read_deskew, read_host, read_link, read_rules, read_topology
from .toml_reader import Findings, Table

MOST_BYTES = 1_000_000
_MOST_DOTS_IN_LINE = 64
_SHIPPED = Path(__file__).parent / "targets"
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def target_names() -> tuple[str, ...]:
    """The shipped targets, sorted."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def target_text(name_or_path: str | Path) -> str:
    """The TOML text of a target; raises BadInput where there is none that can be read."""
    return _read_text(find_target(name_or_path), str(name_or_path))


def load_target(name_or_path: str | Path) -> Target:
    """A shipped target by name, or the user's own by path (has a separator, or ends in .toml).

    Raises BadInput with every problem of the file: `target_not_found`, `target_unreadable`,
    `target_syntax`, `target_key_unknown`, `target_key_missing`, `target_value`.
    """
    path = find_target(name_or_path)
    text = _read_text(path, str(name_or_path))
    source = path.name if path.parent == _SHIPPED else str(name_or_path)
    return parse_target(text, printable(path.stem), source)


def parse_target(text: str, name: str, source: str) -> Target:
    """The target that `text` describes; `source` is what messages call the file."""
    text = text.replace("\r\n", "\n")
    findings = Findings(source, text)
    document = Table(_parse_toml(text, source), (), findings)
    rules = read_rules(document)
    chip = read_chip(document.table("chip"), rules)
    link = read_link(document.table("link"))
    system = document.table("system")
    deskew = read_deskew(system, rules)
    topology = read_topology(system)
    host = read_host(document, rules)
    cost = read_cost(document.optional_table("cost"))
    document.close()
    findings.refuse()
    # What is not there has been noted, and refused above.
    assert topology is not None
    return Target(name, chip, link, topology, cost, deskew, host, sources=Lines(text))


def find_target(name_or_path: str | Path) -> Path:
    """The file that is meant; raises BadInput for a name that no shipped target has."""
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith(".toml"):
        return Path(text)
    if text in target_names():
        return _SHIPPED / f"{text}.toml"
    known = ", ".join(target_names())
    close = get_close_matches(text, target_names(), n=3)
    nearest = f" Did you mean {' or '.join(close)}?" if close else ""
    raise BadInput(
        Problem(
            "target_not_found",
            f"unknown target {text!r}; known: {known}.{nearest} "
            f"Your own file is given as a path: ./{text}.toml",
        )
    )


def _read_text(path: Path, source: str) -> str:
    """The file's text, of at most a megabyte."""
    try:
        content = read_regular(path, MOST_BYTES)
    except TooLarge as error:
        message = f"{source}: expected a target file of at most {MOST_BYTES:,} bytes, found {error.size:,}"
        raise BadInput(Problem("target_unreadable", message)) from None
    except FileNotFoundError:
        message = f"{source}: no such file; `chiplan targets` lists the targets that ship with chiplan"
        raise BadInput(Problem("target_not_found", message)) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise BadInput(
            Problem(
                "target_unreadable", f"{source!r}: cannot be read: {reason}; expected a target file in TOML"
            )
        ) from None
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        message = f"{source}:{line}: expected UTF-8 text, found the byte 0x{content[error.start]:02x}"
        raise BadInput(Problem("target_syntax", message)) from None


def _parse_toml(text: str, source: str) -> dict[str, object]:
    """The document; raises BadInput (`target_syntax`) with the line."""
    line = 1 + text.count("\n")
    try:
        _refuse_long_keys(text, source)
        return tomllib.loads(text)
    except RecursionError:
        raise BadInput(Problem("target_syntax", f"{source}: lists or tables nested too deeply")) from None
    except tomllib.TOMLDecodeError as error:
        message = str(error)
    except ValueError:
        # The one other error: Python converts no decimal number of more than 4,300 digits.
        raise BadInput(Problem("target_syntax", f"{source}: a number has too many digits")) from None
    place = _PLACE.search(message)
    column = ""
    if place and place[1]:
        line, column = int(place[1]), f", column {place[2]}"
    reason = _PLACE.sub("", message)
    raise BadInput(Problem("target_syntax", f"{source}:{line}{column}: not valid TOML: {reason}"))


def _refuse_long_keys(text: str, source: str) -> None:
    """The parser's time grows with the square of the parts of a dotted key: a.a.a.a..."""
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > _MOST_DOTS_IN_LINE and len(re.findall(r"\.+", line)) > _MOST_DOTS_IN_LINE:
            message = f"{source}:{number}: expected at most {_MOST_DOTS_IN_LINE} dots in a line"
            raise BadInput(Problem("target_syntax", message))
