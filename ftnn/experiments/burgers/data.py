r"""Pairs of random periodic functions and solutions of the viscous Burgers equation.

Inputs are random periodic functions u(x, 0) on [0, 1), targets the solutions u(x, T) of
:math:`u_t + u u_x = \nu u_{xx}`, by the transformation of Cole and Hopf: with the mean m and
:math:`\phi = \exp(-\tfrac{1}{2\nu}\int (u - m)\,dx)`, which solves the heat equation,
:math:`u(x, T) = m - 2\nu\,\phi_x/\phi` at :math:`x - mT`. It is exact; on 2048 points the spectra
end at rounding.
"""

import numpy as np

from ..quantics.data import VISCOSITY, Waves, generate_pairs
from ..splits import Data
from .options import BurgersOptions

MODES = 4
"""Highest Fourier mode of the initial functions."""

TIME = 0.05

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
    result = np.fft.rfft(-2 * viscosity * slope / np.fft.irfft(modes, _POINTS))[:, :_KEPT] / _POINTS
    result[:, 1:] *= 2.0
    result *= np.exp(-2j * np.pi * k[:_KEPT] * mean * time)  # carried along with the mean
    result[:, :1] += mean
    return Waves(result)


def load(options: BurgersOptions) -> Data:
    """Generate the pairs."""
    return generate_pairs(options, lambda start: burgers(start, TIME), MODES)
