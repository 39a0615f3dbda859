r"""The solution operator of the viscous Burgers equation, from functions on a fine grid as MPS.

Inputs are random periodic functions u(x, 0) on [0, 1), targets the solutions u(x, T) of
:math:`u_t + u u_x = \nu u_{xx}`, by the transformation of Cole and Hopf: with the mean m and
:math:`\phi = \exp(-\tfrac{1}{2\nu}\int (u - m)\,dx)`, which solves the heat equation,
:math:`u(x, T) = m - 2\nu\,\phi_x/\phi` at :math:`x - mT`. It is exact; on 2048 points the spectra
end at rounding.
"""

import numpy as np

from ..layers.layer import Layer
from ..layers.sequential import Sequential
from ..layers.surgery import prolong
from ..nonlinear import Gated
from ..training.score import ERROR
from .base import Config, Data, Experiment
from .quantics import (
    COARSE,
    UNUSED,
    VISCOSITY,
    Waves,
    carry,
    conclude,
    pairs,
    stages,
    start_near_identity,
)

MODES = 4
"""Highest Fourier mode of the initial functions."""

TIME = 0.05

SPARE = 2
"""Bond dimension of the layers beyond that of the solutions, at every cut."""

_POINTS, _KEPT = 2048, 200


def burgers(start: Waves, time: float, viscosity: float = VISCOSITY) -> Waves:
    """Solve the viscous Burgers equation."""
    c = start.coefficients
    mean = c[:, :1].real
    k = np.arange(_POINTS // 2 + 1)
    integral = Waves(np.concatenate([0 * c[:, :1], c[:, 1:] / (2j * np.pi * k[1 : c.shape[1]])], 1))
    exponent = -integral(np.arange(_POINTS) / _POINTS) / (2 * viscosity)
    phi = np.exp(exponent - exponent.max(axis=1, keepdims=True))
    modes = np.fft.rfft(phi) * np.exp(-viscosity * time * (2 * np.pi * k) ** 2)
    slope = np.fft.irfft(2j * np.pi * k * modes, _POINTS)
    found = np.fft.rfft(-2 * viscosity * slope / np.fft.irfft(modes, _POINTS))[:, :_KEPT] / _POINTS
    found[:, 1:] *= 2.0
    found *= np.exp(-2j * np.pi * k[:_KEPT] * mean * time)  # carried along with the mean
    found[:, :1] += mean
    return Waves(found)


def load(config: Config) -> Data:
    """Make the pairs."""
    return pairs(config, lambda start: burgers(start, TIME), MODES)


def build(config: Config, data: Data) -> tuple[None, Layer]:
    """``depth`` gated layers: quadratic steps, as those of an explicit scheme in time are.

    Sites beyond COARSE start as identities, of bond dimension 1. Every cut gets the bond of the
    solutions and SPARE more, at most ``config.max_bond``: on fine sites functions are smooth, and
    need two or three.
    """
    if config.depth == 0:
        raise ValueError("depth is 0, expected an integer >= 1: there is nothing but layers here")
    sites = len(data.train_inputs)
    coarse = min(sites, COARSE)
    dims = (2,) * coarse
    needed = [core.shape[3] for core in data.train_targets[:-1]]
    bonds = [min(config.max_bond, bond + SPARE) for bond in needed]
    layers: list[Layer] = []
    for n in range(config.depth):
        seed = 10 * config.seed + n
        gated = Gated(dims, dims, config.bond_dim, bonds[: coarse - 1], seed=seed)
        start_near_identity(gated, seed)
        layers.append(gated)
    return None, prolong(Sequential(*layers), sites, bonds)


EXPERIMENT = Experiment(
    name="burgers",
    description="The solution operator of the viscous Burgers equation on 2^20 points.",
    load=load,
    build=build,
    samples="functions",
    score=ERROR,
    unused=(*UNUSED, "linear_lr"),
    carry=carry,
    stages=stages,
    conclude=conclude,
)
