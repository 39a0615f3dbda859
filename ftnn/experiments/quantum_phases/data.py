"""Ground states on a line, to train on, and on the plane, with their known phases."""

from pathlib import Path

import numpy as np

from ...chains.states import MPS
from ...chains.terms import Cores
from ...training.inputs import select_rows
from ...truncation import compress
from ..cache import cache_folder
from ..splits import Data
from .dressing import dress
from .ground_states import Point, ground_states
from .options import PhasesOptions

BOUNDARY_H1 = (0.1, 0.2556, 0.4111, 0.5667, 0.7222, 0.8778, 1.0333, 1.1889, 1.3444, 1.5)
BOUNDARY_UPPER = (
    *(0.8439, 0.6636, 0.5033, 0.3631, 0.2229, 0.09766, -0.02755, -0.1377, -0.2479, -0.3531),
)
BOUNDARY_LOWER = (
    *(-1.004, -1.0009, -1.024, -1.049, -1.079, -1.109, -1.154, -1.225, -1.285, -1.35),
)
"""h2 where the symmetry-protected phase ends, to the paramagnet above and to the antiferromagnet
below, at the values of h1 before: the points of figure 2 of Cong, Choi, Lukin (arXiv:1810.03787),
found there by infinite DMRG, as public re-implementations give them."""

H1_RANGE, H2_RANGE = (0.0, 1.6), (-1.6, 1.6)
MARGIN = 0.05
"""Distance from the boundary within which predictions are not counted."""

KEPT_BOND = 16
"""Bond dimension of cached ground states, or more if inputs need it."""

DRESSED = 16
"""Number of random dressings of every validation state."""

LINE_POINTS = 40
CLASSES = ("other", "protected")


def line_points() -> list[Point]:
    """Return the points to train on: h2 = 0, none of them at the transition at h1 = 1."""
    step = H1_RANGE[1] / LINE_POINTS
    return [((n + 0.5) * step, 0.0) for n in range(LINE_POINTS)]


def grid_points(side: int) -> list[Point]:
    """Return the points of the plane (h1, h2), h1 the slower."""
    h1, h2 = np.linspace(*H1_RANGE, side), np.linspace(*H2_RANGE, side)
    return [(float(x), float(y)) for x in h1 for y in h2]


def boundary(h1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper h2 of the protected phase, interpolated between the known points."""
    lower, upper = (
        np.interp(h1, BOUNDARY_H1, values)
        + np.minimum(h1 - BOUNDARY_H1[0], 0) * _slope(values, 0)
        + np.maximum(h1 - BOUNDARY_H1[-1], 0) * _slope(values, -2)
        for values in (BOUNDARY_LOWER, BOUNDARY_UPPER)
    )
    return lower, upper


def _slope(values: tuple[float, ...], n: int) -> float:
    return (values[n + 1] - values[n]) / (BOUNDARY_H1[n + 1] - BOUNDARY_H1[n])


def phases(points: np.ndarray) -> np.ndarray:
    """Return the phase (n,) of points (n, 2): 1 where it is symmetry-protected, else 0.

    Examples
    --------
    >>> print(phases(np.array([[0.5, 0.0], [1.5, 0.0], [0.5, -1.5]])))
    [1 0 0]
    """
    lower, upper = boundary(points[:, 0])
    return ((points[:, 1] > lower) & (points[:, 1] < upper)).astype(np.int64)


def counted(points: np.ndarray) -> np.ndarray:
    """Return which points (n, 2) are farther than MARGIN from the boundary."""
    h1 = np.linspace(*H1_RANGE, 1601)
    curve = np.concatenate([np.stack([h1, h2], axis=1) for h2 in boundary(h1)])
    distance = np.linalg.norm(points[:, None] - curve[None], axis=2).min(axis=1)
    return distance > MARGIN


def load(options: PhasesOptions) -> Data:
    """Load ground states on the line and, to test, on the plane.

    Every fifth point of the line is used for validation, in DRESSED random versions: the unchanged
    states would soon be classified correctly by any feature. States are computed and cached with
    bond dimension KEPT_BOND, and truncated to ``input_bond`` here.
    """
    folder = Path(options.data) if options.data else cache_folder()
    line, plane = line_points(), grid_points(options.grid)
    on_line = states("line", line, options, folder)
    on_plane = states(f"plane-{options.grid}", plane, options, folder)
    labels = phases(np.array(line))
    held = np.flatnonzero(np.arange(LINE_POINTS) % 5 == 2)
    train = np.setdiff1d(np.arange(LINE_POINTS), held)
    held = np.tile(held, DRESSED)
    return Data(
        select_rows(on_line, train),
        labels[train],
        dress(select_rows(on_line, held), np.random.default_rng(options.train.seed)),
        labels[held],
        on_plane,
        phases(np.array(plane)),
        CLASSES,
    )


def states(name: str, points: list[Point], options: PhasesOptions, folder: Path) -> Cores:
    """Return ground states as inputs of a network, tuple of array (n, left, 2, right), float32."""
    bond = max(KEPT_BOND, options.input_bond)
    cores, _ = ground_states(name, options.sites, points, bond, folder)
    if options.input_bond == bond:
        return cores
    return compress(MPS(cores), max_bond=options.input_bond, method="direct").cores
