"""Conclusion: infidelities on unseen states, Trotter's, and a state followed through time."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...chains.distance import infidelities
from ...chains.entanglement import entanglement_entropies
from ...chains.environments import environments
from ...chains.states import MPS
from ...chains.terms import Cores
from ...layers.layer import Layer
from ...layers.sequential import Sequential
from ...layers.surgery import prolong
from ...plotting import plot_dynamics
from ...training.inputs import select_rows
from ..bonds import needed_bond
from ..cache import concatenate
from ..splits import Data
from .data import ENTANGLED, folder_of
from .hamiltonians import Z, hamiltonian
from .options import MOST_HALVINGS, DynamicsOptions
from .states import arrays_of, evolved, pairs

if TYPE_CHECKING:
    from quimb.tensor import MatrixProductState

TROTTER_STATES = 8
"""Test states on which Trotter circuits are compared."""

LARGEST = 16
"""Bond dimension of the states to test with, at most."""

BATCH = 16
REPEATED = 2
"""Times the network is applied for the figure."""


def conclude(
    folder: Path, options: DynamicsOptions, data: Data, model: Layer, evaluation: Any
) -> dict[str, Any]:
    """Measure infidelities on unseen product and entangled states; draw ``dynamics.png``."""
    network = widened(model, options)
    cases = {"product": (data.test_inputs, data.test_targets), **entangled(options)}
    found = {
        name: infidelities(outputs(network, states), in_double(targets))
        for name, (states, targets) in cases.items()
    }
    means = {name: float(values.mean()) for name, values in found.items()}
    means["unchanged"] = float(infidelities(data.test_inputs, data.test_targets).mean())
    means["trotter"] = trotter_infidelity(options, data, options.layers)
    draw(folder / "dynamics.png", options, network, data.test_inputs)
    text = {
        "product": "unseen product states",
        "random": "random states of bond dimension 4, unlike those of the training",
        "evolved": "states evolved before by another Hamiltonian, likewise",
        "unchanged": "doing nothing, on product states",
        "trotter": f"Trotter, second order, {options.layers} steps with the known Hamiltonian",
    }
    return {
        "infidelity": means,
        "largest_infidelity": {name: float(values.max()) for name, values in found.items()},
        "remarks": {
            f"infidelity, {name}": [f"{value:.2e}", text[name]] for name, value in means.items()
        },
    }


def widened(model: Layer, options: DynamicsOptions) -> Sequential:
    """Return the network in double precision, with the bond dimension of tests."""
    assert isinstance(model, Sequential)
    dims, bonds = (2,) * options.sites, (1, *[LARGEST] * (options.sites - 1), 1)
    layers = [(dims, dims)] * len(model.layers)
    bond = needed_bond(layers, bonds, options.bond_dim, options.test_bond, BATCH)
    network = prolong(model, options.sites, bond)
    assert isinstance(network, Sequential)
    real = options.hamiltonian == "imaginary"
    return network.to("numpy", "float64" if real else "complex128")


def outputs(network: Layer, cores: Cores) -> Cores:
    """Apply a network to states, a few at a time."""
    dtype = dtype_of(network)
    parts = [
        network.apply(tuple(c.astype(dtype) for c in select_rows(cores, slice(n, n + BATCH))))
        for n in range(0, len(cores[0]), BATCH)
    ]
    return tuple(concatenate([part[k] for part in parts]) for k in range(len(cores)))


def in_double(cores: Cores) -> Cores:
    """Convert to double precision: infidelities below 1e-6 are rounding in single."""
    return tuple(core.astype(np.result_type(core, np.float64)) for core in cores)


def entangled(options: DynamicsOptions) -> dict[str, tuple[Cores, Cores]]:
    """Return entangled states and what becomes of them, by kind."""
    at = MOST_HALVINGS + 1 - options.halvings
    result = {}
    for kind in ("random", "evolved"):
        states = pairs(
            options.hamiltonian,
            kind,
            options.sites,
            options.time,
            min(ENTANGLED, options.limit or ENTANGLED),
            "test",
            folder_of(options),
        )
        result[kind] = (states[0], states[at])
    return result


def trotter_infidelity(options: DynamicsOptions, data: Data, steps: int) -> float:
    """Return the mean infidelity of a second-order Trotter circuit on a few test states."""
    time = options.time / 2**options.halvings
    by = hamiltonian(options.hamiltonian, options.sites)
    few = slice(TROTTER_STATES)
    inputs, targets = select_rows(data.test_inputs, few), select_rows(data.test_targets, few)
    found = []
    for row in range(len(inputs[0])):
        state = evolved(to_quimb(inputs, row), by, [time], time / steps, order=2)[0]
        cores = tuple(core[None] for core in arrays_of(state))
        target = tuple(core[row : row + 1].astype(cores[0].dtype) for core in targets)
        found.append(float(infidelities(cores, target)[0]))
    return float(np.mean(found))


def to_quimb(cores: Cores, row: int) -> "MatrixProductState":
    """Return one state of a batch as a quimb MPS, without zero padding."""
    from quimb.tensor import MatrixProductState

    arrays = [core[row].astype(complex) for core in cores]
    arrays[0], arrays[-1] = arrays[0][0], arrays[-1][..., 0]
    state = MatrixProductState(arrays, shape="lpr")
    state.compress(cutoff=1e-14)
    return state


def draw(path: Path, options: DynamicsOptions, network: Sequential, states: Cores) -> None:
    """Follow the first of a batch of states, exactly and layer by layer."""
    time = options.time / 2**options.halvings
    layers = [*network.layers] * REPEATED
    times = np.arange(len(layers) + 1) * time / options.layers
    by = hamiltonian(options.hamiltonian, options.sites)
    first = select_rows(states, slice(1))
    learned: list[Cores] = [tuple(core.astype(dtype_of(network)) for core in first)]
    for layer in layers:
        learned.append(layer.apply(learned[-1]))
    later = evolved(to_quimb(first, 0), by, [float(t) for t in times[1:]], cutoff=1e-7)
    exact = [tuple(core.astype(complex) for core in first)]
    exact += [tuple(core[None] for core in arrays_of(state)) for state in later]
    runs = {"exact": exact, "learned": learned}
    maps = {n: np.array([local_expectations(x, Z) for x in run]) for n, run in runs.items()}
    entropies = {name: middle_entropies(run) for name, run in runs.items()}
    plot_dynamics(times, maps, entropies, time, path)


def dtype_of(network: Layer) -> Any:
    """Return the dtype of the weights."""
    return next(iter(network.named_params().values())).dtype


def middle_entropies(states: Sequence[Cores]) -> np.ndarray:
    """Return the entropy of the middle cut of the first state of every batch, in nats."""
    middle = len(states[0]) // 2 - 1
    return np.array([float(entanglement_entropies(cores)[0, middle]) for cores in states])


def local_expectations(cores: Cores, operator: np.ndarray) -> np.ndarray:
    """Return the expectation value of an operator (2, 2) on every site, of the first state.

    Parameters
    ----------
    cores : tuple of array (batch, left, 2, right)
    operator : array (2, 2)
        Hermitian.

    Returns
    -------
    array (L,)

    Examples
    --------
    >>> up = np.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    >>> local_expectations((up, up), np.diag([1.0, -1.0]))
    array([1., 1.])
    """
    state = MPS([core[:1] for core in cores])
    left, right = environments(state), environments(state, side="right")
    values = []
    for k, core in enumerate(state.cores):
        rho = np.einsum(
            "ab,apc,bqd,cd->qp",
            left[k].array[0],
            core[0].conj(),
            core[0],
            right[k + 1].array[0],
            optimize=True,
        )
        values.append(float((np.trace(operator @ rho) / np.trace(rho)).real))
    return np.array(values)
