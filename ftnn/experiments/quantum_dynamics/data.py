r"""Pairs of random product states and evolved states.

Random product states suffice to learn the operator on all states: if spins are drawn evenly and
independently, :math:`E[x x^\dagger] = 2^{-L} 1`, so for every operator W

.. math:: E\,\|W x - U x\|^2 = 2^{-L}\,\|W - U\|_F^2 ,

as for entangled states drawn evenly (Caro et al., arXiv:2204.10268). For a single MPO W of bond
dimension D it is at least the sum of the squares of all but the D largest singular values of U at
any cut (Eckart, Young); a product of n operators of bond dimension D reaches bond dimension D^n.
"""

from pathlib import Path

from ..cache import cache_folder
from ..splits import Data
from .options import MOST_HALVINGS, DynamicsOptions
from .states import pairs

VALIDATION, TEST, ENTANGLED = 32, 64, 32
"""Numbers of states: to validate and to test with; entangled ones of every kind."""


def load(options: DynamicsOptions) -> Data:
    """Evolve the states, or read them from the cache."""
    if options.hamiltonian == "ising" and not options.train.dtype.startswith("complex"):
        raise ValueError(
            f"dtype is {options.train.dtype}, but evolution by the Ising chain is complex; choose "
            "complex64 or complex128"
        )
    at = MOST_HALVINGS + 1 - options.halvings
    parts = []
    for split, number in (("train", options.samples), ("val", VALIDATION), ("test", TEST)):
        states = pairs(
            options.hamiltonian,
            "product",
            options.sites,
            options.time,
            number,
            split,
            folder_of(options),
        )
        parts += [states[0], states[at]]
    return Data(*parts).limited(options.limit)


def folder_of(options: DynamicsOptions) -> Path:
    """Return the folder of cached states."""
    return Path(options.data) if options.data else cache_folder()
