"""Comparative timings: warmed up, alternating, synchronized with the device, medians of rounds."""

import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch

from ..arrays.backend import synchronize

ROUNDS = 5
SECONDS = 0.3
"""Duration of a round of a call, about, in seconds."""


class Timed(Protocol):
    """Protocol of objects to time: a :class:`Timer`, or a :class:`ftnn.measure.floor.Floor`."""

    def seconds(self) -> float:
        """Measure the time once."""


class Timer:
    """A call that is repeated often enough to be timed.

    Parameters
    ----------
    call : callable
        Called without arguments.
    place : str
        Backend and device to synchronize with, such as "torch-cpu" or "cupy-cuda".
    target : float
        Duration of a round in seconds.
    warm : bool
        Whether to call it twice beforehand, and choose the number of calls per round; otherwise a
        round is one call.

    Examples
    --------
    >>> from ftnn.measure.timing import Timer
    >>> timer = Timer(lambda: sum(range(1000)), target=0.01)
    >>> timer.number > 1, timer.seconds() < 0.01
    (True, True)
    """

    def __init__(
        self,
        call: Callable[[], object],
        place: str = "torch-cpu",
        target: float = SECONDS,
        warm: bool = True,
    ):
        self.call, self.place, self.number = call, place, 1
        if warm:
            once = min(self.seconds() for _ in range(2))
            self.number = max(1, round(target / max(once, 1e-7)))

    def seconds(self) -> float:
        """Time a round, divided by the number of calls in it."""
        gc.collect()
        gc.disable()
        try:
            synchronize(self.place)
            begin = time.perf_counter()
            for _ in range(self.number):
                self.call()
            synchronize(self.place)
            return (time.perf_counter() - begin) / self.number
        finally:
            gc.enable()


def compare(
    timed: Mapping[str, Timed],
    rounds: int = ROUNDS,
    watch: Callable[[str], object] | None = None,
) -> dict[str, float]:
    """Return the median seconds of each, measured alternately in one process.

    A temporary disturbance of the machine then affects all of them, and ratios stay correct.

    Parameters
    ----------
    timed : dict of str to Timer or Floor
    rounds : int
    watch : callable, optional
        Called with the name before each measurement.

    Examples
    --------
    >>> from ftnn.measure.timing import Timer, compare
    >>> calls = {"short": lambda: sum(range(100)), "long": lambda: sum(range(100_000))}
    >>> times = compare({name: Timer(call, target=0.01) for name, call in calls.items()})
    >>> times["short"] < times["long"]
    True
    """
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, one in timed.items():
            if watch is not None:
                watch(name)
            times[name].append(one.seconds())
    return {name: statistics.median(values) for name, values in times.items()}


def training_step(
    parameters: Iterable[torch.nn.Parameter],
    loss: Callable[[], torch.Tensor],
    clip_norm: float | None = None,
    **options: Any,
) -> Callable[[], None]:
    """Make a training step that can be repeated: forward, backward, clipping and update.

    Parameters
    ----------
    parameters : iterable of Parameter
    loss : callable
        Computes the loss of a batch.
    clip_norm : float, optional
        Clip the gradient to this norm.
    **options
        Options of :class:`torch.optim.AdamW`; the default learning rate is small, so that the step
        can be repeated any number of times.

    Returns
    -------
    callable
        Also works where gradients are disabled.
    """
    parameters = list(parameters)
    optimizer = torch.optim.AdamW(parameters, **{"lr": 1e-5} | options)

    def step() -> None:
        with torch.enable_grad():
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            if clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
            optimizer.step()

    return step
