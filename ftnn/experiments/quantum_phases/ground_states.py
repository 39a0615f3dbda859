r"""Ground states of the generalized cluster-Ising chain by DMRG, computed once and cached on disk.

.. math:: H = -J \sum_{i=1}^{N-2} Z_i X_{i+1} Z_{i+2} - h_1 \sum_i X_i - h_2 \sum_i X_i X_{i+1}

with J = 1, the model of Cong, Choi, Lukin (arXiv:1810.03787, equation 3). Its symmetry-protected
phase has a free spin at each end of an open chain, four ground states in all, of which DMRG would
return any. :math:`-J (X_1 Z_2 + Z_{N-1} X_N)`, the remainder of the first term at the ends, makes
the ground state unique and does not change the bulk.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from ...chains.terms import Cores
from ...layers.containers import read_tensors, write_tensors

if TYPE_CHECKING:
    from quimb.tensor import MatrixProductOperator, MatrixProductState

_X = np.array([[0.0, 1.0], [1.0, 0.0]])
_Z = np.diag([1.0, -1.0])
_WORK_BOND, _CUTOFF = 24, 1e-9
"""Bond dimension of DMRG; cached states are truncated further."""

PIECE = 32
"""States per file; an interrupted generation continues after the last complete file."""

_JOBS_WORTH_A_PROCESS = 16

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

    What is computed is kept; where it cannot be, a warning says so.

    If a file cannot be written, a warning is issued and the states are returned all the same.

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
    pieces = [points[start : start + PIECE] for start in range(0, len(points), PIECE)]
    stem = f"cluster-ising-{sites}-{max_bond}-{name}"
    paths = [folder / f"{stem}-{n:03d}.safetensors" for n in range(len(pieces))]
    kept = {n: _read(paths[n], pieces[n]) for n in range(len(pieces)) if paths[n].exists()}
    missing = [n for n in range(len(pieces)) if n not in kept]
    if missing:
        _make_folder(folder)
        jobs = [(pieces[n], paths[n]) for n in missing]
        kept |= zip(missing, _make(sites, jobs, max_bond, name, show), strict=True)
    states = [kept[n] for n in range(len(pieces))]
    cores = tuple(np.concatenate([piece[f"cores.{k}"] for piece in states]) for k in range(sites))
    return cores, np.concatenate([piece["energies"] for piece in states])


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


def _make(
    sites: int, pieces: Sequence[tuple[Sequence[Point], Path]], max_bond: int, name: str, show: bool
) -> list[dict[str, np.ndarray]]:
    """Compute the states of every piece, and write its file as soon as it is complete."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    jobs = [(sites, point, max_bond) for points, _ in pieces for point in points]
    columns = (
        TextColumn(f"ground states, {sites} sites, {name}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    console = Console(stderr=True)
    result, can_write = [], True
    with (
        Progress(*columns, console=console, disable=not show) as bar,
        _mapped(_solved, jobs) as results,
    ):
        task = bar.add_task("", total=len(jobs))
        for points, path in pieces:
            made = []
            for _ in points:
                made.append(next(results))
                bar.advance(task)
            tensors = {f"cores.{k}": np.stack([part[k] for part, _ in made]) for k in range(sites)}
            tensors["points"] = np.array(points)
            tensors["energies"] = np.array([energy for _, energy in made])
            can_write = can_write and _keep(path, tensors)
            result.append(tensors)
    return result


def _make_folder(folder: Path) -> None:
    """Make the folder; where it cannot be, writing its files warns."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"--data {folder}: cannot be created ({error}); choose another") from None
    except OSError:
        pass


def _keep(path: Path, tensors: dict[str, np.ndarray]) -> bool:
    """Write a file, or warn and return False."""
    try:
        write_tensors(path, tensors, {})
    except OSError as error:
        warnings.warn(
            f"ground states are not kept for the next time, choose a folder with --data: {error}",
            stacklevel=4,
        )
        return False
    return True


@contextmanager
def _mapped(function: Callable, jobs: list) -> Iterator[Iterator]:
    """Map jobs over as many processes as there are CPUs; results come in order."""
    workers = min(len(os.sched_getaffinity(0)), len(jobs) // _JOBS_WORTH_A_PROCESS)
    if workers < 2:
        yield map(function, jobs)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool.map(function, jobs)
    finally:  # on Ctrl-C what has not begun is not waited for
        pool.shutdown(cancel_futures=True)


def _solved(job: tuple[int, Point, int]) -> tuple[list[np.ndarray], float]:
    sites, point, max_bond = job
    with threadpool_limits(1):  # small matrices
        state, energy = ground_state(sites, *point)
        return padded_cores(state, max_bond), energy


def _read(path: Path, points: Sequence[Point]) -> dict[str, np.ndarray]:
    try:
        tensors, _ = read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{path}: damaged; remove it, and it is made again ({error})") from None
    if "points" not in tensors or not np.array_equal(tensors["points"], np.array(points)):
        raise ValueError(f"{path}: holds the states of other points; remove it")
    return tensors
