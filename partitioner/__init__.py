"""Which chip does what: stage cuts and placement, solved with OR-Tools and certified."""

from .group_problem import GroupArc, GroupPlan, GroupProblem
from .group_stages import frontier, plan_groups, smallest_chips
from .in_order import least_load, smallest_in_order
from .measures import stage_load
from .placement import place_stages
from .problem import Carried, PartitionProblem, Recomputed, Resident
from .stages import FewestStages, StageCuts, cut_stages, smallest_stage_count

__all__ = [
    "Carried",
    "FewestStages",
    "GroupArc",
    "GroupPlan",
    "GroupProblem",
    "PartitionProblem",
    "Recomputed",
    "Resident",
    "StageCuts",
    "cut_stages",
    "frontier",
    "least_load",
    "place_stages",
    "plan_groups",
    "smallest_chips",
    "smallest_in_order",
    "smallest_stage_count",
    "stage_load",
]
