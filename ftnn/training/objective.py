"""What is learned: the loss of an update, and the score that chooses the weights to keep."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ..arrays.backend import convert, to_numpy
from ..chains.distance import relative_squares
from ..chains.overlap import overlap
from .data import check_states
from .score import ACCURACY, ERROR, Score

Tensors = tuple[torch.Tensor, ...]


class Objective(ABC):
    """A loss and a score, sample by sample, of what a model returns.

    A batch of targets is a tuple of tensors, each with the batch as its first axis.
    """

    score: ClassVar[Score]

    @abstractmethod
    def targets(self, targets: Any, num_samples: int, output: Any, argument: str) -> Tensors:
        """Check targets against one output of the model, and bring them to torch.

        Parameters
        ----------
        targets : Any
            As given to the trainer; ``argument`` names them in errors.
        num_samples : int
        output : tensor or tuple of tensor
            What the model returns for one sample.
        """

    @abstractmethod
    def losses(self, output: Any, targets: Tensors, smoothing: float = 0.0) -> torch.Tensor:
        """Loss (batch,) of every sample; ``smoothing`` that of labels, where there are any."""

    @abstractmethod
    def scores(self, output: Any, targets: Tensors) -> torch.Tensor:
        """Score (batch,), float64, of every sample; the mean is what is reported."""

    @abstractmethod
    def dense(self, output: Any) -> torch.Tensor | None:
        """Output (batch, num_outputs) worth keeping for every sample, or None."""


class Classification(Objective):
    """Logits of classes, by cross entropy.

    Examples
    --------
    >>> import torch
    >>> logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    >>> Classification().scores(logits, (labels,)).tolist()
    [1.0, 0.0]
    """

    score = ACCURACY

    def targets(self, targets: Any, num_samples: int, output: Any, argument: str) -> Tensors:
        """Labels 0 ... num_outputs - 1."""
        if not isinstance(output, torch.Tensor):
            raise ValueError(
                "the model returns states, not logits; end it in an ftnn.Readout, or train it "
                "with objective=StateRegression()"
            )
        return (check_labels(targets, num_samples, output.shape[1], argument),)

    def losses(self, output: Any, targets: Tensors, smoothing: float = 0.0) -> torch.Tensor:
        """Cross entropies."""
        return cross_entropy(output, targets[0], label_smoothing=smoothing, reduction="none")

    def scores(self, output: Any, targets: Tensors) -> torch.Tensor:
        """1 where the largest logit is that of the label, else 0."""
        return (output.argmax(1) == targets[0]).double()

    def dense(self, output: Any) -> torch.Tensor:
        """Return the logits."""
        return output


class StateRegression(Objective):
    r"""States close to given ones; the loss is computed without leaving the tensor network.

    The loss of a sample is :math:`\|y - t\|^2/\|t\|^2`, its score the square root of that, see
    :func:`ftnn.chains.distance.relative_squares`; train in float64 where less than 3e-4 is to be
    reached.
    """

    score = ERROR

    def targets(self, targets: Any, num_samples: int, output: Any, argument: str) -> Tensors:
        """States with the physical dimensions of the output."""
        if isinstance(output, torch.Tensor):
            raise ValueError(
                "the model returns numbers, not states; leave out its ftnn.Readout, or train it "
                "with objective=Classification()"
            )
        cores = check_states(targets, argument)
        dims, expected = (tuple(c.shape[2] for c in x) for x in (cores, output))
        if dims != expected:
            raise ValueError(
                f"{argument} are states of phys_dims {dims}, but the model returns {expected}"
            )
        if len(cores[0]) != num_samples:
            raise ValueError(
                f"{argument} has {len(cores[0])} states, expected {num_samples}: one for every "
                "sample"
            )
        found = tuple(convert(core, "torch", _dtype(output), "cpu") for core in cores)
        zero = np.flatnonzero(to_numpy(overlap(found, found)[0]) == 0.0)
        if zero.size:
            raise ValueError(
                f"{argument}[{zero[0]}] is zero, and no error can be relative to it; drop it"
            )
        return found

    def losses(self, output: Any, targets: Tensors, smoothing: float = 0.0) -> torch.Tensor:
        """Squared relative errors."""
        return relative_squares(output, targets)

    def scores(self, output: Any, targets: Tensors) -> torch.Tensor:
        """Relative errors."""
        return relative_squares(output, targets).double().clamp(min=0.0).sqrt()

    def dense(self, output: Any) -> None:
        """Nothing: the vectors are too long."""
        return


def check_labels(labels: Any, num_samples: int, num_outputs: int, argument: str) -> torch.Tensor:
    """Return labels as an int64 tensor (n,), or raise an error that names the argument."""
    labels = np.asarray(labels if not isinstance(labels, torch.Tensor) else to_numpy(labels))
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"{argument} has dtype {labels.dtype}, expected integers 0 ... {num_outputs - 1}; "
            "convert them, e.g. labels.astype('int64')"
        )
    if labels.shape != (num_samples,):
        raise ValueError(
            f"{argument} has shape {labels.shape}, expected ({num_samples},): "
            "one label for every sample"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= num_outputs))
    if wrong.size:
        raise ValueError(
            f"{argument}[{wrong[0]}] is {labels[wrong[0]]}, expected 0 ... {num_outputs - 1}; "
            "number the classes from 0, or give the model more outputs"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _dtype(output: Tensors) -> str:
    return str(output[0].dtype).removeprefix("torch.")
