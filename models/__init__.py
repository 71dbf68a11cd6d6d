"""What ships with chiplan: exported models and target files, found by name."""

from .catalogue import SHIPPED, ShippedModel, find_model, model_names
from .target_file import find_target, load_target, parse_target, target_names, target_text
from .topology import GENERATORS, Generator, Parameter, build_topology

__all__ = [
    "GENERATORS", "Generator", "Parameter", "SHIPPED", "ShippedModel", "build_topology", "find_model",
    "find_target", "load_target", "model_names", "parse_target", "target_names", "target_text",
]  # fmt: skip
