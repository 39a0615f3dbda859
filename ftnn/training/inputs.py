"""Model inputs: arrays for an encoder, or states as an MPS or as cores."""

from typing import Any

import numpy as np

from ..arrays.backend import check_finite, is_complex
from ..chains.cores import check_cores
from ..chains.states import MPS
from ..chains.terms import Cores


def check_inputs(inputs: Any, encoder: Any, argument: str) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``inputs`` can be encoded."""
    if not isinstance(inputs, np.ndarray):
        raise TypeError(
            f"{argument} is a {type(inputs).__name__}, expected a NumPy array (n, ...) for an "
            "encoder, an ftnn.MPS, or a tuple of cores"
        )
    if encoder is None:
        raise ValueError(
            f"{argument} is an array, but there is no encoder; pass one, or pass an ftnn.MPS"
        )
    encoder.check(inputs, argument)


def check_states(inputs: Any, argument: str) -> Cores:
    """Return the cores of states given as an MPS or as cores, or raise an error."""
    cores = inputs.cores if isinstance(inputs, MPS) else tuple(inputs)
    try:
        check_cores(cores)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument}: {error}") from None
    for k, core in enumerate(cores):
        check_finite(core, f"{argument}: cores[{k}]")
    return cores


def check_precision(cores: Cores, dtype: str, argument: str) -> None:
    """Raise ``ValueError`` if states are complex and ``dtype`` is real: parts would be lost."""
    if any(is_complex(core) for core in cores) and not dtype.startswith("complex"):
        raise ValueError(
            f"{argument} are complex, but dtype is {dtype}; train with dtype='complex64' or "
            "'complex128'"
        )


def select_rows(samples: Any, index: Any) -> Any:
    """Select samples: rows of an array, or of every core of states.

    Examples
    --------
    >>> select_rows(np.arange(5), slice(2))
    array([0, 1])
    """
    if isinstance(samples, MPS):
        samples = samples.cores
    if isinstance(samples, tuple):
        return tuple(core[index] for core in samples)
    return samples[index]


def count_samples(samples: Any) -> int:
    """Count the samples of an array, of an MPS, or of its cores."""
    if isinstance(samples, MPS):
        return samples.batch_size
    return len(samples[0] if isinstance(samples, tuple) else samples)


def batches(num_samples: int, batch_size: int, order: np.ndarray | None = None) -> list[np.ndarray]:
    """Split samples into batches of nearly equal size, at most ``batch_size``.

    Examples
    --------
    >>> [len(rows) for rows in batches(10, 4)]
    [4, 3, 3]
    """
    order = np.arange(num_samples) if order is None else order
    return np.array_split(order, -(-num_samples // batch_size))
