"""One page of manual a verb, written from the command line itself, so that it cannot fall behind it."""

from collections.abc import Iterator
from textwrap import dedent, wrap

import click

from .cli_options import option_sections

_WIDTH = 110
EXIT_STATUS = """\
| code | meaning |
|---|---|
| 0 | done |
| 1 | a check said no |
| 2 | bad input or usage: one message a problem, no file written |
| 3 | infeasible: what is missing, how much, and the smallest chip count that fits |
| 4 | incomparable: what was given is not what it would be held against |
| 70 | a bug in chiplan, with how to report it |
| 130 | interrupted |
"""


def manual_pages(group: click.Group, name: str) -> dict[str, str]:
    """Markdown by file name (`compile.md`, `targets-show.md`): every verb, and `README.md`, their list."""
    pages: dict[str, str] = {}
    listed = []
    for words, command in _verbs(group, ()):
        file = f"{'-'.join(words)}.md"
        pages[file] = _page(command, " ".join((name, *words)))
        listed.append(f"| [`{name} {' '.join(words)}`]({file}) | {_sentences(command)[0]} |")
    head = f"# The verbs of {name}\n\nWritten from the command line; `{name} VERB --help` is the short form."
    lines = ["| verb | what it does |", "|---|---|", *listed]
    pages["README.md"] = f"{head}\n\n" + "\n".join(lines) + f"\n\n## Exit status\n\n{EXIT_STATUS}"
    return pages


def _verbs(group: click.Group, before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield (*before, name), command
        if isinstance(command, click.Group):
            yield from _verbs(command, (*before, name))


def _page(command: click.Command, path: str) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"# {path}", f"    {path} {usage}"]
    parts += ["\n".join(wrap(words, _WIDTH)) for words in _sentences(command)]
    for title, options in option_sections(command, context):
        parts += [f"## {title}", "\n".join(["| option | meaning |", "|---|---|", *map(_row, options)])]
    if command.epilog:
        parts += ["## Examples", _examples(command.epilog)]
    parts += ["## Exit status", EXIT_STATUS.rstrip()]
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
