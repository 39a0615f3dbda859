r"""Pairs of random periodic functions and solutions of the viscous Burgers equation.

Initial functions of kind "gaussian" are those of Li et al. (arXiv:2010.08895), drawn from
:math:`N(0, 625 (25 - \Delta)^{-2})`: the coefficients of :math:`\sqrt2 \cos 2\pi k x` and
:math:`\sqrt2 \sin 2\pi k x` have the deviations :math:`25/(4\pi^2 k^2 + 25)`, and the mean has the
deviation 1. Modes beyond MODES, 4e-5 of a function, are left out. "centered" ones have mean zero,
as the generator published with that paper draws them (github.com/neuraloperator/neuraloperator,
data_generation/burgers). "waves" are smooth functions of four modes.
"""

import numpy as np

from ...chains.terms import Cores
from ...encoding.functions import from_function
from ..quantics.data import Waves, random_waves
from ..splits import Data
from .options import BurgersOptions
from .solution import burgers

MODES, WAVE_MODES = 511, 4
"""Highest Fourier modes of Gaussian initial functions, and of waves."""

SIZES = {"gaussian": (900, 100, 200), "centered": (900, 100, 200), "waves": (512, 64, 128)}
"""Numbers of functions for training, validation and test. Published are 1000 and 200."""

_CELLS, _DEGREE = 9, 10
_RTOLS = 1e-4, 1e-5  # of inputs, whose fine modes hardly matter, and of targets


def gaussian(number: int, seed: int, centered: bool = False) -> Waves:
    """Draw Gaussian random functions.

    Parameters
    ----------
    number, seed : int
    centered : bool
        Whether the means are zero.
    """
    k = np.arange(MODES + 1)
    deviations = 25.0 / ((2 * np.pi * k) ** 2 + 25.0)
    real, imag = np.random.default_rng(seed).standard_normal((2, number, MODES + 1))
    c = np.sqrt(2.0) * deviations * (real + 1j * imag)
    c[:, 0] = 0.0 if centered else real[:, 0] * deviations[0]
    return Waves(c)


def draw(options: BurgersOptions) -> list[tuple[Waves, Waves]]:
    """Return initial functions and solutions for training, validation and test.

    They do not depend on the seed of the training or on the number of sites.
    """
    parts = []
    for seed, size in enumerate(SIZES[options.initial]):
        if options.initial == "waves":
            start = random_waves(size, WAVE_MODES, seed)
        else:
            start = gaussian(size, seed, options.initial == "centered")
        parts.append((start, burgers(start, options.time, options.viscosity)))
    return parts


def load(options: BurgersOptions) -> Data:
    """Generate the pairs."""
    parts: list[Cores] = [
        from_function(waves, options.sites, _CELLS, _DEGREE, rtol).cores
        for pair in draw(options)
        for waves, rtol in zip(pair, _RTOLS, strict=True)
    ]
    return Data(*parts).limited(options.limit)
