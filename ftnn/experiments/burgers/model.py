"""Gated layers near the identity."""

from ...layers.layer import Layer
from ...layers.sequential import Sequential
from ...layers.surgery import prolong
from ...nonlinear import Gated
from ..quantics.model import start_near_identity
from ..quantics.options import COARSE
from ..splits import Data
from .options import BurgersOptions

SPARE = 2
"""Bond dimension of the layers in excess of that of the solutions, at every cut."""


def build(options: BurgersOptions, data: Data) -> tuple[None, Layer]:
    """Build ``depth`` gated layers: quadratic steps, as in an explicit time-stepping scheme.

    Sites beyond COARSE start as identities, of bond dimension 1. Every cut gets the bond of the
    solutions and SPARE more, at most ``options.max_bond``: on fine sites functions are smooth, and
    need two or three.
    """
    sites = len(data.train_inputs)
    coarse = min(sites, COARSE)
    dims = (2,) * coarse
    needed = [core.shape[3] for core in data.train_targets[:-1]]
    bonds = [min(options.max_bond, bond + SPARE) for bond in needed]
    layers: list[Layer] = []
    for n in range(options.depth):
        seed = 10 * options.train.seed + n
        gated = Gated(dims, dims, options.bond_dim, bonds[: coarse - 1], seed=seed)
        start_near_identity(gated, seed)
        layers.append(gated)
    return None, prolong(Sequential(*layers), sites, bonds)
