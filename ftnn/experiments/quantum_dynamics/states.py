r"""Random states and their evolution by quimb's TEBD, computed once and cached on disk.

Trotter's error and the truncation are below 1e-6, as infidelity at t = 2 on 40 sites against half
the step and a smaller cutoff; ``benchmarks/studies/quantum_dynamics.py converged`` measures it.
"""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from ...chains.terms import Cores
from ..cache import Cache
from .hamiltonians import Name, hamiltonian
from .options import MOST_HALVINGS

if TYPE_CHECKING:
    from quimb.tensor import LocalHam1D, MatrixProductState

Kind = Literal["product", "random", "evolved"]

STEP, ORDER, CUTOFF = 0.1, 4, 1e-11
"""Time step, order of the Trotter formula, and cutoff of TEBD."""

BOND = 4
"""Bond dimension of random entangled states."""

EVOLVED_TIME = 0.5
"""Time for which states of kind "evolved" have evolved by another Hamiltonian before."""


def initial_state(
    kind: Kind, sites: int, rng: np.random.Generator, real: bool = False
) -> "MatrixProductState":
    """Draw a state of norm 1: a product state, a random MPS, or an evolved product state.

    Parameters
    ----------
    kind : {"product", "random", "evolved"}
        Spins in independent directions, evenly distributed; Gaussian cores of bond dimension BOND;
        a product state after EVOLVED_TIME of another Hamiltonian.
    sites : int
    rng : numpy.random.Generator
    real : bool

    Returns
    -------
    quimb.tensor.MatrixProductState
    """
    from quimb.tensor import MatrixProductState

    inner = BOND if kind == "random" else 1
    bonds = [1, *[inner] * (sites - 1), 1]
    arrays = []
    for k in range(sites):
        shape = (bonds[k], 2, bonds[k + 1])
        array = rng.standard_normal(shape)
        arrays.append(array if real else array + 1j * rng.standard_normal(shape))
    arrays[0], arrays[-1] = arrays[0][0], arrays[-1][..., 0]
    state = MatrixProductState(arrays, shape="lpr")
    state.normalize()
    if kind == "evolved":
        state = evolved(state, hamiltonian("other", sites), [EVOLVED_TIME])[0]
    return state


def evolved(
    state: "MatrixProductState",
    by: "LocalHam1D",
    times: list[float],
    step: float = STEP,
    order: int = ORDER,
    cutoff: float = CUTOFF,
) -> list["MatrixProductState"]:
    """Return a state at increasing times, by TEBD.

    Parameters
    ----------
    state : quimb.tensor.MatrixProductState
        At time 0.
    by : quimb.tensor.LocalHam1D
    times : list of float
    step, cutoff : float
    order : {1, 2, 4}
        Of the Trotter formula.
    """
    from quimb.tensor import TEBD

    solver = TEBD(state, by, progbar=False, split_opts={"cutoff": cutoff})
    return [_at(solver, time, step, order) for time in times]


def _at(solver, time: float, step: float, order: int) -> "MatrixProductState":
    solver.update_to(time, dt=step, order=order)
    return solver.pt.copy()


def arrays_of(state: "MatrixProductState") -> list[np.ndarray]:
    """Return the cores (left, phys, right) of a quimb state."""
    state = state.copy()
    state.permute_arrays("lpr")
    arrays = list(state.arrays)
    arrays[0], arrays[-1] = arrays[0][None], arrays[-1][..., None]
    return arrays


def pairs(
    by: Name, kind: Kind, sites: int, time: float, number: int, split: str, folder: Path
) -> list[Cores]:
    """Evolve random states, or read those that are kept in files.

    Parameters
    ----------
    by : {"ising", "imaginary"}
        Hamiltonian; with the second one, states are real.
    kind : {"product", "random", "evolved"}
    sites : int
    time : float
    number : int
        Number of states.
    split : str
        Name of the set of states, from which their seeds follow.
    folder : Path

    Returns
    -------
    list of tuple of array (number, left, 2, right)
        The states at time 0, and at time / 2^n for n = MOST_HALVINGS, ..., 1, 0; complex64, or
        float32 if they are real.
    """
    stem = f"{by}-{sites}-{time:g}-{kind}-{split}-{STEP:g}-{CUTOFF:g}"
    title = f"evolved states, {sites} sites, {kind}, {split}"
    cache = Cache(folder, stem, title, "evolved states", key="seeds")
    compute = partial(_pair, by, kind, sites, time)
    seed = sum(map(ord, split))
    arrays = cache.arrays(compute, [(float(seed), float(n)) for n in range(number)])
    return [tuple(arrays[f"{t}.{k}"] for k in range(sites)) for t in range(MOST_HALVINGS + 2)]


def _pair(
    by: Name, kind: Kind, sites: int, time: float, seeds: tuple[float, ...]
) -> dict[str, np.ndarray]:
    real = by == "imaginary"
    rng = np.random.default_rng([int(seed) for seed in seeds])
    with threadpool_limits(1):  # small matrices
        state = initial_state(kind, sites, rng, real)
        times = [time / 2**n for n in range(MOST_HALVINGS, -1, -1)]
        states = [state, *evolved(state, hamiltonian(by, sites), times)]
    return {
        f"{t}.{k}": array.real.astype("float32") if real else array.astype("complex64")
        for t, one in enumerate(states)
        for k, array in enumerate(arrays_of(one))
    }
