"""The files that a verb reads: a model where a model is expected, a plan where a plan is."""

from pathlib import Path

from chiplan.ir import BadInput, Plan, Problem, is_plan_file, read_plan
from chiplan.models import find_model, model_names
from chiplan.runtime_sim import structural_faults


def model_file(name_or_path: str) -> Path:
    """The model that a user means. Raises BadInput: `model_not_found`, `not_a_model` (a plan)."""
    path = find_model(name_or_path)
    if is_plan_file(path):
        message = f"{path} is a plan, not a model; give the .onnx file, or simulate or show the plan."
        raise BadInput(Problem("not_a_model", message))
    return path


def shown_plan(path: Path) -> Plan:
    """The same of a plan that holds together: of another, nothing could be shown.

    Raises BadInput (`plan_faulty`) besides."""
    plan = plan_of(path)
    faults = structural_faults(plan)
    if faults:
        message = (
            f"{path} does not hold together: {faults[0].message}. `chiplan simulate {path}` lists the faults."
        )
        raise BadInput(Problem("plan_faulty", message))
    return plan


def plan_of(path: Path) -> Plan:
    """The plan in a file. Raises BadInput as `read_plan` does; a shipped model's name is no plan."""
    if str(path) in model_names() and not path.exists():
        message = f"{path} is a model, not a plan. Compile it first: chiplan compile {path} --target NAME"
        raise BadInput(Problem("not_a_plan", message))
    return read_plan(path)
