r"""Coefficients with structure on two scales, and solutions of a diffusion equation.

The equation is :math:`-(a u')' = 1` on [0, 1] with u(0) = 0 and no flux at 1, a u'(1) = 0. Once
integrated it is :math:`a u' = 1 - x`, so the solution is :math:`u = \int_0^x (1 - y)/a(y)\,dy`.

The coefficients are :math:`a = 1 + 0.45\,g(x) + 0.4\,s(x/ε)`, where g and s are random functions of
period 1 with largest absolute value 1, so that a lies between 0.15 and 1.85. Periods are powers of
two: on :math:`2^{30}` points ε is one of 2^-7 ... 2^-20, and a period has at least 2^10 points. On
:math:`2^L` points the smallest is 2^-(L - 10), and below L = 17 there is only one: 2^-7, or
2^-(L - 5) below L = 12.
"""

from dataclasses import dataclass

import numpy as np

from ...chains.operators import MPO
from ...chains.states import MPS
from ...chains.terms import Cores
from ...truncation import compress
from ..quantics.data import Waves
from ..splits import Data
from .functions import from_two_scales
from .integral import integral_cores
from .options import TwoScaleOptions

SIZES = (256, 32, 128)
"""Numbers of functions for training, validation and test."""

DRAWS = (0, 1, 3)
"""Seeds of these sets; 2 was a test set that was looked at while the network was designed."""

MODES = 2
"""Highest Fourier mode of g and of s."""

SLOW, FAST = 0.45, 0.4
"""Amplitudes of g and of s."""

_RTOL = 1e-7  # of the states
_TOGETHER = 32  # functions that are encoded at a time


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Coefficients a(x, y) = 1 + 0.45 g(x) + 0.4 s(y), of which a(x) = a(x, x/ε).

    Attributes
    ----------
    slow, fast : Waves
        g and s, n functions each.
    scale : array (n,)
        Numbers in [0, 1) that choose ε among those that a grid resolves.
    """

    slow: Waves
    fast: Waves
    scale: np.ndarray

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return values (n, points) at x and y, arrays (points,)."""
        return 1.0 + SLOW * self.slow(x) + FAST * self.fast(y)

    def __getitem__(self, rows: slice | np.ndarray) -> "Coefficients":
        """Select some of the functions."""
        slow, fast = (Waves(waves.coefficients[rows]) for waves in (self.slow, self.fast))
        return Coefficients(slow, fast, self.scale[rows])

    def bits(self, sites: int) -> np.ndarray:
        """Return the int array (n,) of -log2 ε on a grid of 2^sites points."""
        first, last = resolved_bits(sites)
        return first + np.floor(self.scale * (last - first + 1)).astype(int)


def resolved_bits(sites: int) -> tuple[int, int]:
    """Return the smallest and the largest -log2 ε of a grid of 2^sites points.

    Examples
    --------
    >>> resolved_bits(30), resolved_bits(20), resolved_bits(12), resolved_bits(8)
    ((7, 20), (7, 10), (7, 7), (3, 3))
    """
    first = min(7, sites - 5)
    return first, max(first, sites - 10)


def random_coefficients(number: int, seed: int) -> Coefficients:
    """Draw g and s with modes 1 ... MODES, of amplitudes that fall as 1/k, and the scales."""
    rng = np.random.default_rng((seed, 7))
    return Coefficients(_unit_waves(number, rng), _unit_waves(number, rng), rng.random(number))


def _unit_waves(number: int, rng: np.random.Generator) -> Waves:
    real, imag = rng.standard_normal((2, number, MODES + 1))
    k = np.arange(MODES + 1)
    waves = Waves(np.where(k > 0, (real + 1j * imag) / np.maximum(k, 1), 0.0))
    top = np.abs(waves(np.arange(4096) / 4096)).max(axis=1, keepdims=True)
    return Waves(waves.coefficients / top)


def load(options: TwoScaleOptions) -> Data:
    """Generate the pairs.

    The functions g and s do not depend on the seed of the training or on the number of sites.
    """
    parts: list[Cores] = []
    for number, (size, seed) in enumerate(zip(SIZES, DRAWS, strict=True)):
        most = options.limit if number < 2 else None
        parts += encode_pairs(random_coefficients(size, seed)[:most], options.sites)
    return Data(*parts)


def encode_pairs(coefficients: Coefficients, sites: int) -> tuple[Cores, Cores]:
    """Encode a and u at the midpoints of 2^sites cells.

    Returns
    -------
    a, u : tuple of array (n, left, 2, right)
        u is the sum of :func:`integral_cores`; bonds are padded with zeros to the largest.
    """
    bits = coefficients.bits(sites)
    weight = MPO(integral_cores(sites))
    parts: list[tuple[np.ndarray, Cores, Cores]] = []
    for n in np.unique(bits):
        rows = np.flatnonzero(bits == n)
        for few in np.array_split(rows, -(-len(rows) // _TOGETHER)):
            a, inverse = _encoded(coefficients[few], sites, int(n))
            u = compress(weight @ inverse, method="direct", rtol=_RTOL)
            parts.append((few, a, u.cores))
    return _joined([(rows, a) for rows, a, _ in parts]), _joined(
        [(rows, u) for rows, _, u in parts]
    )


def _encoded(coefficients: Coefficients, sites: int, bits: int) -> tuple[Cores, MPS]:
    """Encode a and 1/a."""
    a = from_two_scales(coefficients, sites, bits, _RTOL)
    inverse = from_two_scales(lambda x, y: 1.0 / coefficients(x, y), sites, bits, _RTOL)
    return a.cores, inverse


def _joined(parts: list[tuple[np.ndarray, Cores]]) -> Cores:
    """Put batches of chains in their rows of one, with bonds padded to the largest."""
    total = sum(len(rows) for rows, _ in parts)
    joined = []
    for k in range(len(parts[0][1])):
        shapes = np.array([cores[k].shape[1:] for _, cores in parts])
        whole = np.zeros((total, *shapes.max(axis=0)))
        for rows, cores in parts:
            left, phys, right = cores[k].shape[1:]
            whole[rows, :left, :phys, :right] = cores[k]
        joined.append(whole)
    return tuple(joined)
