"""Objectives: the loss of an update, and the score that selects the weights to keep."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from autoray import compose, do, get_dtype_name

from ..arrays.backend import Array, eps, to_numpy
from ..chains.distance import relative_squares
from ..chains.overlap import overlap
from .inputs import check_precision, check_states
from .score import ACCURACY, DEVIATION, ERROR, Score

Arrays = tuple[Array, ...]


class Objective(ABC):
    """Loss and score of the outputs of a model, per sample.

    A batch of targets is a tuple of arrays whose first axis is the batch.
    """

    score: ClassVar[Score]

    @abstractmethod
    def targets(
        self, targets: Any, num_samples: int, output: Any, argument: str
    ) -> tuple[np.ndarray, ...]:
        """Check targets against an output of the model, and return them as NumPy arrays.

        Parameters
        ----------
        targets : Any
            Targets as passed to the trainer.
        num_samples : int
        output : array or tuple of array
            Output of the model for some samples.
        argument : str
            Name of ``targets`` in errors.
        """

    @abstractmethod
    def measure(self, output: Any, targets: Arrays, smoothing: float = 0.0) -> tuple[Array, Array]:
        """Compute the loss and the score of every sample.

        Parameters
        ----------
        output : array (batch, num_outputs) or tuple of array
        targets : tuple of array (batch, ...)
            Targets on the backend of the output.
        smoothing : float
            Label smoothing, if the targets are labels.

        Returns
        -------
        losses : array (batch,)
            Differentiable.
        scores : array (batch,)
            Their mean is reported.
        """

    @abstractmethod
    def dense(self, output: Any) -> Array | None:
        """Return the output (batch, num_outputs) if it should be kept, or None."""


class Classification(Objective):
    """Classification by cross entropy; the score is the accuracy.

    Examples
    --------
    >>> logits, labels = np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([0, 0])
    >>> losses, scores = Classification().measure(logits, (labels,))
    >>> print(losses.round(3), scores)
    [0.127 1.313] [1. 0.]
    """

    score = ACCURACY

    def targets(
        self, targets: Any, num_samples: int, output: Any, argument: str
    ) -> tuple[np.ndarray, ...]:
        """Check labels 0 ... num_outputs - 1."""
        if isinstance(output, tuple):
            raise ValueError(
                "the model returns states, not logits; end it in an ftnn.Readout, or train it "
                "with objective=StateRegression()"
            )
        return (check_labels(targets, num_samples, output.shape[1], argument),)

    def measure(self, output: Any, targets: Arrays, smoothing: float = 0.0) -> tuple[Array, Array]:
        """Compute cross entropies; the score is 1 where the largest logit is that of the label."""
        losses = cross_entropies(output, targets[0], smoothing)
        hits = do("argmax", output, axis=1) == targets[0]
        return losses, do("astype", hits, "float64")

    def dense(self, output: Any) -> Array:
        """Return the logits."""
        return output


class Regression(Objective):
    """Regression of numbers by mean square error; the score is the mean absolute deviation.

    Examples
    --------
    >>> outputs, targets = np.array([[1.0], [0.0]]), np.array([[1.0], [3.0]])
    >>> losses, scores = Regression().measure(outputs, (targets,))
    >>> print(losses, scores)
    [0. 9.] [0. 3.]
    """

    score = DEVIATION

    def targets(
        self, targets: Any, num_samples: int, output: Any, argument: str
    ) -> tuple[np.ndarray, ...]:
        """Check numbers (n,) or (n, num_outputs), in the precision of the output."""
        if isinstance(output, tuple):
            raise ValueError(
                "the model returns states, not numbers; end it in an ftnn.Readout, or train it "
                "with objective=StateRegression()"
            )
        numbers = np.asarray(targets) if isinstance(targets, (list, tuple)) else to_numpy(targets)
        if numbers.dtype.kind not in "iuf":
            raise TypeError(f"{argument} has dtype {numbers.dtype}, expected real numbers")
        expected = (num_samples, int(output.shape[1]))
        if numbers.ndim == 1 and expected[1] == 1:
            numbers = numbers[:, None]
        if numbers.shape != expected:
            raise ValueError(
                f"{argument} has shape {numbers.shape}, expected {expected}: one row for every "
                "sample, one column for every output of the model"
            )
        wrong = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
        if wrong.size:
            raise ValueError(f"{argument}[{wrong[0]}] is not finite; drop it, or fill it in")
        return (numbers.astype(get_dtype_name(output)),)

    def measure(self, output: Any, targets: Arrays, smoothing: float = 0.0) -> tuple[Array, Array]:
        """Compute mean squares, and mean absolute deviations."""
        deviation = output - targets[0]
        scores = do("mean", do("abs", deviation), axis=1)
        return do("mean", deviation**2, axis=1), do("astype", scores, "float64")

    def dense(self, output: Any) -> Array:
        """Return the numbers."""
        return output


class StateRegression(Objective):
    r"""Regression of states; the loss is computed within the tensor network.

    The loss of a sample is :math:`\|y - t\|^2/\|t\|^2`, its score the square root of that; see
    :func:`ftnn.chains.distance.relative_squares`; train in float64 to reach errors below 3e-4.

    Parameters
    ----------
    root : bool
        Whether the loss is the square root, too. Squares are ruled by the few samples with large
        errors, such as those whose targets are small.

    Examples
    --------
    >>> import ftnn
    >>> vectors = np.array([[3.0, 0.0, 1.0, 0.0]]), np.array([[3.0, 0.0, 0.0, 4.0]])
    >>> y, t = (ftnn.MPS.from_dense(v, (2, 2)) for v in vectors)
    >>> for root in (False, True):
    ...     print(StateRegression(root).measure(y.cores, t.cores)[0].round(3))
    [0.68]
    [0.825]
    """

    score = ERROR

    def __init__(self, root: bool = False):
        self.root = root

    def targets(
        self, targets: Any, num_samples: int, output: Any, argument: str
    ) -> tuple[np.ndarray, ...]:
        """Check states with the physical dimensions of the output."""
        if not isinstance(output, tuple):
            raise ValueError(
                "the model returns numbers, not states; remove its ftnn.Readout, or train it "
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
        dtype = get_dtype_name(output[0])
        check_precision(cores, dtype, argument)
        arrays = tuple(to_numpy(core).astype(dtype, copy=False) for core in cores)
        zero = np.flatnonzero(overlap(arrays, arrays)[0] == 0.0)
        if zero.size:
            raise ValueError(
                f"{argument}[{zero[0]}] is zero, so its relative error is undefined; drop it"
            )
        return arrays

    def measure(self, output: Any, targets: Arrays, smoothing: float = 0.0) -> tuple[Array, Array]:
        """Compute squared relative errors, or relative errors, and relative errors."""
        squares = relative_squares(output, targets)
        scores = do("sqrt", do("clip", do("astype", squares, "float64"), 0.0, np.inf))
        # below the rounding of the squares a root has a large gradient, and no meaning
        losses = do("sqrt", do("clip", squares, eps(squares), np.inf)) if self.root else squares
        return losses, scores

    def dense(self, output: Any) -> None:
        """Return None: the vectors are too long."""
        return


@compose
def cross_entropies(logits: Array, labels: Array, smoothing: float = 0.0) -> Array:
    """Compute the cross entropy (batch,) of every label.

    Parameters
    ----------
    logits : array (batch, classes)
    labels : int array (batch,)
    smoothing : float
        Fraction of the target spread evenly over the classes.
    """
    shifted = logits - do("max", logits, axis=1, keepdims=True)
    logs = shifted - do("log", do("sum", do("exp", shifted), axis=1, keepdims=True))
    own = do("take_along_axis", logs, labels[:, None], axis=1)[:, 0]
    return -(1.0 - smoothing) * own - smoothing * do("mean", logs, axis=1)


@cross_entropies.register("torch")
def _cross_entropies_torch(logits: Array, labels: Array, smoothing: float = 0.0) -> Array:
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")


def check_labels(labels: Any, num_samples: int, num_outputs: int, argument: str) -> np.ndarray:
    """Return labels as an int64 array (n,), or raise an error that names the argument."""
    labels = np.asarray(labels) if isinstance(labels, (list, tuple)) else to_numpy(labels)
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
    return labels.astype(np.int64)
