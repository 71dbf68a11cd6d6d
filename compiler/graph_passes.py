"""The passes between the imported graph and the planned one, in their order."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from chiplan.ir import Graph, Target

from .fusion import fuse_vector_chains
from .indexed_loads import index_weight_loads
from .precision import apply_precision
from .quantised_products import fold_quantised_products
from .rewrites import REWRITES
from .weight_storage import arrange_weights

Pass: TypeAlias = Callable[[Graph], Graph]


def graph_passes(precision: str, target: Target) -> tuple[tuple[str, Pass], ...]:
    """(name, pass) of each."""
    return (
        ("fold_quantised_products", fold_quantised_products),
        ("index_weight_loads", index_weight_loads),
        ("apply_precision", partial(apply_precision, precision=precision)),
        *((rewrite.__name__, rewrite) for rewrite in REWRITES),
        ("fuse_vector_chains", partial(fuse_vector_chains, chained=target.chip.vector.chained)),
        ("arrange_weights", arrange_weights),
    )
