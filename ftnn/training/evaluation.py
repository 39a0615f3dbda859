"""Evaluation of a model on samples with targets, on any backend, in one or several processes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from autoray import infer_backend

from ..arrays.backend import Array, as_like, to_numpy
from ..chains.terms import Cores
from ..encoding import Encoder
from ..layers.layer import Layer
from .inputs import batches, check_inputs, check_states, count_samples, select_rows
from .objective import Classification, Objective
from .world import World

BATCH_SIZE = 256


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of a model on samples with targets.

    Attributes
    ----------
    loss, score : float
        Means over the samples; see :class:`ftnn.training.Objective`.
    scores : float64 array (n,)
        Score of every sample.
    outputs : float64 array (n, num_outputs) or None
        Logits or numbers; None where the model returns states.
    samples_per_s : float
        Throughput of encoding, if any, forward pass, loss and score; :func:`evaluate` runs the
        model once beforehand to warm up.
    """

    loss: float
    score: float
    scores: np.ndarray
    outputs: np.ndarray | None
    samples_per_s: float

    @property
    def predictions(self) -> np.ndarray:
        """Class predicted for every sample, int64 array (n,)."""
        if self.outputs is None:
            raise ValueError("the model returns states, which have no class")
        return self.outputs.argmax(axis=1)


class Batched(Protocol):
    """Samples that can be read in batches, on the backend of the model."""

    def __len__(self) -> int:
        """Count the samples."""

    def take(self, rows: np.ndarray) -> tuple[Cores, tuple[Array, ...]]:
        """Return cores and targets of ``rows``, int array (batch,)."""


def evaluate(
    model: Layer,
    encoder: Encoder | None,
    inputs: Any,
    targets: Any,
    objective: Objective | None = None,
    batch_size: int = BATCH_SIZE,
) -> Evaluation:
    """Evaluate a model, in evaluation mode, on its backend.

    Parameters
    ----------
    model : Layer
    encoder : Encoder or None
        None if the inputs are states.
    inputs : float array (n, ...), MPS, or tuple of array (n, left, phys, right)
        On any backend; they are moved to that of the model batch by batch.
    targets : int array (n,), float array (n,) or (n, num_outputs), or states
        Targets as expected by the objective.
    objective : Objective, optional
        By default :class:`ftnn.training.Classification`.
    batch_size : int
        Samples encoded and evaluated at a time.

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError, ValueError
        If the samples do not suit encoder, model and objective, or the model returns NaN or
        infinite numbers.

    Examples
    --------
    >>> import ftnn
    >>> model = ftnn.Readout((2, 2), num_outputs=3, bond_dim=2)
    >>> states = ftnn.MPS.from_dense(np.ones((5, 4)), (2, 2))
    >>> result = evaluate(model, None, states, np.zeros(5, dtype=int))
    >>> result.outputs.shape, result.scores.shape
    ((5, 3), (5,))
    """
    if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}, expected an integer >= 1; try 256")
    objective = Classification() if objective is None else objective
    samples = _Encoded(model, encoder, inputs, targets, objective)
    # BLAS may flag finite numbers as invalid, see numpy issue 24067; non-finite ones raise below
    with np.errstate(invalid="ignore"), evaluating(model):
        result = evaluate_batches(model.apply, samples, objective, batch_size)
    _check_finite(result.loss if result.outputs is None else result.outputs)
    return result


def predict(
    model: Layer, encoder: Encoder | None, inputs: Any, batch_size: int = BATCH_SIZE
) -> np.ndarray:
    """Compute the outputs of a model, in evaluation mode, on its backend.

    Parameters
    ----------
    model : Layer
        Model that ends in a readout.
    encoder : Encoder or None
    inputs : float array (n, ...), MPS, or tuple of array (n, left, phys, right)
    batch_size : int

    Returns
    -------
    float64 array (n, num_outputs)

    Raises
    ------
    ValueError
        If the model returns states, or NaN or infinite numbers.

    Examples
    --------
    >>> import ftnn
    >>> model = ftnn.Readout((2, 2), num_outputs=3, bond_dim=2)
    >>> predict(model, None, ftnn.MPS.from_dense(np.ones((5, 4)), (2, 2))).shape
    (5, 3)
    """
    samples = _Encoded(model, encoder, inputs)
    parts = []
    with np.errstate(invalid="ignore"), evaluating(model):
        for rows in batches(len(samples), batch_size):
            output = model.apply(samples.cores(rows))
            if isinstance(output, tuple):
                raise ValueError("the model returns states, not numbers; end it in an ftnn.Readout")
            parts.append(to_numpy(output).astype(np.float64))
    outputs = np.concatenate(parts)
    _check_finite(outputs)
    return outputs


def evaluate_batches(
    apply: Callable[[Cores], Any],
    samples: Batched,
    objective: Objective,
    batch_size: int,
    world: World | None = None,
) -> Evaluation:
    """Evaluate a map of cores batch by batch; the loop behind all evaluations.

    With several processes all of them must call it, and each evaluates its share.

    Parameters
    ----------
    apply : callable
        Maps cores to outputs, in evaluation mode and recording no gradient.
    samples : Batched
    objective : Objective
    batch_size : int
        Batch size of each process.
    world : World, optional
    """
    world = world or World()
    n = len(samples)
    losses, scores = np.zeros(n), np.zeros(n)
    outputs: np.ndarray | None = None
    begun = time.perf_counter()
    for rows in batches(n, batch_size * world.size):
        own = world.share(rows)
        # a process without samples evaluates one, to know the shape of an output
        cores, targets = samples.take(own if len(own) else rows[:1])
        output = apply(cores)
        dense = objective.dense(output)
        if dense is not None:  # a few numbers a sample: on the host, in double precision
            output = dense = to_numpy(dense).astype(np.float64)
            targets = tuple(to_numpy(x) for x in targets)
            if outputs is None:
                outputs = np.zeros((n, dense.shape[1]))
        if len(own) == 0:
            continue
        loss, score = objective.measure(output, targets)
        losses[own], scores[own] = to_numpy(loss), to_numpy(score)
        if outputs is not None:
            outputs[own] = dense
    losses, scores = world.sum(losses), world.sum(scores)
    outputs = None if outputs is None else world.sum(outputs)
    seconds = max(time.perf_counter() - begun, 1e-9)
    return Evaluation(float(losses.mean()), float(scores.mean()), scores, outputs, n / seconds)


@contextmanager
def evaluating(model: Layer) -> Iterator[None]:
    """Switch a model to evaluation mode within the block; on torch, record no gradient."""
    modes = [(layer, layer.training) for _, layer in model.walk()]
    model.eval()
    try:
        with _no_gradient(model):
            yield
    finally:
        for layer, mode in modes:
            layer.training = mode


@contextmanager
def _no_gradient(model: Layer) -> Iterator[None]:
    if infer_backend(_any_array(model)) == "torch":
        import torch

        with torch.no_grad():
            yield
    else:
        yield


def _any_array(model: Layer) -> Array:
    return next(iter(model.named_arrays().values()), np.zeros(()))


def _check_finite(values: Any) -> None:
    if not np.isfinite(values).all():
        raise ValueError("the model returns NaN or infinite numbers; train again with a lower lr")


class _Encoded:
    """Checked samples, encoded and moved to the backend of a model batch by batch."""

    def __init__(
        self,
        model: Layer,
        encoder: Encoder | None,
        inputs: Any,
        targets: Any = None,
        objective: Objective | None = None,
    ):
        self.encoder, self.like = encoder, _any_array(model)
        if encoder is None and not isinstance(inputs, np.ndarray):
            self.inputs: Any = check_states(inputs, "inputs")
        else:
            check_inputs(inputs, encoder, "inputs")
            self.inputs = inputs
        cores = self.cores(np.arange(1))
        dims = tuple(int(core.shape[2]) for core in cores)
        if model.in_dims is not None and dims != model.in_dims:
            raise ValueError(
                f"inputs are states of phys_dims {dims}, but the model takes {model.in_dims}; use "
                "the encoder the model was built for"
            )
        self.targets: tuple[np.ndarray, ...] = ()
        if objective is not None:
            with evaluating(model):
                output = model.apply(cores)
            self.targets = objective.targets(targets, len(self), output, "targets")

    def __len__(self) -> int:
        return count_samples(self.inputs)

    def take(self, rows: np.ndarray) -> tuple[Cores, tuple[Array, ...]]:
        """Return cores and targets of ``rows``, int array (batch,)."""
        selected = (x[rows] for x in self.targets)
        moved = tuple(as_like(x, self.like) if x.dtype.kind in "fc" else x for x in selected)
        return self.cores(rows), moved

    def cores(self, rows: np.ndarray) -> Cores:
        """Return the cores (batch, left, phys, right) of ``rows``."""
        inputs = select_rows(self.inputs, rows)
        cores = inputs if self.encoder is None else self.encoder.encode(inputs)
        return tuple(as_like(to_numpy(core), self.like) for core in cores)
