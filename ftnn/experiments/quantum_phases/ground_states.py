r"""Ground states of the generalized cluster-Ising chain by DMRG, computed once and cached on disk.

.. math:: H = -J \sum_{i=1}^{N-2} Z_i X_{i+1} Z_{i+2} - h_1 \sum_i X_i - h_2 \sum_i X_i X_{i+1}

with J = 1, the model of Cong, Choi, Lukin (arXiv:1810.03787, equation 3). Its symmetry-protected
phase has a free spin at each end of an open chain, four ground states in all, of which DMRG would
return any. :math:`-J (X_1 Z_2 + Z_{N-1} X_N)`, the remainder of the first term at the ends, makes
the ground state unique and does not change the bulk.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from ...chains.terms import Cores
from ..cache import Cache

if TYPE_CHECKING:
    from quimb.tensor import MatrixProductOperator, MatrixProductState

_X = np.array([[0.0, 1.0], [1.0, 0.0]])
_Z = np.diag([1.0, -1.0])
_WORK_BOND, _CUTOFF = 24, 1e-9
"""Bond dimension of DMRG; cached states are truncated further."""

Point = tuple[float, float]
"""(h1, h2), in units of J."""


def cluster_ising(sites: int, h1: float, h2: float) -> "MatrixProductOperator":
    """Return the Hamiltonian as an MPO of bond dimension 5.

    Parameters
    ----------
    sites : int
        At least 3.
    h1, h2 : float
        In units of J.

    Examples
    --------
    >>> cluster_ising(5, 0.5, -0.2).max_bond()
    5
    """
    from quimb.tensor import MatrixProductOperator

    if sites < 3:
        raise ValueError(f"sites is {sites}, but the chain needs at least 3")
    # channels: nothing yet; after Z of a cluster term; after its X; after X of a pair; all done
    core = np.zeros((5, 5, 2, 2))
    core[0, 0] = core[4, 4] = np.eye(2)
    core[0, 1], core[1, 2], core[2, 4] = -_Z, _X, _Z
    core[0, 3], core[3, 4] = -h2 * _X, _X
    core[0, 4] = -h1 * _X
    first, last = core[0].copy(), core[:, 4].copy()
    first[2], last[1] = -_X, _X  # the cluster terms that reach beyond the ends
    arrays = [first, *[core] * (sites - 2), last]
    return MatrixProductOperator(arrays, shape="lrud")


def ground_state(sites: int, h1: float, h2: float) -> tuple["MatrixProductState", float]:
    """Compute the ground state and its energy by quimb's two-site DMRG.

    Returns
    -------
    state : quimb.tensor.MatrixProductState
        Real, of norm 1.
    energy : float
        In units of J.

    Raises
    ------
    RuntimeError
        If the energy does not converge.
    """
    from quimb.tensor import DMRG2, MPS_rand_state

    hamiltonian = cluster_ising(sites, h1, h2)
    start = MPS_rand_state(sites, 8, seed=0, dtype="float64")
    dmrg = DMRG2(hamiltonian, bond_dims=[8, 16, _WORK_BOND], cutoffs=_CUTOFF, p0=start)
    if not dmrg.solve(tol=1e-7, max_sweeps=40, verbosity=0):
        raise RuntimeError(f"DMRG does not converge at h1 = {h1}, h2 = {h2}")
    return dmrg.state, float(dmrg.energy)


def padded_cores(state: "MatrixProductState", max_bond: int) -> list[np.ndarray]:
    """Return truncated cores (left, phys, right), float32, zero-padded to bonds common to all.

    Bond k has dimension min(2^k, 2^(L-k), max_bond).
    """
    state = state.copy()
    state.compress(max_bond=max_bond, cutoff=1e-10, form="left")
    state.normalize()
    state.permute_arrays("lpr")
    bonds = common_bonds(state.L, max_bond)
    cores = []
    for k, array in enumerate(state.arrays):
        array = array[None] if k == 0 else array
        array = array[..., None] if k == state.L - 1 else array
        core = np.zeros((bonds[k], 2, bonds[k + 1]), dtype=np.float32)
        core[: array.shape[0], :, : array.shape[2]] = array.real
        cores.append(core)
    return cores


def common_bonds(sites: int, max_bond: int) -> list[int]:
    """Return the bond dimensions of the states on disk, including both ends.

    Examples
    --------
    >>> common_bonds(6, 5)
    [1, 2, 4, 5, 4, 2, 1]
    """
    return [min(2 ** min(k, sites - k, 30), max_bond) for k in range(sites + 1)]


def ground_states(
    name: str, sites: int, points: Sequence[Point], max_bond: int, folder: Path, show: bool = True
) -> tuple[Cores, np.ndarray]:
    """Compute ground states at many points, or read those that are kept in files.

    Parameters
    ----------
    name : str
        Name of the set of points, used in file names.
    sites : int
    points : sequence of (h1, h2)
    max_bond : int
    folder : path
    show : bool
        Whether to show a progress bar.

    Returns
    -------
    cores : tuple of array (n, left, 2, right), float32
    energies : float64 array (n,)

    Raises
    ------
    ValueError
        If a file in the folder is damaged, or holds other points; the message names it.
    """
    stem = f"cluster-ising-{sites}-{max_bond}-{name}"
    title = f"ground states, {sites} sites, {name}"
    cache = Cache(folder, stem, title, "ground states", show=show)
    arrays = cache.arrays(partial(_solved, sites, max_bond), points)
    return tuple(arrays[f"cores.{k}"] for k in range(sites)), arrays["energies"]


def string_order(cores: Cores, first: int, last: int) -> np.ndarray:
    r"""Compute the string order :math:`\langle Z_a X_{a+1} X_{a+3} \cdots X_{b-1} Z_b \rangle`.

    Parameters
    ----------
    cores : tuple of array (batch, left, 2, right)
        States of norm 1.
    first, last : int
        Sites a and b from 0, an even distance apart.

    Returns
    -------
    array (batch,)
    """
    if not 0 <= first < last < len(cores) or (last - first) % 2:
        raise ValueError(
            f"first and last are {first} and {last}, expected sites of a chain of {len(cores)}, "
            "an even distance apart"
        )
    operators = {k: _X for k in range(first + 1, last, 2)} | {first: _Z, last: _Z}
    batch = cores[0].shape[0]
    env = np.ones((batch, 1, 1))  # (batch, bra bond, ket bond)
    for k, core in enumerate(cores):
        core = core.astype(np.float64)
        ket = np.einsum("pq,blqr->blpr", operators[k], core) if k in operators else core
        half = np.einsum("bij,bjpk->bipk", env, ket, optimize=True)
        env = np.einsum("bipm,bipk->bmk", core.conj(), half, optimize=True)
    return env[:, 0, 0]


def _solved(sites: int, max_bond: int, point: Point) -> dict[str, np.ndarray]:
    with threadpool_limits(1):  # small matrices
        state, energy = ground_state(sites, *point)
        cores = padded_cores(state, max_bond)
        return {f"cores.{k}": core for k, core in enumerate(cores)} | {"energies": np.array(energy)}
