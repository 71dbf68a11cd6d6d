"""The memory unit's instructions as ONNX nodes."""

from collections.abc import Callable

import numpy as np

from chiplan.ir import Attribute, Instruction

from .reference_nodes import NodeList

Export = Callable[[NodeList, Instruction, list[str]], str]


def _plain(nodes: NodeList, instruction: Instruction, names: list[str]) -> str:
    """ONNX has the same operator with the same attributes."""
    return nodes.one(instruction.opcode, names, **dict(instruction.attributes))


def _with_input(attribute: str, default: int) -> Export:
    """ONNX takes `attribute` as a second input, not as an attribute."""

    def export(nodes: NodeList, instruction: Instruction, names: list[str]) -> str:
        attributes: dict[str, Attribute] = dict(instruction.attributes)
        value = nodes.constant(np.array(attributes.pop(attribute, default), dtype=np.int64))
        return nodes.one(instruction.opcode, [*names, value], **attributes)

    return export


def _top(output: int) -> Export:
    def export(nodes: NodeList, instruction: Instruction, names: list[str]) -> str:
        attributes: dict[str, Attribute] = dict(instruction.attributes)
        kept = nodes.constant(np.array([attributes.pop("k", 1)], dtype=np.int64))
        return nodes.add("TopK", [names[0], kept], outputs=2, **attributes)[output]

    return export


def _one_hot(nodes: NodeList, instruction: Instruction, names: list[str]) -> str:
    attributes: dict[str, Attribute] = dict(instruction.attributes)
    depth = nodes.constant(np.array(attributes.pop("depth", 1), dtype=np.int64))
    pair = names[1] if len(names) > 1 else nodes.constant(np.array([0, 1], instruction.dtype.numpy))
    return nodes.one("OneHot", [names[0], depth, pair], **attributes)


MEMORY_NODES: dict[str, Export] = {
    "ArgMax": _plain,
    "ArgMin": _plain,
    "CumSum": _with_input("axis", 0),
    "Gather": _plain,
    "GatherElements": _plain,
    "GatherND": _plain,
    "OneHot": _one_hot,
    "ScatterElements": _plain,
    "ScatterND": _plain,
    "TopKIndices": _top(1),
    "TopKValues": _top(0),
    "Trilu": _with_input("k", 0),
}
"""By opcode. `Copy` is not among them: it goes the way of the pointwise instructions."""
