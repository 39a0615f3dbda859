"""Elementwise: any function of the entries of the vector, by cross interpolation."""

import numpy as np

from ..arrays.backend import as_index, to_numpy
from ..arrays.random import random_generator
from ..chains.bonds import check_tolerance, cut_bonds
from ..chains.dims import check_positive
from ..chains.states import MPS
from ..chains.terms import Cores, State, Term
from ..layers.layer import Layer
from ..truncation.direct import compress_direct
from .cross import entries, interpolate
from .functions import Function, check_real, resolve_function

SAMPLES = 1000
"""Number of random places at which an error is measured."""

MAX_SWEEPS = 1000

START = 4
"""Initial bond dimension of a search by tolerance, which doubles it."""


class Elementwise(Layer):
    r"""``y = f(x)`` for every entry of the *dense* vector, without forming it.

    Batched tensor cross interpolation (see :mod:`ftnn.nonlinear.cross`): f is evaluated at a few
    fibres, chosen for each sample by complete pivoting. The result is a function of the vector and
    does not depend on the gauge of the input.

    Parameters
    ----------
    fn : {"relu", "gelu", "tanh", "sigmoid", "silu", "sin"} or callable
        A callable takes and returns arrays entry by entry, of any backend or of a single one, e.g.
        ``torch.tanh``, on which the layer must then be used; a model with a callable cannot be
        saved. It does not have to vanish at zero.
    max_bond : int, optional
        Bond dimension of the output.
    rtol : float
        If 0, the bond is ``max_bond`` wherever the dimensions allow, and shapes are static. If
        positive, the bond doubles until the sampled error of every sample is below ``rtol``, or
        ``max_bond`` is reached; it is then reduced by SVDs within ``rtol``.
    sweeps : int
        Number of sweeps back and forth that choose the index sets, at most 1000.
    seed : int
        Seed of the initial index sets, and of the places where errors are sampled.

    Notes
    -----
    Gradients hold the pivots fixed: they are correct where the interpolation is exact, and
    elsewhere are those of the interpolant, which jumps where a pivot changes.

    Few functions of a low-rank tensor have low rank. A polynomial of degree n of a tensor of bond
    :math:`\chi` has a bond of at most :math:`\chi^n`, smooth functions of smooth functions on
    quantics grids have small bonds, and ReLU of a generic state has full rank: check
    :meth:`sampled_error`.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> grid = np.linspace(0.0, 1.0, 2**10)
    >>> x = ftnn.MPS.from_dense(np.sin(6 * grid)[None], (2,) * 10, rtol=1e-12)
    >>> layer = ftnn.nonlinear.Elementwise("tanh", rtol=1e-8)
    >>> y = layer(x)
    >>> bool(np.abs(y.to_dense() - np.tanh(np.sin(6 * grid))).max() < 1e-7), max(y.bond_dims) < 16
    (True, True)
    """

    entrywise = True

    def __init__(
        self,
        fn: str | Function,
        max_bond: int | None = None,
        rtol: float = 0.0,
        sweeps: int = 2,
        seed: int = 0,
    ):
        super().__init__()
        self.function = resolve_function(fn, at_zero=False)
        self.fn = self.function.argument
        if max_bond is not None:
            check_positive(max_bond, "max_bond")
        check_tolerance(rtol)
        if max_bond is None and rtol == 0.0:
            raise ValueError("max_bond is None and rtol 0; give at least one of them")
        check_positive(sweeps, "sweeps")
        if sweeps > MAX_SWEEPS:
            raise ValueError(
                f"sweeps is {sweeps}, expected at most {MAX_SWEEPS}; after a few the index sets "
                "hardly change"
            )
        self.max_bond, self.rtol, self.sweeps, self.seed = max_bond, rtol, sweeps, seed

    def apply(self, cores: Cores) -> Cores:
        """Map cores ``(batch, left, phys, right)`` to cores of the same physical dimensions."""
        check_real(cores, "Elementwise")
        if self.rtol == 0.0:
            assert self.max_bond is not None
            return interpolate(self.function, cores, self.max_bond, self.sweeps, self.seed)
        bond, largest = START, self.max_bond or _largest(cores)
        while True:
            out = interpolate(self.function, cores, min(bond, largest), self.sweeps, self.seed)
            if float(self._error(cores, out).max()) <= self.rtol or bond >= largest:
                break
            bond *= 2
        return compress_direct((Term(State(out)),), self.max_bond, self.rtol)[0]

    def sampled_error(self, x: MPS) -> np.ndarray:
        """Measure the relative error of the layer at random places.

        Parameters
        ----------
        x : MPS

        Returns
        -------
        float64 array (batch,)
            Root of the sum of squared errors divided by the sum of squares, at 1000 places that are
            the same for every sample. It is unreliable for a function that is nearly zero except at
            a few places, which random ones miss.
        """
        return self._error(x.cores, self.apply(x.cores))

    def _error(self, cores: Cores, out: Cores) -> np.ndarray:
        rng = random_generator(self.seed, 5)
        places = np.stack([rng.integers(0, c.shape[2], SAMPLES) for c in cores], axis=1)
        index = as_index(places, cores[0])
        exact = to_numpy(self.function(entries(cores, index))).astype(np.float64)
        values = to_numpy(entries(out, index)).astype(np.float64)
        if not np.isfinite(exact).all():
            raise ValueError(
                "fn gives NaN or infinity on entries of x; restrict x, or give a function that is "
                "finite there"
            )
        size = np.linalg.norm(exact, axis=1)
        return np.linalg.norm(values - exact, axis=1) / np.where(size > 0, size, 1.0)


def _largest(cores: Cores) -> int:
    """Return the largest bond dimension that a vector of these dimensions can need."""
    return max(cut_bonds([core.shape[2] for core in cores], 2**20))
