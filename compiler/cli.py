"""The command line: its verbs, and what becomes of every way in which they end.

What a verb needs is imported inside it, so that `--help` and `--version` answer at once.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from errno import ENOSPC
from importlib.metadata import version

import click

from chiplan.ir import ChiplanError, ExitCode, InternalFault, Problem

from .cli_output import print_refusal
from .verb_catalogue import models_verb, targets_group
from .verb_check import check_verb
from .verb_compile import compile_verb
from .verb_completion import completion_verb
from .verb_diff import diff_verb
from .verb_export import export_verb
from .verb_inspect import inspect_verb
from .verb_scale import scale_verb
from .verb_show import show_verb
from .verb_simulate import simulate_verb

VERBS: tuple[click.Command, ...] = (
    check_verb,
    compile_verb,
    completion_verb,
    diff_verb,
    export_verb,
    inspect_verb,
    models_verb,
    scale_verb,
    show_verb,
    simulate_verb,
    targets_group,
)

ENDS: dict[str, tuple[ExitCode, ...]] = {
    "check": (ExitCode.CHECK_FAILED, ExitCode.INFEASIBLE, ExitCode.INCOMPARABLE),
    "compile": (ExitCode.INFEASIBLE,),
    "export": (ExitCode.INCOMPARABLE,),
    "scale": (ExitCode.CHECK_FAILED, ExitCode.INFEASIBLE),
    "simulate": (ExitCode.CHECK_FAILED, ExitCode.INCOMPARABLE),
}
"""Exit codes of verbs besides those that any can end with: done, bad input, a bug, interrupted."""

EXAMPLES = """
\b
Examples:
  chiplan compile gpt2 --target groq-node --chips 8 -o gpt2.chiplan
  chiplan simulate gpt2.chiplan
  chiplan show gpt2.chiplan --svg gpt2.svg
  chiplan show gpt2.chiplan --sharding
  chiplan compile llama2-7b-decode --target groq-rack --objective latency
  chiplan scale bert-large --chips 4-8 --min-efficiency 0.9
  chiplan diff before.chiplan after.chiplan --html diff.html
  chiplan check mymodel.onnx --baseline perf.toml
  chiplan inspect mymodel.onnx
  chiplan compile my.onnx --sequence 128 --target ./mychip.toml --json

\b
Exit codes: 0 done, 1 a check said no, 2 bad input or usage, 3 infeasible,
4 incomparable, 70 a bug in chiplan.
"""


@click.group(
    "chiplan",
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
)
@click.version_option(version("chiplan"), prog_name="chiplan")
def chiplan() -> None:
    """Plan an ONNX transformer on many deterministic chips, and prove the plan.

    MODEL is the path of an .onnx file or the name of a model that ships with chiplan.
    """


for _verb in VERBS:
    chiplan.add_command(_verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a verb and returns the exit code. Nothing but a bug in chiplan ends in a traceback, and
    that only where CHIPLAN_TRACEBACK is set."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
        code = int(chiplan.main(args=words, prog_name="chiplan", standalone_mode=False) or 0)
        sys.stdout.flush()
        return code
    except ChiplanError as refusal:
        if isinstance(refusal, InternalFault):
            return _report_bug(refusal, refusal.problems, as_json)
        print_refusal(refusal.problems, refusal.exit_code, as_json)
        return refusal.exit_code
    except click.ClickException as error:
        return _report_usage(error, as_json)
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader went away (`chiplan show ... | head`); nothing is left to say to it.
        _forget_output()
        return 141
    except MemoryError:
        message = (
            "this takes more memory than there is here; give the process more, or plan something smaller"
        )
        print_refusal((Problem("out_of_memory", message),), ExitCode.BAD_INPUT, as_json)
        return ExitCode.BAD_INPUT
    except Exception as error:
        if isinstance(error, OSError) and error.errno == ENOSPC:
            _forget_output()
            sys.stderr.write("error: cannot write standard output: no space is left there\n")
            return ExitCode.BAD_INPUT
        message = f"{type(error).__name__}: {error}"
        return _report_bug(error, (Problem("bug", message),), as_json)


def _forget_output() -> None:
    """What is still buffered goes nowhere, so that the end of the process does not fail on it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_usage(error: click.ClickException, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "chiplan"
    message = f"{error.format_message()} (see {path} --help)"
    print_refusal((Problem("usage", message),), ExitCode.BAD_INPUT, as_json)
    return ExitCode.BAD_INPUT


def _report_bug(error: Exception, problems: Sequence[Problem], as_json: bool) -> int:
    print_refusal(problems, ExitCode.BUG, as_json)
    sys.stderr.write(
        f"This is a bug in chiplan {version('chiplan')}, not in your input. Please report it with the "
        "command line, the output of CHIPLAN_TRACEBACK=1 and the same command, and the model file if "
        "you may share it.\n"
    )
    if os.environ.get("CHIPLAN_TRACEBACK"):
        traceback.print_exception(error)
    return ExitCode.BUG
