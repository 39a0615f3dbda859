"""Cores of chains: checks of their layout, and the way from quimb's networks to it."""

from collections.abc import Iterable

import quimb.tensor as qtn
from autoray import do

from ..arrays.backend import Array, check_alike, check_floating


def check_cores(cores: tuple[Array, ...]) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``cores`` are a batched open chain."""
    _check_chain(cores, "an MPS", ("batch", "left", "phys", "right"))
    for k, core in enumerate(cores):
        if core.shape[0] == 0:
            raise ValueError("the batch is empty; an MPS needs at least one sample")
        if core.shape[0] != cores[0].shape[0]:
            raise ValueError(
                f"cores[{k}] has batch {core.shape[0]}, but cores[0] has {cores[0].shape[0]}"
            )
        if 0 in core.shape:
            raise ValueError(
                f"cores[{k}] has shape {tuple(core.shape)}, expected no dimension of 0"
            )


def check_operator_cores(cores: tuple[Array, ...]) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``cores`` are an open chain of an operator."""
    _check_chain(cores, "an MPO", ("left", "out", "in", "right"))


def _check_chain(cores: tuple[Array, ...], chain: str, axes: tuple[str, ...]) -> None:
    """Raise unless there are cores, of one dtype and place, whose neighbouring bonds match."""
    if not cores:
        raise ValueError(f"cores is empty; {chain} needs at least one site")
    for k, core in enumerate(cores):
        check_floating(core, f"cores[{k}]")
        if core.ndim != len(axes):
            raise ValueError(
                f"cores[{k}] has shape {tuple(core.shape)}, expected ({', '.join(axes)})"
            )
        left = cores[k - 1].shape[-1] if k else 1
        found = core.shape[axes.index("left")]
        if found != left:
            raise ValueError(
                f"cores[{k}] has left bond {found}, expected {left}"
                + (f", the right bond of cores[{k - 1}]" if k else " at the left end")
            )
    check_alike(cores, "cores")
    if cores[-1].shape[-1] != 1:
        raise ValueError(
            f"cores[{len(cores) - 1}] has right bond {cores[-1].shape[-1]}, expected 1 at the end"
        )


def stack_states(
    states: "qtn.MatrixProductState | Iterable[qtn.MatrixProductState]",
) -> tuple[Array, ...]:
    """Return the cores (batch, left, phys, right) of quimb states, padded to the largest bonds."""
    states = [states] if isinstance(states, qtn.MatrixProductState) else list(states)
    if not states:
        raise ValueError("states is empty; give at least one MatrixProductState")
    for n, state in enumerate(states):
        if not isinstance(state, qtn.MatrixProductState):
            raise TypeError(
                f"states[{n}] is a {type(state).__name__}, expected a MatrixProductState"
            )
        if state.cyclic:
            raise ValueError(f"states[{n}] is cyclic; only open boundaries are supported")
    dims = tuple(states[0].phys_dim(k) for k in range(states[0].L))
    chains = []
    for n, state in enumerate(states):
        own = tuple(state.phys_dim(k) for k in range(state.L))
        if own != dims:
            raise ValueError(f"states[{n}] has phys_dims {own}, but states[0] has {dims}")
        chains.append(state_cores(state))
    cores: list[Array] = []
    for k in range(len(dims)):
        left = max(chain[k].shape[0] for chain in chains)
        right = max(chain[k].shape[2] for chain in chains)
        padded = [
            do(
                "pad",
                c[k],
                ((0, left - c[k].shape[0]), (0, 0), (0, right - c[k].shape[2])),
            )
            for c in chains
        ]
        cores.append(do("stack", padded))
    return tuple(cores)


def state_cores(state: qtn.MatrixProductState) -> list[Array]:
    """Return the cores (left, phys, right) of a quimb state."""
    cores = []
    for k in range(state.L):
        inds = [state.site_ind(k)]
        if k > 0:
            inds.insert(0, state.bond(k - 1, k))
        if k < state.L - 1:
            inds.append(state.bond(k, k + 1))
        data = state[k].transpose(*inds).data
        data = data[None] if k == 0 else data
        cores.append(data[..., None] if k == state.L - 1 else data)
    return cores


def operator_cores(operator: qtn.MatrixProductOperator) -> tuple[Array, ...]:
    """Return the cores (left, out, in, right) of a quimb operator."""
    L, cores = operator.L, []
    for k in range(L):
        inds = [operator.upper_ind(k), operator.lower_ind(k)]
        if k > 0:
            inds.insert(0, operator.bond(k - 1, k))
        if k < L - 1:
            inds.append(operator.bond(k, k + 1))
        data = operator[k].transpose(*inds).data
        data = data[None] if k == 0 else data
        cores.append(data[..., None] if k == L - 1 else data)
    return tuple(cores)
