"""Training speed of a model, and its ratio to the time of its matrix products alone."""

from dataclasses import dataclass

import torch

from ..arrays.backend import convert
from ..chains.terms import Cores
from ..layers.layer import Layer
from ..training.module import TorchModule
from .floor import Floor, flops, products
from .timing import Timer, compare, training_step


@dataclass(frozen=True)
class Speed:
    """Cost of a training step.

    Attributes
    ----------
    batch_size, threads : int
    seconds : float
        Time of a step: forward, backward and update; median of rounds.
    floor_seconds : float
        Time of its matrix products alone, each shape at its measured rate.
    flops : int
        Number of operations of its matrix products.
    """

    batch_size: int
    threads: int
    seconds: float
    floor_seconds: float
    flops: int

    @property
    def samples_per_s(self) -> float:
        """Samples per second."""
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
    >>> speed = training_speed(ftnn.Readout((4, 4), num_outputs=3, bond_dim=2), x.cores)
    >>> speed.batch_size, speed.samples_per_s > 0, speed.flops > 0
    (20, True, True)
    """
    module = TorchModule(model, "float32", device).train()
    inputs = tuple(convert(core, "torch", "float32", device) for core in cores)

    def loss() -> torch.Tensor:
        output = module.apply_cores(inputs)
        parts = output if isinstance(output, tuple) else (output,)
        return torch.stack([part.square().mean() for part in parts]).sum()

    step = training_step(module.parameters(), loss)
    counts = products(step)
    place = f"torch-{device}"
    times = compare({"step": Timer(step, place), "floor": Floor(counts, place)})
    threads = torch.get_num_threads()
    return Speed(len(inputs[0]), threads, times["step"], times["floor"], flops(counts))
