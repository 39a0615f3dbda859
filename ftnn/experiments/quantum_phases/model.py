"""Truncated MPO layers, and expectation values."""

from ...layers.layer import Layer
from ...layers.linear import Linear
from ...layers.readouts import Expectation
from ...layers.sequential import Sequential
from ...nonlinear import RMSNorm
from ..bonds import bonds_of, needed_bond
from ..splits import Data
from .data import CLASSES
from .options import PhasesOptions


def build(options: PhasesOptions, data: Data) -> tuple[None, Layer]:
    """Build ``depth`` truncated MPO layers with norms, then expectation values of two operators."""
    L, network, first = len(data.train_inputs), options.network, options.train.seed
    dims: tuple[int, ...] = (2,) * L
    layers: list[Layer] = []
    out = (network.phys,) * L
    max_bond = needed_bond(
        [(dims, out), *[(out, out)] * (network.depth - 1)][: network.depth],
        bonds_of(data.train_inputs, data.val_inputs, data.test_inputs),
        network.bond_dim,
        network.max_bond,
        options.train.batch_size,
    )
    for n in range(network.depth):
        layers += [
            Linear(dims, out, network.bond_dim, max_bond, bias=False, seed=10 * first + n),
            RMSNorm(),
        ]
        dims = out
    head = Expectation(dims, len(CLASSES), network.readout_bond, seed=first)
    return None, Sequential(*layers, head)
