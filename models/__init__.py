"""What ships with chiplan: exported models and target files, found by name."""

from .catalogue import SHIPPED, ShippedModel, find_model, model_names

__all__ = ["SHIPPED", "ShippedModel", "find_model", "model_names"]
