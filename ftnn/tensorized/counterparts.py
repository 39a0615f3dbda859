"""Layers on states in the place of modules, and what they make of calibration inputs."""

from dataclasses import dataclass, field
from math import nan, prod
from typing import Any

import numpy as np
import torch
from torch import nn

from ..arrays.backend import to_numpy
from ..chains.bonds import MaxBond, cut_bonds, largest_bond
from ..chains.states import MPS
from ..layers.dense import dense_arrays, relative
from ..layers.layer import Layer
from ..layers.linear import Linear
from ..layers.readouts import Readout
from ..nonlinear.elementwise import Elementwise
from ..nonlinear.kan import KAN
from ..nonlinear.kan_fit import fit_kan
from .network import NetworkRow, padded

ROWS = 64
"""Samples that pass through a layer at once."""

PROBES = 256
"""Most calibration inputs on which errors are measured."""

NAMES: dict[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.SiLU: "silu",
}
"""Functions of any backend, which can be saved."""


def name_of(module: nn.Module) -> str | None:
    """Return the name of a function of any backend, or None."""
    if type(module) is nn.GELU and module.approximate == "none":
        return "gelu"
    return NAMES.get(type(module))


@dataclass
class Counterparts:
    """Makes layers one after the other, and passes calibration inputs through both networks."""

    bond_dim: MaxBond | None
    max_bond: MaxBond | None
    function_bond: int | None
    nonlinearity: str
    moments: bool
    method: str
    seed: int
    backend: str
    layers: list[Layer] = field(default_factory=list)
    rows: list[NetworkRow] = field(default_factory=list)
    states: list[MPS] = field(default_factory=list)
    exact: np.ndarray | None = None
    width: int = 0
    dims: tuple[int, ...] = ()

    def start(self, x: np.ndarray | None, width: int, dims: tuple[int, ...]) -> None:
        """Encode the inputs (n, width)."""
        self.width, self.dims = width, dims
        if x is None:
            return
        self.exact = padded(x, dims)
        few = self.exact[:PROBES]
        cores = MPS.from_dense(few, dims, self.max_bond).to(self.backend).cores
        starts = range(0, len(few), ROWS)
        self.states = [MPS([core[k : k + ROWS] for core in cores]) for k in starts]
        error = relative(_dense(self.states), few)
        self.rows.append(NetworkRow("", "input", "MPS", dims, 0, 0, nan, error, error, error))

    def linear(
        self, module: nn.Module, in_dims: tuple[int, ...], out_dims: tuple[int, ...] | None
    ) -> Layer:
        """Make a linear layer, or a readout, of a weight padded to the dimensions."""
        weight, bias = dense_arrays(module)
        inputs = (0, prod(in_dims) - weight.shape[1])
        rows = (0, 0 if out_dims is None else prod(out_dims) - len(weight))
        weight = np.pad(weight, (rows, inputs))
        bias = None if bias is None else np.pad(bias, rows)
        second = mean = None
        if self.moments:
            assert self.exact is not None
            second = self.exact.T @ self.exact / len(self.exact)
            mean = self.exact.mean(0)
        if out_dims is None:
            bond = None if self.bond_dim is None else largest_bond(self.bond_dim)
            return Readout.from_dense(weight, in_dims, bond, second, mean, self.seed, bias)
        return Linear.from_dense(
            weight, in_dims, out_dims, self.bond_dim, self.max_bond, second, mean, self.method,
            self.seed, bias,
        )  # fmt: skip

    def function(self, module: nn.Module) -> Layer:
        """Make the counterpart of a function."""
        if self.nonlinearity == "kan":
            assert self.exact is not None
            layer = KAN(self.dims, odd=False, seed=self.seed)
            targets = _applied(module, self.exact[:PROBES])
            parts = zip(*(state.cores for state in self.states), strict=True)
            states = MPS([np.concatenate(cores) for cores in parts])
            fit_kan(layer, states, MPS.from_dense(targets, self.dims))
            return layer
        most = max(cut_bonds(self.dims, None))
        bond = most if self.function_bond is None else min(self.function_bond, most)
        fn: Any = name_of(module) or module
        return Elementwise(fn, bond, seed=self.seed)

    def add(
        self, name: str, module: nn.Module, layer: Layer, width: int, dims: tuple[int, ...]
    ) -> None:
        """Append a layer, and measure its errors on the inputs."""
        self.layers.append(layer.to(self.backend))
        own = error = truncation = nan
        if self.exact is not None:
            isolated = _applied(module, _dense(self.states)[:, : self._inputs(module)])
            self.exact = padded(_applied(module, self.exact[:, : self._inputs(module)]), dims)
            few = self.exact[:PROBES, :width]
            outputs = [layer(state) for state in self.states]
            if isinstance(layer, Readout):
                found, truncation = np.concatenate([to_numpy(y) for y in outputs]), 0.0
            else:
                self.states, found = outputs, _dense(outputs)[:, :width]
                best = MPS.from_dense(self.exact[:PROBES], dims, self.max_bond)
                truncation = relative(best.to_dense()[:, :width], few)
            own, error = relative(found, isolated[:, :width]), relative(found, few)
        told = getattr(layer, "dense_error", None)
        weight = nan if told is None else told.outputs
        self.rows.append(
            NetworkRow(
                name, type(module).__name__, type(layer).__name__, dims, layer.num_params(),
                sum(p.numel() for p in module.parameters()), weight, own, error, truncation,
            )
        )  # fmt: skip
        self.width, self.dims = width, dims

    def _inputs(self, module: nn.Module) -> int | None:
        """Return the number of entries that a module acts on; functions act on all, padded ones."""
        return self.width if isinstance(module, nn.Linear) else None


def _dense(states: list[MPS]) -> np.ndarray:
    """Return the vectors of all states: (samples, prod(dims))."""
    return np.concatenate([to_numpy(state.to_dense()) for state in states])


def _applied(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """Return what a module of torch makes of rows."""
    with torch.no_grad():
        return module(torch.from_numpy(np.ascontiguousarray(x))).numpy()
