"""Which chip does what: stage cuts and placement, solved with OR-Tools and certified."""

from .placement import place_stages
from .problem import Carried, PartitionProblem, Recomputed, Resident
from .stages import StageCuts, cut_stages, smallest_stage_count

__all__ = [
    "Carried",
    "PartitionProblem",
    "Recomputed",
    "Resident",
    "StageCuts",
    "cut_stages",
    "place_stages",
    "smallest_stage_count",
]
