"""Which chip does what: stage cuts and placement, solved with OR-Tools and certified."""

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
    "Carried",
    "FewestStages",
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
    "cut_stages",
    "frontier",
    "group_shapes",
    "least_load",
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
