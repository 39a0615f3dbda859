r"""The solution operator of the heat equation, from pairs of functions on a fine grid kept as MPS.

Inputs are random periodic functions u(x, 0) on [0, 1), targets the solutions u(x, T) of
:math:`u_t = \nu u_{xx}`, known for every Fourier mode.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..chains.bonds import largest_bond
from ..chains.distance import relative_squares
from ..chains.terms import Cores
from ..encoding.functions import from_function, on_coarser_grid
from ..layers.files import load as load_model
from ..layers.layer import Layer
from ..layers.linear import Linear
from ..layers.sequential import Sequential
from ..layers.surgery import prolong
from ..nonlinear import Gated
from ..training.score import ERROR
from .base import PATCHES_ONLY, Config, Data, Experiment, rows

SITES = 20
SIZES = (512, 64, 128)
"""Functions to train on, to validate on and to test on."""

MODES = 10
"""Highest Fourier mode of the initial functions."""

TIME, VISCOSITY = 0.1, 0.01
COARSE = 10
"""Sites of the grid on which a training in two stages begins."""

_RTOL = 1e-5  # of the states
_SHOWN = 3
_SHOWN_SITES = 10


@dataclass(frozen=True, eq=False)
class Waves:
    r"""Periodic functions :math:`\Re \sum_k c_k e^{2\pi i k x}`.

    Attributes
    ----------
    coefficients : complex array (n, modes)
    """

    coefficients: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Values (n, points)."""
        k = np.arange(self.coefficients.shape[1])
        return (self.coefficients @ np.exp(2j * np.pi * k[:, None] * x)).real


def random_waves(number: int, modes: int, seed: int) -> Waves:
    """Draw functions whose amplitudes fall as 1/(1 + k), of about unit size."""
    rng = np.random.default_rng(seed)
    real, imag = rng.standard_normal((2, number, modes + 1))
    c = 0.5 * (real + 1j * imag) / (1 + np.arange(modes + 1))
    c[:, 0] = c[:, 0].real
    return Waves(c)


def heat(start: Waves, time: float, viscosity: float = VISCOSITY) -> Waves:
    """Solve the heat equation.

    Examples
    --------
    >>> end = heat(Waves(np.array([[0.0, 1.0]])), time=0.1)
    >>> bool(np.isclose(end(np.zeros(1))[0, 0], np.exp(-0.001 * (2 * np.pi) ** 2)))
    True
    """
    k = np.arange(start.coefficients.shape[1])
    return Waves(start.coefficients * np.exp(-viscosity * time * (2 * np.pi * k) ** 2))


def load(config: Config) -> Data:
    """Make the pairs."""
    return pairs(config, lambda start: heat(start, TIME), MODES)


def pairs(config: Config, solve: Callable[[Waves], Waves], modes: int) -> Data:
    """Make pairs of random functions and solutions.

    The functions are the same for every seed of a training and for every number of sites.
    """
    sites = _sites(config)
    if sites < 2:
        raise ValueError(f"sites is {sites}, expected an integer >= 2: the bits of the grid")
    parts: list[Cores] = []
    for number, size in enumerate(SIZES):
        start = random_waves(size, modes, seed=number)
        for waves in (start, solve(start)):
            parts.append(from_function(waves, sites, 7, 10, _RTOL).cores)
    return Data(*parts).limited(config.limit)


def _sites(config: Config) -> int:
    return SITES if config.sites is None else config.sites


def build(config: Config, data: Data) -> tuple[None, Layer]:
    """One MPO: the operator is linear."""
    dims = (2,) * len(data.train_inputs)
    layer = Linear(dims, dims, config.bond_dim, config.max_bond, bias=False, seed=10 * config.seed)
    start_near_identity(layer, config.seed)
    return None, Sequential(layer)


def start_near_identity(layer: Linear | Gated, seed: int, noise: float = 0.05) -> None:
    """Replace weights by identities, on the first bond channel, plus noise; those of gates by less.

    The solution after no time is what one starts with.
    """
    rng = np.random.default_rng((seed, 4))
    for name, old in layer.params.items():
        left, out, inn, right = old.shape
        core = noise * rng.standard_normal(old.shape) / np.sqrt(inn * right)
        core += np.eye(left, right)[:, None, None, :] * np.eye(out, inn)[:, :, None]
        share = 0.1 ** (1 / len(layer.in_dims)) if name.startswith("A.") else 1.0
        layer.params[name] = share * core


def carry(trained: Layer, built: Layer) -> Layer:
    """Start with a trained model, of this grid or of a coarser one, and the bonds of ``built``."""
    if _kinds(trained) != _kinds(built):
        raise ValueError(f"its layers are {_kinds(trained)}, expected {_kinds(built)}")
    assert isinstance(trained, Sequential)
    assert isinstance(built, Sequential)
    own, layer = trained.layers[0], built.layers[0]
    assert isinstance(own, (Linear, Gated))
    assert isinstance(layer, (Linear, Gated))
    if len(own.in_dims) > len(layer.in_dims):
        raise ValueError(
            f"its grid has 2^{len(own.in_dims)} points, and training begins on "
            f"2^{len(layer.in_dims)}"
        )
    return prolong(trained, len(layer.in_dims), layer.max_bond)


def stages(config: Config) -> tuple[Config, Config] | None:
    """Split a training with ``fine_epochs`` in two: on the coarse grid, and on the whole one."""
    if config.fine_epochs == 0 or _sites(config) <= COARSE:
        return None
    one = replace(config, fine_epochs=0, fine_lr=Config.fine_lr)
    fine = replace(one, epochs=config.fine_epochs, lr=config.fine_lr, start=None)
    return replace(one, sites=COARSE), fine


def _kinds(model: Layer) -> str:
    layers = model.layers if isinstance(model, Sequential) else (model,)
    bonds = (largest_bond(getattr(layer, "bond_dim", 1)) for layer in layers)
    return ", ".join(
        f"{type(layer).__name__} with D = {bond}" for layer, bond in zip(layers, bonds, strict=True)
    )


def conclude(folder: Path, config: Config, data: Data, found: Any) -> dict[str, Any]:
    """Compare with leaving the input as it is; draw ``solutions.png``."""
    from ..plotting import plot_solutions

    unchanged = float(np.sqrt(relative_squares(data.test_inputs, data.test_targets)).mean())
    few = slice(_SHOWN)
    inputs, targets = rows(data.test_inputs, few), rows(data.test_targets, few)
    outputs = load_model(folder / "model.safetensors").to("numpy", "float64").apply(inputs)
    sites = len(inputs)
    first, second, third = (
        on_coarser_grid(cores, min(_SHOWN_SITES, sites)) for cores in (inputs, targets, outputs)
    )
    title = f"$2^{{{sites}}}$ points"
    plot_solutions(first, second, third, found.scores[few], title, folder / "solutions.png")
    worst = float(found.scores.max())
    return {
        "largest_error": worst,
        "unchanged_error": unchanged,
        "remarks": {
            "largest error": [f"{worst:.2e}", "of all test functions"],
            "unchanged input": [f"{unchanged:.2e}", "error of doing nothing"],
        },
    }


UNUSED = (
    *("augment", "data", "grid", "input_bond", "label_smoothing", "nonlinearity", "phys"),
    "readout_bond",
    *PATCHES_ONLY,
)

EXPERIMENT = Experiment(
    name="quantics",
    description="The solution operator of the heat equation on 2^20 points and more.",
    load=load,
    build=build,
    samples="functions",
    score=ERROR,
    unused=(*UNUSED, "depth"),
    carry=carry,
    stages=stages,
    conclude=conclude,
)
