"""Truncated MPO layers, and expectation values."""

from ...layers.layer import Layer
from ...layers.linear import Linear
from ...layers.readouts import Expectation
from ...layers.sequential import Sequential
from ...nonlinear import RMSNorm
from ..splits import Data
from .data import CLASSES
from .options import PhasesOptions


def build(options: PhasesOptions, data: Data) -> tuple[None, Layer]:
    """Build ``depth`` truncated MPO layers with norms, then expectation values of two operators."""
    L, network, first = len(data.train_inputs), options.network, options.train.seed
    dims: tuple[int, ...] = (2,) * L
    layers: list[Layer] = []
    for n in range(network.depth):
        out, seed = (network.phys,) * L, 10 * first + n
        layers += [
            Linear(dims, out, network.bond_dim, network.max_bond, bias=False, seed=seed),
            RMSNorm(),
        ]
        dims = out
    head = Expectation(dims, len(CLASSES), network.readout_bond, seed=first)
    return None, Sequential(*layers, head)
