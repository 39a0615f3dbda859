"""Which of the ways of multiplying is the fastest: measured once for every shape, and cached.

It depends on the number of rows, the ranks, the machine and its threads, and operations counted do
not tell it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

if TYPE_CHECKING:
    from .graph import Names
    from .module import TensorizedModule

CACHE_BYTES = 1 << 28
"""Most bytes that a layer keeps of contracted weights while gradients are off."""

SECONDS, MOST_CALLS = 1e-3, 20
"""A measurement takes about as many seconds; the least counts: what else a machine does only adds
to it."""

ROUNDS, MOST_ROUNDS, ALL_SECONDS = 5, 20, 0.03
"""Measurements of every kind, in turns: more where all of them take no longer than that."""

_chosen: dict[tuple, "Plan"] = {}


@dataclass(frozen=True)
class Plan:
    """The choice for a layer and a shape of its inputs.

    Attributes
    ----------
    kind : {"dense", "halves", "cores"}
        The weight is formed, once where it can be kept, and multiplied; the cores are contracted
        to two factors, which are multiplied one after the other; or the inputs are contracted with
        the cores, in the cheapest order.
    recompute : bool
        Whether intermediates are computed again in the backward pass instead of being stored.
    seconds : dict of str to float
        Time of every kind.
    shape : tuple of int
        Shape of the inputs, the first a power of two.
    gradients : bool
    """

    kind: str
    recompute: bool
    seconds: dict[str, float]
    shape: tuple[int, ...]
    gradients: bool

    def __str__(self) -> str:
        """Tell what was chosen, and the times."""
        what = "forward and backward" if self.gradients else "forward"
        times = ", ".join(f"{kind} {1e6 * s:.0f} µs" for kind, s in self.seconds.items())
        again = ", intermediates recomputed" if self.recompute else ""
        return f"{self.kind}{again} ({what}, inputs {self.shape}: {times})"


def plan(layer: "TensorizedModule", batch: int | tuple[int, ...]) -> Plan:
    """Return how a layer multiplies, measuring it if that has not been done.

    Parameters
    ----------
    layer : ftnn.tensorized.Linear or a convolution
    batch : int or tuple of int
        Number of rows; or the shape of the inputs, as convolutions need it.

    Returns
    -------
    Plan
        Of forward and backward while gradients are on; of forward, with contracted weights kept,
        under ``torch.no_grad()``.

    Examples
    --------
    >>> import ftnn, torch
    >>> layer = ftnn.tensorized.Linear(64, 64, "mpo", ranks=4)
    >>> with torch.no_grad():
    ...     found = ftnn.tensorized.plan(layer, 32)
    >>> found.kind in ("dense", "halves", "cores"), found.shape
    (True, (32, 64))
    """
    shape = layer.input_shape(batch)
    if min(shape) < 1:
        raise ValueError(f"batch is {batch}, expected numbers of at least 1")
    return _plan(layer, shape, torch.is_grad_enabled())


class Ready:
    """Contracted weights of a layer, with the shapes of inputs that they are the best way for.

    What is found out anew in every call is whether they are still those of the cores, whether
    there are as many threads, and whether torch casts: all else takes longer than a small product.
    """

    def __init__(self, layer: "TensorizedModule", state: list[Any], threads: int):
        self.state, self.threads = state, threads
        self.device = layer.cores[0].device.type
        self.ways: dict[tuple[int, ...], tuple[str, list[Tensor], list[Names]]] = {}

    def multiply(self, layer: "TensorizedModule", x: Tensor, bias: Tensor | None) -> Tensor | None:
        """Multiply inputs of a known shape; None for others, or if something has changed."""
        way = self.ways.get(x.shape)
        if (
            way is None
            or self.threads != torch.get_num_threads()
            or torch.is_autocast_enabled(self.device)
            or self.state != layer.state()
        ):
            return None
        return layer.product(way[0], x, way[1], way[2], bias)


def multiply(layer: "TensorizedModule", x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multiply inputs by the weight in the fastest way, as precisely as its cores; add a bias."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or not x.numel():
        return layer.multiply("dense", x, False, bias)
    gradients = torch.is_grad_enabled()
    ready: Ready | None = layer.__dict__.get("_ready")
    if ready is not None and not gradients:
        y = ready.multiply(layer, x, bias)
        if y is not None:
            return y
    if torch.is_autocast_enabled(x.device.type):  # would mix precisions within a contraction
        with torch.autocast(x.device.type, enabled=False):
            return multiply(layer, x.to(layer.cores[0].dtype) if x.is_floating_point() else x, bias)
    threads = torch.get_num_threads()
    key = (x.shape, gradients, threads)
    chosen = layer.__dict__.setdefault("_plans", {}).get(key)
    if chosen is None:
        chosen = _plan(layer, tuple(x.shape), gradients)
        layer.__dict__.setdefault("_plans", {})[key] = chosen
    if chosen.recompute:
        return checkpoint(layer.multiply, chosen.kind, x, False, bias, use_reentrant=False)
    if gradients or (state := layer.state()) is None:
        return layer.multiply(chosen.kind, x, False, bias)
    arrays, names = layer.weights(chosen.kind, True)
    if ready is None or ready.state != state or ready.threads != threads:
        ready = layer.__dict__["_ready"] = Ready(layer, state, threads)
    ready.ways[x.shape] = chosen.kind, arrays, names
    return layer.product(chosen.kind, x, arrays, names, bias)


def _plan(layer: "TensorizedModule", shape: tuple[int, ...], gradients: bool) -> Plan:
    shape = (1 << (shape[0] - 1).bit_length(), *shape[1:])
    first = layer.cores[0]
    name = f"{type(layer).__name__}({layer.extra_repr()})"
    key = (name, shape, gradients, first.device, first.dtype, torch.get_num_threads())
    if key not in _chosen:
        _chosen[key] = _measured(layer, shape, gradients)
    return _chosen[key]


def _measured(layer: "TensorizedModule", shape: tuple[int, ...], gradients: bool) -> Plan:
    """Time every kind on random inputs."""
    kinds = [kind for kind in layer.kinds if gradients or layer.kept_bytes(kind) <= CACHE_BYTES]
    again = {kind: gradients and layer.stores_much(kind, shape) for kind in kinds}
    first = layer.cores[0]
    x = torch.zeros(shape, dtype=first.dtype, device=first.device).requires_grad_(gradients)
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    calls, all_seconds = {}, 0.0
    for kind in kinds:
        once = _timer(layer, x, kind, again[kind])
        once(1)  # plans of contractions, weights that are kept
        seconds = max(once(1), 1e-7)
        calls[kind] = min(max(round(SECONDS / seconds), 1), MOST_CALLS)
        all_seconds += calls[kind] * seconds
    for _ in range(min(max(round(ALL_SECONDS / all_seconds), ROUNDS), MOST_ROUNDS)):
        for kind in kinds:
            times[kind].append(_timer(layer, x, kind, again[kind])(calls[kind]))
    found = {kind: min(values) for kind, values in times.items()}
    best = min(found, key=found.__getitem__)
    layer.forget()
    return Plan(best, again[best], found, shape, gradients)


def _once(layer: "TensorizedModule", x: Tensor, kind: str, again: bool) -> None:
    if not x.requires_grad:
        layer.multiply(kind, x, kept=True)
        return
    if again:
        y = checkpoint(layer.multiply, kind, x, False, use_reentrant=False)
    else:
        y = layer.multiply(kind, x, kept=False)
    wanted = [x, *(core for core in layer.cores if core.requires_grad)]
    if y.requires_grad:
        torch.autograd.grad(y.sum(), wanted, allow_unused=True)


def _timer(layer: "TensorizedModule", x: Tensor, kind: str, again: bool) -> Callable[[int], float]:
    """Return what measures the time of a call, over a number of calls."""

    def seconds(calls: int) -> float:
        _synchronize(x.device)
        begin = perf_counter()
        for _ in range(calls):
            _once(layer, x, kind, again)
        _synchronize(x.device)
        return (perf_counter() - begin) / calls

    return seconds


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
