"""`show --model-explorer`: documents of the published schema, with the plan's edges and cycles."""

import json
from pathlib import Path

from chiplan.compiler.cli import main
from chiplan.compiler.model_explorer import explorer_cycles, explorer_graph
from chiplan.ir import Plan, write_plan

NODE = {"id", "label", "namespace", "attrs", "incomingEdges", "outputsMetadata"}
EDGE = {"sourceNodeId", "sourceNodeOutputId", "targetNodeInputId"}


def test_the_graph_has_layers_for_stages_and_edges_across_them(hand_plan: Plan) -> None:
    document = json.loads(explorer_graph(hand_plan))
    assert document.keys() == {"label", "graphs"}
    (graph,) = document["graphs"]
    assert graph.keys() == {"id", "nodes"}
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"]) == 4
    for node in nodes.values():
        assert node.keys() <= NODE
        assert all(isinstance(entry["value"], str) for entry in node.get("attrs", ()))
        assert all(
            edge.keys() == EDGE and edge["sourceNodeId"] in nodes for edge in node.get("incomingEdges", ())
        )
    second = nodes["stage1/operator2"]
    assert second["namespace"] == "stage 1 on chips 1/node_second"
    assert [edge["sourceNodeId"] for edge in second["incomingEdges"]] == ["stage0/operator1"]
    assert [edge["sourceNodeId"] for edge in nodes["stage0/operator0"]["incomingEdges"]] == ["input0"]


def test_node_data_are_the_cycles_of_every_operator(hand_plan: Plan, tmp_path: Path) -> None:
    plan, file = tmp_path / "hand.chiplan", tmp_path / "hand.json"
    write_plan(hand_plan, plan)
    assert main(["show", str(plan), "--model-explorer", str(file)]) == 0
    assert file.read_text() == explorer_graph(hand_plan)
    assert (tmp_path / "hand.cycles.json").read_text() == explorer_cycles(hand_plan)
    results = json.loads(explorer_cycles(hand_plan))["plan"]["results"]
    assert {name: entry["value"] for name, entry in results.items()} == {
        "stage0/operator0": 4, "stage0/operator1": 4, "stage1/operator2": 4,
    }  # fmt: skip
