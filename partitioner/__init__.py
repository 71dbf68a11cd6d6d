"""Which chip does what: stage cuts and placement, solved with OR-Tools and certified."""

from .allocation_check import allocation_fault
from .allocation_first_fit import FirstFit, by_size, first_fit
from .allocation_hill_climbing import climb
from .allocation_model import AllocationRules
from .allocation_problem import AllocationProblem, on_a_line
from .allocation_solve import SEARCHES, Allocation, allocate
from .group_placement import place_groups
from .group_problem import GroupArc, GroupPlan, GroupProblem
from .group_sequence import plan_sequence
from .group_shapes import group_shapes
from .group_stages import frontier, plan_counts, plan_groups, smallest_chips
from .in_order import least_load, smallest_in_order
from .measures import stage_load
from .placement import place_stages
from .problem import Carried, PartitionProblem, Recomputed, Resident
from .sharding import Link, ShardingProblem, Variable
from .sharding_frontier import sharding_frontier
from .sharding_solve import ShardingSolution, solve_sharding
from .solver import watching
from .stages import FewestStages, StageCuts, cut_stages, smallest_stage_count

__all__ = [
    "SEARCHES",
    "Allocation",
    "AllocationProblem",
    "AllocationRules",
    "Carried",
    "FewestStages",
    "FirstFit",
    "GroupArc",
    "GroupPlan",
    "GroupProblem",
    "Link",
    "PartitionProblem",
    "Recomputed",
    "Resident",
    "ShardingProblem",
    "ShardingSolution",
    "StageCuts",
    "Variable",
    "allocate",
    "allocation_fault",
    "by_size",
    "climb",
    "cut_stages",
    "first_fit",
    "frontier",
    "group_shapes",
    "least_load",
    "on_a_line",
    "place_groups",
    "place_stages",
    "plan_counts",
    "plan_groups",
    "plan_sequence",
    "sharding_frontier",
    "smallest_chips",
    "smallest_in_order",
    "smallest_stage_count",
    "solve_sharding",
    "stage_load",
    "watching",
]
