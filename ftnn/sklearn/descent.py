"""Descent: the training of a readout, epoch by epoch."""

import math

import numpy as np
import torch

from ..chains.terms import Cores
from ..layers.readouts import Readout
from ..training.module import TorchModule
from .losses import loss_of

AVERAGING = 0.7
"""Share of the average of the weights that an epoch keeps."""
WARMUP_STEPS = 10
MAX_GRADIENT = 1.0


class Descent:
    """Adam on mini-batches, with clipped gradients, pulled towards where it started.

    What counts is the running average of the weights over the epochs.

    Parameters
    ----------
    start : Readout
    cores : tuple of float64 array (n, 1, phys, 1)
    targets : int array (n,) or float array (n, outputs)
    classes : int or None
        As of :func:`ftnn.sklearn.losses.loss_of`.
    learning_rate, pull : float
    batch_size : int or None
        By default a sixteenth of the samples, at least 64 and at most 512.
    seed : int
        Of the order of the samples.
    """

    def __init__(
        self,
        start: Readout,
        cores: Cores,
        targets: np.ndarray,
        classes: int | None,
        learning_rate: float,
        pull: float,
        batch_size: int | None,
        seed: int,
    ):
        self.classes, self.learning_rate, self.pull = classes, learning_rate, pull
        self.module = TorchModule(start)
        self.params = list(self.module.parameters())
        self.start = [param.detach().clone() for param in self.params]
        self.average = [param.detach().clone() for param in self.params]
        self.inputs, self.targets = _tensors(cores), torch.from_numpy(targets)
        self.optimizer = torch.optim.Adam(self.params, lr=learning_rate)
        self.generator = torch.Generator().manual_seed(seed)
        size = batch_size or min(max(64, len(targets) // 16), 512)
        self.batches, self.steps = max(1, math.ceil(len(targets) / size)), 0

    def epoch(self) -> None:
        """Take a step for every batch."""
        order = torch.randperm(len(self.targets), generator=self.generator)
        for rows in order.tensor_split(self.batches):
            self.steps += 1
            lr = self.learning_rate * min(1.0, self.steps / WARMUP_STEPS)
            self.optimizer.param_groups[0]["lr"] = lr
            batch = tuple(core[rows] for core in self.inputs)
            outputs = self._forward(batch)
            loss = loss_of(outputs, self.targets[rows], self.classes).mean()
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.params, MAX_GRADIENT)
            self.optimizer.step()
            with torch.no_grad():
                for param, first in zip(self.params, self.start, strict=True):
                    param.lerp_(first, min(1.0, lr * self.pull))
        with torch.no_grad():
            for mean, param in zip(self.average, self.params, strict=True):
                mean.lerp_(param, 1.0 - AVERAGING)

    @torch.no_grad()
    def outputs(self, cores: Cores) -> np.ndarray:
        """Return the outputs (n, num_outputs) of samples."""
        last = [param.clone() for param in self.params]
        self._set(self.average)
        outputs = self._forward(_tensors(cores)).numpy()
        self._set(last)
        return outputs

    def result(self) -> Readout:
        """Return the trained readout, on NumPy."""
        for param in self.params:
            param.requires_grad_(False)
        self._set(self.average)
        self.module.model.to("numpy")
        return self.module.model  # type: ignore[return-value]

    def _forward(self, cores: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return self.module.apply_cores(cores)  # type: ignore[return-value]

    def _set(self, values: list[torch.Tensor]) -> None:
        for param, value in zip(self.params, values, strict=True):
            param.copy_(value)


def _tensors(cores: Cores) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(core) for core in cores)
