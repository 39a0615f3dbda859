"""Training samples: checked, encoded once, and served in batches."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..arrays.backend import convert, to_numpy
from ..chains.states import MPS
from .inputs import check_inputs, check_precision, check_states

CHUNK = 2048
"""Number of samples encoded at a time."""

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Random transformation of images (batch, height, width) to images of the same shape."""

AugmentStates = Callable[[tuple[torch.Tensor, ...], np.random.Generator], tuple[torch.Tensor, ...]]
"""Random transformation of a batch of cores (batch, left, phys, right)."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Training and validation data; any object with these four attributes works.

    Attributes
    ----------
    train_inputs : array (n, ...), MPS, or tuple of array (n, left, phys, right)
        Input of the encoder, such as images or a table; states are used without encoding.
    train_targets : int array (n,), or states
        Targets as expected by the objective: labels, or an MPS or cores.
    val_inputs, val_targets : likewise, optional
        Held-out samples, which select the weights to keep.
    """

    train_inputs: Any
    train_targets: Any
    val_inputs: Any = None
    val_targets: Any = None


@dataclass(frozen=True, eq=False)
class Samples:
    """Encoded samples on torch.

    Attributes
    ----------
    cores : tuple of tensor (n, left, phys, right)
    targets : tuple of tensor (n, ...)
        See :class:`ftnn.training.objective.Objective`.
    """

    cores: tuple[torch.Tensor, ...]
    targets: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.targets[0])

    def take(
        self, rows: np.ndarray, device: str
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Select cores and targets of ``rows``, int array (batch,), on ``device``."""
        return take_rows(self.cores, rows, device), take_rows(self.targets, rows, device)

    def on(self, device: str) -> "SamplesOn":
        """Return a view of the samples whose batches are moved to ``device``."""
        return SamplesOn(self, device)


@dataclass(frozen=True, eq=False)
class SamplesOn:
    """Samples whose batches are moved to a device."""

    samples: Samples
    device: str

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, rows: np.ndarray) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Select cores and targets of ``rows``, int array (batch,)."""
        return self.samples.take(rows, self.device)


def take_rows(
    tensors: tuple[torch.Tensor, ...], rows: np.ndarray, device: str
) -> tuple[torch.Tensor, ...]:
    """Select rows of every tensor, on ``device``, without synchronizing."""
    index = torch.from_numpy(rows).to(tensors[0].device)
    selected = (x.index_select(0, index) for x in tensors)
    if torch.device(device).type == "cuda":  # from pageable memory the copy would wait
        selected = (x if x.is_cuda else x.pin_memory() for x in selected)
    return tuple(x.to(device, non_blocking=True) for x in selected)


def fingerprint(x: torch.Tensor) -> int:
    """Return a number that changes when entries of ``x`` change or are reordered."""
    return zlib.crc32(to_numpy(x).tobytes())


def encode(
    inputs: Any,
    encoder: Any,
    argument: str,
    dtype: str,
    device: str,
    augment: Augment | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[torch.Tensor, ...]:
    """Encode arrays in chunks, or check the cores of states.

    Parameters
    ----------
    inputs : array (n, ...), MPS or tuple of array (n, left, phys, right)
    encoder : Encoder or None
        Fitted encoder; required for arrays.
    argument : str
        Name of ``inputs`` in errors.
    dtype, device : str
    augment : callable, optional
        Applied to every chunk of inputs with ``rng``.

    Returns
    -------
    tuple of tensor (n, left, phys, right)
        On ``device`` if they take less than half of its free memory, else on the CPU.
    """
    if isinstance(inputs, (MPS, tuple, list)):
        cores = check_states(inputs, argument)
        check_precision(cores, dtype, argument)
        return _settle(tuple(convert(core, "torch", dtype, "cpu") for core in cores), device)
    check_inputs(inputs, encoder, argument)
    chunks = []
    for start in range(0, len(inputs), CHUNK):
        rows = inputs[start : start + CHUNK]
        if augment is not None:
            rows = _transform(rows, augment, rng)
        chunks.append([convert(core, "torch", dtype) for core in encoder.encode(rows)])
    return _settle(tuple(_concat(parts) for parts in zip(*chunks, strict=True)), device)


def _transform(images: np.ndarray, augment: Augment, rng: Any) -> np.ndarray:
    new = augment(images.copy(), rng)
    if not isinstance(new, np.ndarray) or new.shape != images.shape:
        got = getattr(new, "shape", type(new).__name__)
        raise ValueError(f"augment returned {got}, expected an array of shape {images.shape}")
    return new


def _concat(parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
    # bonds may differ from chunk to chunk; zero padding changes no layer's output
    left, right = (max(part.shape[axis] for part in parts) for axis in (1, 3))
    n = sum(len(part) for part in parts)
    out = parts[0].new_zeros((n, left, parts[0].shape[2], right))
    start = 0
    for part in parts:
        out[start : start + len(part), : part.shape[1], :, : part.shape[3]] = part
        start += len(part)
    return out


def _settle(cores: tuple[torch.Tensor, ...], device: str) -> tuple[torch.Tensor, ...]:
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        if sum(core.nbytes for core in cores) > free // 2:
            return cores
    return tuple(core.to(device) for core in cores)
