"""One page of manual a verb, written from the command line itself, so that it cannot fall behind it."""

from collections.abc import Collection, Iterator, Mapping
from textwrap import dedent, wrap

import click

from chiplan.ir import ExitCode

from .cli_options import option_sections

_WIDTH = 110
_MEANINGS = {
    0: "done",
    1: "a check said no",
    2: "bad input or usage: one message a problem, no file written",
    3: "infeasible: what is missing, how much, and the smallest chip count that fits",
    4: "incomparable: what was given is not what it would be held against",
    70: "a bug in chiplan, with how to report it",
    130: "interrupted",
}
_ALWAYS = (0, 2, 70, 130)
"""Codes that any verb can end with."""


def _exit_status(codes: Collection[int]) -> str:
    rows = (f"| {code} | {words} |" for code, words in _MEANINGS.items() if code in codes)
    return "\n".join(["## Exit status\n", "| code | meaning |", "|---|---|", *rows])


def manual_pages(group: click.Group, name: str, ends: Mapping[str, tuple[ExitCode, ...]]) -> dict[str, str]:
    """Markdown by file name (`compile.md`, `targets-show.md`): every verb, and `README.md`, their list. ends:
    codes of verbs besides those of all."""
    pages: dict[str, str] = {}
    listed = []
    for words, command in _verbs(group, ()):
        file = f"{'-'.join(words)}.md"
        pages[file] = _page(command, " ".join((name, *words)), ends.get(" ".join(words), ()))
        listed.append(f"| [`{name} {' '.join(words)}`]({file}) | {_sentences(command)[0]} |")
    head = f"# The verbs of {name}\n\nWritten from the command line; `{name} VERB --help` is the short form."
    lines = ["| verb | what it does |", "|---|---|", *listed]
    pages["README.md"] = f"{head}\n\n" + "\n".join(lines) + f"\n\n{_exit_status(_MEANINGS)}\n"
    return pages


def _verbs(group: click.Group, before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from _verbs(command, (*before, name))


def _page(command: click.Command, path: str, ends: tuple[ExitCode, ...]) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"# {path}", f"    {path} {usage}"]
    parts += ["\n".join(wrap(words, _WIDTH)) for words in _sentences(command)]
    for title, options in option_sections(command, context):
        parts += [f"## {title}", "\n".join(["| option | meaning |", "|---|---|", *map(_row, options)])]
    if command.epilog:
        parts += ["## Examples", _examples(command.epilog)]
    parts.append(_exit_status((*_ALWAYS, *ends)))
    return "\n\n".join(parts) + "\n"


def _sentences(command: click.Command) -> list[str]:
    """The paragraphs of a verb's description."""
    text = dedent(command.help or "").replace("\b\n", "")
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n") if paragraph.strip()]


def _row(option: tuple[str, str]) -> str:
    names, words = (" ".join(text.split()).replace("|", "\\|") for text in option)
    return f"| `{names}` | {words} |"


def _examples(epilog: str) -> str:
    """The lines below `Examples:`, as a block of code."""
    lines = [line.strip() for line in epilog.split("Examples:")[-1].split("\n\n")[0].splitlines()]
    return "\n".join(f"    {line}" for line in lines if line)
