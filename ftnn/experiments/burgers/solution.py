r"""Solutions of the viscous Burgers equation by the transformation of Cole and Hopf.

:math:`u_t + u u_x = \nu u_{xx}` on [0, 1), periodic. With the mean m, :math:`v = u - m` and
:math:`\phi = \exp(-\tfrac{1}{2\nu}\int v\,dx)`, which solves the heat equation,
:math:`u(x, T) = m - 2\nu\,\phi_x/\phi` at :math:`x - mT`.

Where the exponent varies by little, the heat equation is solved by Fourier transforms, which end
at the rounding of the largest value of :math:`\phi`. Where it varies by more, the solution is an
average of speeds, at every point with weights of its own largest one,

.. math:: u(x, T) = m + \frac{\int \frac{d}{T}\, e^{-d^2/4\nu T}\, \phi(x - d)\,\mathrm{d}d}
                        {\int e^{-d^2/4\nu T}\, \phi(x - d)\,\mathrm{d}d},

by the trapezoidal rule, which converges faster than any power for such integrands. Points x near
a center c share the exponentials: with :math:`x = c + \delta`, :math:`d = e + \delta`,

.. math:: e^{-d^2/4\nu T} = e^{-e^2/4\nu T} \cdot e^{-(2 e \delta + \delta^2)/4\nu T} ,

where the second factor, the same for all functions and centers, is a matrix in :math:`\delta, e`.
"""

import numpy as np

from ..quantics.data import Waves

EXPONENT = 25.0
"""Largest variation of the exponent for Fourier transforms, whose error it multiplies by its
exponential."""

DROP = 1e-12
"""Relative size below which Fourier coefficients of a solution are left out."""

_POINTS = 2048  # of the transform, and of the rule; at least four times the modes
_CENTERS, _NEAR = 128, 32  # points of a solution by averages: their product
_WIDTHS = 9.0  # of the heat kernel, beyond which it is left out


def burgers(start: Waves, time: float, viscosity: float) -> Waves:
    """Solve the viscous Burgers equation.

    Parameters
    ----------
    start : Waves
        Initial functions, of at most 512 Fourier modes.
    time, viscosity : float
        Positive.

    Examples
    --------
    >>> constant = Waves(np.array([[0.5, 0.0]]))
    >>> print(burgers(constant, 1.0, 0.1)(np.array([0.0, 0.3])))
    [[0.5 0.5]]
    """
    mean = start.coefficients[:, :1].real
    exponents = integral(start) / (2 * viscosity)
    if np.ptp(exponents, axis=1).max() <= EXPONENT:
        c = _by_transform(exponents, time, viscosity)
    else:
        c = _by_averages(exponents * (2 * viscosity), time, viscosity)
    k = np.arange(c.shape[1])
    c = c * np.exp(-2j * np.pi * k * mean * time)  # carried along with the mean
    c[:, :1] += mean
    sizes = np.abs(c).max(axis=0)
    return Waves(c[:, : 1 + int(np.flatnonzero(sizes > DROP * sizes.max()).max())])


def integral(start: Waves) -> np.ndarray:
    """Return values (n, points) of the integral of functions without their means."""
    c = start.coefficients
    k = np.arange(c.shape[1])
    return Waves(np.where(k > 0, c / (2j * np.pi * np.maximum(k, 1)), 0.0)).on_grid(_POINTS)


def _by_transform(exponents: np.ndarray, time: float, viscosity: float) -> np.ndarray:
    """Return Fourier coefficients of solutions of mean zero."""
    k = np.arange(_POINTS // 2 + 1)
    phi = np.exp(-exponents - (-exponents).max(axis=1, keepdims=True))
    modes = np.fft.rfft(phi) * np.exp(-viscosity * time * (2 * np.pi * k) ** 2)
    slope = np.fft.irfft(2j * np.pi * k * modes, _POINTS)
    return coefficients(-2 * viscosity * slope / np.fft.irfft(modes, _POINTS))


def _by_averages(integrals: np.ndarray, time: float, viscosity: float) -> np.ndarray:
    """Return Fourier coefficients of solutions of mean zero."""
    spread = np.sqrt(2 * viscosity * time)
    fastest = np.abs(np.gradient(integrals, 1 / _POINTS, axis=1)).max()
    reach = int(np.ceil((fastest * time + _WIDTHS * spread) * _POINTS))
    steps = np.arange(-reach, reach + 1)
    e = steps / _POINTS
    near = (np.arange(_NEAR) - _NEAR // 2) / (_CENTERS * _NEAR)
    kernel = np.exp(-(2 * e * near[:, None] + near[:, None] ** 2) / (4 * viscosity * time))
    weighted = kernel * e
    centers = np.arange(_CENTERS) * (_POINTS // _CENTERS)
    places = (centers[:, None] - steps) % _POINTS
    out = np.empty((len(integrals), _CENTERS, _NEAR))
    for row, values in enumerate(integrals):
        log = -values[places] / (2 * viscosity) - e**2 / (4 * viscosity * time)
        weights = np.exp(log - log.max(axis=1, keepdims=True))  # (centers, steps)
        out[row] = (weights @ weighted.T) / (weights @ kernel.T) + near
    flat = np.roll(out.reshape(len(integrals), -1), -(_NEAR // 2), axis=1)
    return coefficients(flat / time)


def coefficients(values: np.ndarray) -> np.ndarray:
    """Return Fourier coefficients (n, points / 2 + 1) of real functions on an even grid.

    Examples
    --------
    >>> x = np.arange(8) / 8
    >>> coefficients(1.0 + np.cos(2 * np.pi * x)[None]).round(9)[0, :3].real + 0.0
    array([1., 1., 0.])
    """
    c = np.fft.rfft(values) / values.shape[1]
    c[:, 1:] *= 2.0
    return c
