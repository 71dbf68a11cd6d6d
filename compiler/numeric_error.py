"""How far two arrays are apart: as a fraction of the largest value that should be there."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

_SMALLEST_SCALE = 1e-6
NO_SCALES: Mapping[str, float] = MappingProxyType({})


def largest(array: np.ndarray) -> float:
    """Largest finite magnitude, at least 1e-6."""
    return max(magnitude(array), _SMALLEST_SCALE)


def magnitude(array: np.ndarray) -> float:
    """Largest finite magnitude; zero of an array without a finite number."""
    finite = array[np.isfinite(array)].astype(np.float64)
    return float(np.abs(finite).max(initial=0.0))


def relative_error(found: np.ndarray, wanted: np.ndarray, least_scale: float = 0.0) -> float:
    """Largest difference as a fraction of the largest finite |wanted|, or of `least_scale` if that is
    more; infinite where one is not a number and the other is, or where the shapes differ."""
    if found.shape != wanted.shape:
        return float("inf")
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    with np.errstate(all="ignore"):
        difference = np.where(same, 0.0, np.abs(a - b))
    if not np.isfinite(difference).all():
        return float("inf")
    return float(difference.max()) / max(largest(b), least_scale)


def worst_output(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], least: Mapping[str, float] = NO_SCALES
) -> tuple[float, str]:
    """The output with the largest error among those that both sides have. `least`: least scales by name."""
    names = [name for name in sorted(wanted) if name in found]
    errors = [(relative_error(found[name], wanted[name], least.get(name, 0.0)), name) for name in names]
    return max(errors, default=(float("inf"), ""))
