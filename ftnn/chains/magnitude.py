"""Sizes of nodes: what their cores are divided by, so that no product overflows or vanishes."""

from ..arrays.backend import Array
from ..arrays.scales import divide_by_peaks, log_peaks
from .terms import Apply, Cores, Hadamard, Node, State


def divide_node(node: Node) -> tuple[Node, Array, Array]:
    """Divide every core of a node by its largest modulus, those of a batch sample by sample.

    Parameters
    ----------
    node : State, Apply or Hadamard

    Returns
    -------
    node : State, Apply or Hadamard
    log : array (batch or 1,)
        Logarithm of the product of what the cores were divided by.
    live : bool array (batch or 1,)
        Whether none of the cores is zero.
    """
    match node:
        case State(cores):
            cores, log, live = divide_state(cores)
            return State(cores), log, live
        case Apply(cores, child):
            cores, log, live = divide_by_peaks(cores)
            child, log_child, live_child = divide_node(child)
            return Apply(cores, child), log + log_child, live & live_child
        case Hadamard(first, second):
            first, log, live = divide_node(first)
            second, log_second, live_second = divide_node(second)
            return Hadamard(first, second), log + log_second, live & live_second


def divide_state(cores: Cores) -> tuple[Cores, Array, Array]:
    """Divide the cores of a state as :func:`divide_node` does."""
    if cores[0].shape[0] == 1:
        return divide_by_peaks(cores)
    tops, log, live = log_peaks(cores, 4)
    return tuple(core / top for core, top in zip(cores, tops, strict=True)), log, live
