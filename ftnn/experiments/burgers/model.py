r"""Residual blocks of sines of linear functions, gated layers, and a linear shortcut.

.. math:: x \mapsto S x + O\, G_n \cdots G_1 \sin(W x + b), \qquad G z = (1 + A z) \circ (B z) .

The flow over a time is one of flows over shorter times; so blocks follow one another. With linear
features, without the sine, a block is a polynomial of x, of degree :math:`2^n`. The solution
is carried along with the mean m of the initial function, Fourier mode k by a phase
:math:`2\pi k m T`, and no polynomial of low degree is a wave. A sine of a linear function is one.
A state of several channels has them on its first site, of dimension 2 channels, index
2 channel + bit.

Weights start as follows: :math:`W` near multiples of x and of its mean, the first without the mean
and, with sines, small, so that its sine is nearly linear; gates near the identity, :math:`S` near
the mean in the last block, near the identity in others. Layers are built on the coarse grid; on
finer sites they start as identities.
"""

import numpy as np

from ...layers.layer import Layer
from ...layers.linear import Linear
from ...layers.residual import Residual
from ...layers.sequential import Sequential
from ...layers.surgery import prolong
from ...nonlinear import Elementwise, Gated
from ...training.objective import StateRegression
from ..quantics.model import start_near_identity
from ..splits import Data
from .options import BurgersOptions

SPARE = 2
"""Bond dimension of the layers in excess of that of the solutions, at every fine cut."""

FREQUENCY = 6.0
"""Deviation of the weights of the mean in the arguments of sines."""

SMALL, NOISE = 0.1, 0.05
"""Weight of x in the first channel; initial noise, relative to identities."""

SWEEPS = 1
"""Sweeps of the cross interpolation of sines."""


def build(options: BurgersOptions, data: Data) -> tuple[None, Layer]:
    """Build the network on the coarse grid, and prolong it.

    Cuts of the coarse grid get ``options.max_bond``; finer ones what the solutions need, and SPARE
    more: there functions are smooth, and need two or three.
    """
    sites = len(data.train_inputs)
    coarse = min(sites, options.coarse)
    needed = [core.shape[3] + SPARE for core in data.train_targets[:-1]]
    bonds = [min(options.max_bond, bond) for bond in needed]
    bonds[: coarse - 1] = [options.max_bond] * (coarse - 1)
    here = bonds[: coarse - 1]
    blocks = [_block(options, coarse, here, n) for n in range(options.blocks)]
    return None, prolong(Sequential(*blocks), sites, bonds)


def _block(options: BurgersOptions, sites: int, bonds: list[int], number: int) -> Residual:
    """Build one residual block on the coarse grid."""
    channels, with_sines = options.channels, options.features == "sine"
    seed = options.train.seed + 1000 * number
    ends = (2,) * sites
    dims = (2 * channels, *ends[1:])
    rng = np.random.default_rng((seed, 4))
    gates: list[Layer] = []
    for n in range(options.depth):
        gate = Gated(dims, dims, options.bond_dim, bonds, seed=10 * seed + n)
        start_near_identity(gate, 10 * seed + n, NOISE)
        gates.append(gate)
    last = 10 * seed + options.depth
    lift = Linear(ends, dims, options.bond_dim, bonds, seed=last + 1)
    out = Linear(dims, ends, options.bond_dim, bonds, bias=False, seed=last + 2)
    shortcut = Linear(ends, ends, options.bond_dim, bonds, bias=False, seed=last + 3)
    first = SMALL if with_sines else 1.0
    multiples = np.concatenate([[first], 0.3 * rng.standard_normal(channels - 1)])
    means = FREQUENCY * with_sines * np.concatenate([[0.0], rng.standard_normal(channels - 1)])
    phases = with_sines * np.concatenate([[0.0], 2 * np.pi * rng.random(channels - 1)])
    start(lift, multiples[:, None], means[:, None], rng)
    start(out, SMALL * rng.standard_normal((1, channels)), np.zeros((1, channels)), rng)
    ends_here = number == options.blocks - 1
    start(shortcut, np.full((1, 1), 1.0 - ends_here), np.full((1, 1), 1.0 * ends_here), rng)
    for k in range(sites):
        lift.params[f"bias.{k}"] = np.ones((1, 1, 2, 1))
    lift.params["bias.0"] = np.repeat(phases, 2)[None, None, :, None]
    sine = Elementwise("sin", max_bond=options.max_bond, sweeps=SWEEPS, seed=seed)
    inner = Sequential(lift, *([sine] if with_sines else []), *gates, out)
    return Residual(inner, bonds, seed=last + 4, shortcut=shortcut)


def start(
    layer: Linear, multiples: np.ndarray, means: np.ndarray, rng: np.random.Generator
) -> None:
    """Set a weight to multiples of the identity and of the mean of a function, plus noise.

    Parameters
    ----------
    layer : Linear
    multiples, means : array (output channels, input channels)
        The identity is on the first bond channel, the mean on the second.
    rng : numpy.random.Generator
    """
    average = np.full((2, 2), 0.5)
    for k in range(len(layer.in_dims)):
        old = layer.params[f"weight.{k}"]
        left, _, inn, right = old.shape
        core = NOISE * rng.standard_normal(old.shape) / np.sqrt(inn * right)
        identity = np.kron(multiples, np.eye(2)) if k == 0 else np.eye(2)
        mean = np.kron(means, average) if k == 0 else average
        core[0, :, :, 0] += identity
        core[min(left, 2) - 1, :, :, min(right, 2) - 1] += mean
        layer.params[f"weight.{k}"] = core


def carry(trained: Layer, built: Layer) -> Layer:
    """Start from a trained model on this grid or a coarser one, with the bonds of ``built``."""
    kinds, expected = (
        ", ".join(type(layer).__name__ for _, layer in model.walk() if not layer.children)
        for model in (trained, built)
    )
    if kinds != expected:
        raise ValueError(f"its layers are {kinds}, expected {expected}")
    grid, new = len(trained.in_dims or ()), len(built.in_dims or ())
    if grid > new:
        raise ValueError(f"its grid has 2^{grid} points, and training begins on 2^{new}")
    longer = prolong(trained, new).named_params()
    for name, array in built.named_params().items():
        shape = longer[name].shape if name in longer else None
        if shape != array.shape:
            raise ValueError(f"array {name!r} has shape {shape}, expected {array.shape}")
    built.set_arrays(longer)
    return built


def objective(options: BurgersOptions) -> StateRegression:
    """Return the objective: relative errors, as functions of mean zero rule their squares."""
    return StateRegression(root=True)
