r"""Features of one number: its entries in a site vector, and their inverse.

All map standardized numbers :math:`z`, clipped to :math:`|z| \le c`, to vectors of norm about one
if z has variance one:

============  =====================================================================================
linear        :math:`z`
trig          :math:`\cos\tfrac{\pi}{2}u, \sin\tfrac{\pi}{2}u` with :math:`u = (1 + z/c) / 2`
fourier       :math:`\cos\pi m u, \sin\pi m u` for m = 1 ... degree, over :math:`\sqrt{degree}`
polynomial    :math:`\sqrt{2m + 1}\,P_m(z/c)` (Legendre) for m = 1 ... degree, over
              :math:`\sqrt{degree}`
spline        cubic B-splines on ``degree`` even intervals of :math:`[-c, c]`
============  =====================================================================================
"""

import numpy as np

from ..nonlinear.bases import bsplines

FEATURES = {"linear": None, "trig": None, "fourier": 2, "polynomial": 2, "spline": 4}
"""Names of the features, with their default degree; None for features without one."""

_ORDER = 3  # of the splines


def check_features(features: str, degree: int | None) -> int:
    """Return the degree (1 for features without one), or raise unless both are compatible.

    Examples
    --------
    >>> check_features("linear", None), check_features("fourier", None)
    (1, 2)
    """
    if features not in FEATURES:
        raise ValueError(f"features is {features!r}; choose one of {', '.join(FEATURES)}")
    default = FEATURES[features]
    if default is None:
        if degree is not None:
            raise ValueError(
                f"degree is {degree!r}, but features {features!r} have none; leave it out, or "
                "choose 'fourier', 'polynomial' or 'spline'"
            )
        return 1
    if degree is None:
        return default
    if isinstance(degree, bool) or not isinstance(degree, (int, np.integer)) or degree < 1:
        raise ValueError(f"degree is {degree!r}, expected a positive integer")
    return int(degree)


def count_features(features: str, degree: int) -> int:
    """Count the features of one number.

    Examples
    --------
    >>> [count_features(name, 3) for name in FEATURES]
    [1, 2, 6, 3, 6]
    """
    counts = {"linear": 1, "trig": 2, "fourier": 2 * degree, "polynomial": degree}
    return counts.get(features, degree + _ORDER)


def expand(z: np.ndarray, features: str, degree: int, clip: float) -> np.ndarray:
    """Return the features (..., count) of standardized numbers (...) within ``clip``."""
    v = z / clip
    if features == "linear":
        return z[..., None]
    if features == "trig":
        angle = np.pi / 4 * (1.0 + v)
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    if features == "fourier":
        angles = np.pi / 2 * (1.0 + v)[..., None] * np.arange(1, degree + 1)
        waves = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # (..., degree, 2)
        return waves.reshape(*z.shape, 2 * degree) / np.sqrt(degree)
    if features == "polynomial":
        values = np.polynomial.legendre.legvander(v, degree)[..., 1:]
        return values * np.sqrt((2 * np.arange(1, degree + 1) + 1) / degree)
    return np.stack(bsplines(v, _knots(degree), _ORDER), axis=-1)


def invert(values: np.ndarray, features: str, degree: int, clip: float) -> np.ndarray:
    """Return the numbers (...) with the given features (..., count): invert :func:`expand`."""
    if features == "linear":
        return values[..., 0]
    if features == "trig":
        return clip * (np.arctan2(values[..., 1], values[..., 0]) / (np.pi / 4) - 1.0)
    if features == "fourier":
        return clip * (np.arctan2(values[..., 1], values[..., 0]) / (np.pi / 2) - 1.0)
    if features == "polynomial":
        return clip * values[..., 0] * np.sqrt(degree / 3)
    # a straight line is the spline whose coefficients are means of _ORDER neighbouring knots
    knots = _knots(degree)
    windows = np.lib.stride_tricks.sliding_window_view(knots[1:-1], _ORDER)
    return clip * (values @ windows.mean(axis=1))


def _knots(degree: int) -> np.ndarray:
    """Return the knots of even intervals of [-1, 1], and as many beyond as the splines need."""
    return 2.0 * np.arange(-_ORDER, degree + _ORDER + 1) / degree - 1.0
