"""How fast a model trains here, and how far it is from the time of its matrix products alone."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..arrays.backend import convert, synchronize
from ..chains.terms import Cores
from ..layers.layer import Layer
from ..training.module import TorchModule
from .floor import Floor, flops, products

ROUNDS = 5
SECONDS = 0.3
"""A round lasts about that long."""


@dataclass(frozen=True)
class Speed:
    """Cost of a training step.

    Attributes
    ----------
    batch_size, threads : int
    seconds : float
        Of a step: forward, backward and update; median of rounds.
    floor_seconds : float
        Of its matrix products alone, shape by shape at the rate measured for each.
    flops : int
        Of its matrix products.
    """

    batch_size: int
    threads: int
    seconds: float
    floor_seconds: float
    flops: int

    @property
    def samples_per_s(self) -> float:
        """Samples a second."""
        return self.batch_size / self.seconds

    @property
    def multiple(self) -> float:
        """Time of a step over that of its matrix products."""
        return self.seconds / self.floor_seconds


def training_speed(model: Layer, cores: Cores, device: str = "cpu") -> Speed:
    """Measure training steps of a model on a device, on the CPU with the threads that torch has.

    The loss is the mean square of the outputs, the optimizer AdamW. The model is changed: it is
    moved to torch and updated.

    Parameters
    ----------
    model : Layer
    cores : tuple of array (batch, left, phys, right)
    device : str
        "cpu" or "cuda", "cuda:1", ...

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> from ftnn.measure.speed import training_speed
    >>> x = ftnn.MPS.from_dense(np.ones((20, 16)), (4, 4))
    >>> found = training_speed(ftnn.Readout((4, 4), num_outputs=3, bond_dim=2), x.cores)
    >>> found.batch_size, found.samples_per_s > 0, found.flops > 0
    (20, True, True)
    """
    module = TorchModule(model, "float32", device).train()
    inputs = tuple(convert(core, "torch", "float32", device) for core in cores)
    optimizer = torch.optim.AdamW(module.parameters(), 1e-5)

    def step() -> None:
        with torch.enable_grad():
            optimizer.zero_grad()
            output = module.apply_cores(inputs)
            parts = output if isinstance(output, tuple) else (output,)
            sum(part.square().mean() for part in parts).backward()
            optimizer.step()

    found = products(step)
    place = f"torch-{device}"
    floor = Floor(found, place)
    seconds = median_seconds(step, place)
    least = statistics.median(floor.seconds() for _ in range(3))
    return Speed(len(inputs[0]), torch.get_num_threads(), seconds, least, flops(found))


def median_seconds(step: Callable[[], None], place: str, rounds: int = ROUNDS) -> float:
    """Median time of a step over rounds of about a third of a second, after a first one."""
    step()
    synchronize(place)
    begin = time.perf_counter()
    step()
    synchronize(place)
    count = max(1, round(SECONDS / (time.perf_counter() - begin)))
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(count):
            step()
        synchronize(place)
        found.append((time.perf_counter() - begin) / count)
    return statistics.median(found)
