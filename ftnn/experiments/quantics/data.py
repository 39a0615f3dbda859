r"""Pairs of random periodic functions and solutions of the heat equation.

Inputs are random periodic functions u(x, 0) on [0, 1), targets the solutions u(x, T) of
:math:`u_t = \nu u_{xx}`, known in closed form for every Fourier mode.
"""

from dataclasses import dataclass

import numpy as np

from ...chains.terms import Cores
from ...encoding.functions import from_function
from ..splits import Data
from .options import QuanticsOptions

SIZES = (512, 64, 128)
"""Numbers of functions for training, validation and test."""

MODES = 10
"""Highest Fourier mode of the initial functions."""

TIME, VISCOSITY = 0.1, 0.01

_RTOL = 1e-5  # of the states


@dataclass(frozen=True, eq=False)
class Waves:
    r"""Periodic functions :math:`\Re \sum_k c_k e^{2\pi i k x}`.

    Attributes
    ----------
    coefficients : complex array (n, modes)
    """

    coefficients: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the values (n, points)."""
        k = np.arange(self.coefficients.shape[1])
        return (self.coefficients @ np.exp(2j * np.pi * k[:, None] * x)).real

    def on_grid(self, points: int) -> np.ndarray:
        """Return the values (n, points) on an even grid, which resolves all modes."""
        halved = 0.5 * self.coefficients * points
        halved[:, 0] *= 2.0
        return np.fft.irfft(halved, points)


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


def load(options: QuanticsOptions) -> Data:
    """Generate the pairs; they do not depend on the seed of the training or the number of sites."""
    parts: list[Cores] = []
    for number, size in enumerate(SIZES):
        start = random_waves(size, MODES, seed=number)
        for waves in (start, heat(start, TIME)):
            parts.append(from_function(waves, options.sites, 7, 10, _RTOL).cores)
    return Data(*parts).limited(options.limit)
