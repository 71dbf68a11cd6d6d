"""The fixture `chip_plan`: its options are read as the command line reads them, or fail with one message."""

from collections.abc import Mapping
from math import nan

import pytest

from chiplan.compiler.pytest_plugin import ChipPlans
from chiplan.compiler.python_options import planning_arguments


def test_arguments_are_those_of_the_command_line() -> None:
    given = {"groups": (1, 1), "max_latency": 300, "bind": {"images": 4}, "host": True, "wire": None}
    found = planning_arguments(given | {"pins": [("node", "n")]})
    assert found["groups"] == (1, 1)
    assert found["max_latency"] == 300
    assert found["bind"] == {"images": 4}
    assert found["pins"] == (("node", "n"),) == planning_arguments({"pin": ["node=n"]})["pins"]
    assert found["host"] is True
    assert found["wire"] is None
    assert found["objective"] == "throughput"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"chips": "2"}, "chips: expected a whole number, found '2'"),
        ({"chips": True}, "chips: expected a whole number, found True"),
        ({"chips": 2.5}, "chips: expected a whole number, found 2.5"),
        ({"chips": 0}, "expected a whole number from 1"),
        ({"chipz": 2}, "there is no option chipz; known: chips, objective"),
        ({"output": "x"}, "there is no option output"),
        ({"max_latency": nan}, "expected a number above 0"),
        ({"max_interval": "3"}, "max_interval: expected a number"),
        ({"objective": "speed"}, "'speed'"),
        ({"precision": 16}, "precision: expected one of model"),
        ({"host": 1}, "host: expected True or False"),
        ({"groups": object()}, "is not a list of chip counts"),
        ({"bind": 3}, "is not NAME=VALUE"),
        ({"pareto": True, "groups": (1,)}, "--pareto chooses groups"),
    ],
)
def test_a_wrong_option_fails_the_test_with_one_message(
    given: Mapping[str, object], message: str, chip_plan: ChipPlans
) -> None:
    with pytest.raises(pytest.fail.Exception) as failed:
        chip_plan("bert-tiny", target="tiny-ring", **given)
    assert str(failed.value).startswith("chiplan: ")
    assert message in str(failed.value)
    assert "\n" not in str(failed.value)
