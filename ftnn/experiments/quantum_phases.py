"""Phases of the cluster-Ising chain, from its ground states as the MPS they are."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from autoray import do

from ..arrays.backend import as_like
from ..chains.states import MPS
from ..chains.terms import Cores
from ..layers.layer import Layer
from ..layers.linear import Linear
from ..layers.readouts import Expectation
from ..layers.sequential import Sequential
from ..nonlinear import RMSNorm
from ..truncation import compress
from .base import FUNCTIONS_ONLY, LAYERS_ONLY, PATCHES_ONLY, Config, Data, Experiment, rows
from .ground_states import Point, ground_states, string_order

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
"""Distance from the boundary within which a prediction is not counted."""

SITES, KEPT_BOND = 45, 16
DRESSING = 0.3
"""Standard deviation of the strength τ of the random dressing of training states."""

DRESSED = 16
"""Random dressings of every state for validation."""

LINE_POINTS = 40
CLASSES = ("other", "protected")


def line_points() -> list[Point]:
    """Points to train on: h2 = 0, none of them at the transition at h1 = 1."""
    step = H1_RANGE[1] / LINE_POINTS
    return [((n + 0.5) * step, 0.0) for n in range(LINE_POINTS)]


def grid_points(side: int) -> list[Point]:
    """Points of the plane (h1, h2), h1 the slower."""
    h1, h2 = np.linspace(*H1_RANGE, side), np.linspace(*H2_RANGE, side)
    return [(float(x), float(y)) for x in h1 for y in h2]


def boundary(h1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper h2 of the protected phase, linear between the known points and beyond."""
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
    """Phase (n,) of points (n, 2): 1 where it is symmetry-protected, else 0.

    Examples
    --------
    >>> print(phases(np.array([[0.5, 0.0], [1.5, 0.0], [0.5, -1.5]])))
    [1 0 0]
    """
    lower, upper = boundary(points[:, 0])
    return ((points[:, 1] > lower) & (points[:, 1] < upper)).astype(np.int64)


def counted(points: np.ndarray) -> np.ndarray:
    """Which points (n, 2) are farther than MARGIN from the boundary."""
    h1 = np.linspace(*H1_RANGE, 1601)
    curve = np.concatenate([np.stack([h1, h2], axis=1) for h2 in boundary(h1)])
    distance = np.linalg.norm(points[:, None] - curve[None], axis=2).min(axis=1)
    return distance > MARGIN


def cache_folder() -> Path:
    """Folder where ground states are kept unless ``--data`` names one."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ftnn"


def load(config: Config) -> Data:
    """Load ground states on the line and, to test, on the plane.

    Every fifth of the line is for validation, in DRESSED random versions: as they are, all would
    soon be told apart, whatever the network goes by. States are made and kept with bond dimension
    KEPT_BOND, and truncated to ``input_bond`` here.
    """
    folder = Path(config.data) if config.data else cache_folder()
    line, plane = line_points(), grid_points(config.grid)
    on_line = states("line", line, config, folder)
    on_plane = states(f"plane-{config.grid}", plane, config, folder)
    labels = phases(np.array(line))
    held = np.flatnonzero(np.arange(LINE_POINTS) % 5 == 2)
    train = np.setdiff1d(np.arange(LINE_POINTS), held)
    held = np.tile(held, DRESSED)
    return Data(
        rows(on_line, train),
        labels[train],
        dress(rows(on_line, held), np.random.default_rng(config.seed)),
        labels[held],
        on_plane,
        phases(np.array(plane)),
        CLASSES,
    )


def states(name: str, points: list[Point], config: Config, folder: Path) -> Cores:
    """Ground states as inputs of a network, tuple of array (n, left, 2, right), float32."""
    kept = max(KEPT_BOND, config.input_bond)
    cores, _ = ground_states(name, config.sites or SITES, points, kept, folder)
    if config.input_bond == kept:
        return cores
    return compress(MPS(cores), max_bond=config.input_bond, method="direct").cores


def build(config: Config, data: Data) -> tuple[None, Layer]:
    """``depth`` truncated MPO layers with norms, then expectation values of two operators."""
    L, hidden = len(data.train_inputs), config.phys
    dims: tuple[int, ...] = (2,) * L
    layers: list[Layer] = []
    for n in range(config.depth):
        out, seed = (hidden,) * L, 10 * config.seed + n
        layers += [
            Linear(dims, out, config.bond_dim, config.max_bond, bias=False, seed=seed),
            RMSNorm(),
        ]
        dims = out
    head = Expectation(dims, len(CLASSES), config.readout_bond, seed=config.seed)
    return None, Sequential(*layers, head)


def dress(cores: Cores, rng: np.random.Generator) -> Cores:
    r"""Change states without leaving their phase: random symmetric operators on every site.

    The symmetry that protects the phase flips the spins of the even sites, and those of the odd
    ones: :math:`\prod X_i` over either. For each of these halves of the chain the operator is
    :math:`\prod_i e^{\tau X_i}` with a normal τ, times :math:`\prod_i Z_i` with probability one
    half. Both map symmetric operators to symmetric operators, act on every site by itself, and have
    inverses: what they make of a state is in the same phase, but magnetized otherwise, or
    alternating instead of uniform. So a network cannot tell phases by the magnetization, which on
    the line of training states would do. The norm is not kept: :class:`ftnn.Expectation` does not
    see it.
    """
    shape = (2, len(cores[0]))
    tau = rng.normal(0.0, DRESSING, shape)[..., None, None]
    signs = np.where(rng.random(shape) < 0.5, -1.0, 1.0)
    z = np.stack([np.ones(shape), signs], axis=-1)[..., None]  # diagonals of 1 or Z
    x = np.array([[0.0, 1.0], [1.0, 0.0]])
    operators = z * (np.cosh(tau) * np.eye(2) + np.sinh(tau) * x)  # (2, batch, out, in)
    halves = [as_like(operator, cores[0]) for operator in operators]
    return tuple(
        do("einsum", "bqp,blpr->blqr", halves[k % 2], core) for k, core in enumerate(cores)
    )


def conclude(folder: Path, config: Config, data: Data, found: Any) -> dict[str, Any]:
    """Compare with the known boundary and with string order; draw ``phases.png``."""
    from ..plotting import Panel, plot_phases

    points = np.array(grid_points(config.grid))
    labels, away = phases(points), counted(points)
    logits = found.outputs - found.outputs.max(axis=1, keepdims=True)
    chance = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    agreement = float(np.mean(found.predictions[away] == labels[away]))
    order, threshold = string_orders(data)
    by_order = float(np.mean((order > threshold)[away] == labels[away]))
    side = (config.grid, config.grid)
    edge = np.array(BOUNDARY_H1)
    plot_phases(
        [
            Panel("Network", "probability of the protected phase", chance.reshape(side), level=0.5),
            Panel("String order", "string order", order.reshape(side), level=threshold),
        ],
        np.linspace(*H1_RANGE, config.grid),
        np.linspace(*H2_RANGE, config.grid),
        [(edge, np.array(BOUNDARY_LOWER)), (edge, np.array(BOUNDARY_UPPER))],
        np.array(line_points()),
        folder / "phases.png",
    )
    where = f"{int(away.sum())} points, {MARGIN} from the boundary or farther"
    return {
        "agreement": agreement,
        "string_order_agreement": by_order,
        "remarks": {
            "agreement": [f"{agreement:.2%}", where],
            "string order": [f"{by_order:.2%}", "there; threshold from the training line"],
        },
    }


def string_orders(data: Data) -> tuple[np.ndarray, float]:
    """Compute string order of the test states, and the threshold that the training line gives.

    The string reaches from one tenth of the chain to nine tenths. The threshold lies midway
    between the lowest order of a protected state of the line and the highest of another.
    """
    sites = len(data.test_inputs)
    first = sites // 10
    last = sites - 1 - first
    last -= (last - first) % 2
    order = string_order(data.train_inputs, first, last)
    protected = data.train_targets == 1
    threshold = 0.5 * (order[protected].min() + order[~protected].max())
    return string_order(data.test_inputs, first, last), float(threshold)


EXPERIMENT = Experiment(
    name="quantum-phases",
    description="Ground states of a spin chain as MPS; finds a symmetry-protected phase.",
    load=load,
    build=build,
    samples="states",
    unused=("limit", "nonlinearity", *PATCHES_ONLY, *FUNCTIONS_ONLY),
    layers_only=(*LAYERS_ONLY, "phys", "linear_lr"),
    augment_states=dress,
    conclude=conclude,
)
