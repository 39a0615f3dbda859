"""The recipe of the estimators: a linear start, then training where held-out samples gain by it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import KFold, StratifiedKFold

from ..chains.terms import Cores
from ..layers.linear_fit import fit_linear
from ..layers.readouts import Readout
from ..training.module import TorchModule

MIN_VALIDATION = 10
"""With fewer samples in a fold nothing is known of a network, and the linear start is kept."""
MAX_POOLED = 500
"""Training is tried on further folds until so many held-out samples are pooled."""
SHARPNESS = tuple(float(f) for f in 2.0 ** np.arange(-2, 4.5, 0.5))
STANDARD_ERRORS = 2.0
"""By how many standard errors what is more than linear must be better."""
SHRINKAGE = 1.0
"""Penalty of the logistic regression that training starts from, a sample. Where the samples are
separable, a lightly penalized one leaves nothing to learn: its gradients vanish."""
AVERAGING = 0.7
"""Share of the average of the weights that an epoch keeps."""
WARMUP_STEPS = 10
MAX_GRADIENT = 1.0

Folds = list[tuple[np.ndarray, np.ndarray]]
"""Rows to train on and rows held out, of every fold."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; the fields are parameters of the estimators.

    Attributes
    ----------
    classes : int or None
        Number of classes; None for a regression.
    feature_rms : float
        Size of the features beside the constant channel.
    alpha : float or None
    bond_dim : int or None
    learning_rate, pull : float
    batch_size : int or None
    max_epochs, patience : int
    validation_fraction : float
    early_stopping : bool
    seed : int
    """

    classes: int | None
    feature_rms: float
    alpha: float | None
    bond_dim: int | None
    learning_rate: float
    pull: float
    batch_size: int | None
    max_epochs: int
    patience: int
    validation_fraction: float
    early_stopping: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Fit:
    """What :func:`fit_network` found.

    Attributes
    ----------
    model : Readout
        float64, on NumPy.
    encoding : int
        Which of the encodings it takes.
    epochs : int
        Epochs it was trained for; 0 means the linear start.
    history : list of float
        Mean loss of held-out samples: of the linear start, then after every epoch.
    """

    model: Readout
    encoding: int
    epochs: int
    history: list[float]


def fit_network(encodings: Sequence[Cores], targets: np.ndarray, recipe: Recipe) -> Fit:
    """Fit a readout to product states and their targets.

    1. Linear models of the features of every encoding are compared by the losses of held-out
       samples: leaving one out of a ridge regression, K folds of a logistic one. All samples
       count. A later encoding replaces an earlier one if it is better by more than two standard
       errors of the mean difference.
    2. The linear model is written into a network, exactly
       (:func:`ftnn.layers.linear_start.linear_readout`), and trained on the folds. The best
       number of epochs counts only if the pooled losses of held-out samples are better than those
       of the linear start by more than two standard errors.
    3. The network is trained for as many epochs on all samples. Should the training loss then be
       larger than that of the linear start, the start is kept.

    Parameters
    ----------
    encodings : sequence of tuple of float64 array (n, 1, phys, 1)
        The samples as product states in one or several ways, the simplest first.
    targets : int array (n,) of classes, or float array (n, outputs)
        Standardized, if real.
    recipe : Recipe
    """
    folds = _folds(targets, recipe)
    chosen = _choose_encoding(encodings, targets, folds, recipe)
    cores = encodings[chosen]
    epochs = recipe.max_epochs
    history: list[float] = []
    if recipe.early_stopping:
        epochs, history = _choose_epochs(cores, targets, folds, recipe)
    if epochs > 0:
        start = _linear_start(cores, targets, recipe, shrink=True)
        before = _losses(_outputs(start, cores), targets, recipe.classes).mean()
        run = _Training(start, cores, targets, recipe)
        for _ in range(epochs):
            run.epoch()
        if _losses(run.outputs(cores), targets, recipe.classes).mean() <= before:
            return Fit(run.result(), chosen, epochs, history)
    return Fit(_linear_start(cores, targets, recipe), chosen, 0, history)


def _folds(targets: np.ndarray, recipe: Recipe) -> Folds:
    """Draw folds, stratified if there are enough of every class; none if they say nothing."""
    n, count = len(targets), max(2, round(1.0 / recipe.validation_fraction))
    if n // count < MIN_VALIDATION:
        return []
    kind = KFold
    if recipe.classes is not None and np.bincount(targets).min() >= count:
        kind = StratifiedKFold
    labels = None if recipe.classes is None else targets
    folds = list(kind(count, shuffle=True, random_state=recipe.seed).split(np.empty(n), labels))
    if recipe.classes is None:
        return folds
    return [fold for fold in folds if len(np.unique(targets[fold[0]])) == recipe.classes]


def _choose_encoding(
    encodings: Sequence[Cores], targets: np.ndarray, folds: Folds, recipe: Recipe
) -> int:
    """Return the first encoding, or a later one whose linear model is clearly better."""
    if len(encodings) == 1 or not folds:
        return 0
    chosen, best = 0, _held_out(encodings[0], targets, folds, recipe)
    for number, cores in enumerate(encodings[1:], 1):
        losses = _held_out(cores, targets, folds, recipe)
        if _pays(best, losses):
            chosen, best = number, losses
    return chosen


def _held_out(cores: Cores, targets: np.ndarray, folds: Folds, recipe: Recipe) -> np.ndarray:
    """Losses of linear models on samples that they were not fitted to."""
    if recipe.classes is None:
        errors = fit_linear(cores, targets, None, recipe.alpha).squared_errors
        assert errors is not None
        return 0.5 * errors.sum(axis=1)
    outputs = []
    for train, val in folds:
        model = fit_linear(_rows(cores, train), targets[train], recipe.classes, recipe.alpha)
        outputs.append(model.predict(_rows(cores, val)))
    labels = np.concatenate([targets[val] for _, val in folds])
    return _sharpened(np.concatenate(outputs), labels, recipe.classes)


def _choose_epochs(
    cores: Cores, targets: np.ndarray, folds: Folds, recipe: Recipe
) -> tuple[int, list[float]]:
    """Return for how many epochs to train, 0 if it does not pay, and the mean losses.

    The folds are tried one after another, and no more once training is not better on those tried.
    The first stops when its loss no longer improves; the others are trained for as long.
    """
    if not folds or recipe.max_epochs == 0:
        return 0, []
    epochs = recipe.max_epochs
    pooled: list[list[np.ndarray]] = []  # outputs of every epoch, a list for every fold
    for number, (train, val) in enumerate(folds):
        inputs, rest = _rows(cores, train), _rows(cores, val)
        outputs = [_outputs(_linear_start(inputs, targets[train], recipe), rest)]
        start = _linear_start(inputs, targets[train], recipe, shrink=True)
        run = _Training(start, inputs, targets[train], recipe)
        best, least = 0, _sharpened(outputs[0], targets[val], recipe.classes).mean()
        for epoch in range(1, epochs + 1):
            run.epoch()
            outputs.append(run.outputs(rest))
            if number > 0:
                continue
            loss = _sharpened(outputs[-1], targets[val], recipe.classes).mean()
            if loss < least:
                best, least = epoch, loss
            elif epoch - best >= recipe.patience or not math.isfinite(loss):
                break
        epochs = len(outputs) - 1
        pooled.append(outputs)
        labels = np.concatenate([targets[val] for _, val in folds[: number + 1]])
        losses = np.stack(  # (epochs + 1, held out)
            [
                _sharpened(np.concatenate(parts), labels, recipe.classes)
                for parts in zip(*pooled, strict=True)
            ]
        )
        if losses.mean(axis=1).argmin() == 0 or len(labels) >= MAX_POOLED:
            break
    history = losses.mean(axis=1)
    chosen = int(np.nanargmin(history))
    pays = chosen > 0 and _pays(losses[0], losses[chosen])
    return (chosen if pays else 0), history.tolist()


def _pays(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether losses (n,) are better by more than the error of their mean difference."""
    gain = before - after
    error = gain.std(ddof=1) / math.sqrt(len(gain))
    return bool(gain.mean() > STANDARD_ERRORS * error)


def _linear_start(
    cores: Cores, targets: np.ndarray, recipe: Recipe, shrink: bool = False
) -> Readout:
    """Fit a linear model to the features, and write it into a readout."""
    alpha = recipe.alpha
    if shrink and recipe.classes is not None:
        alpha = max(1.0 if alpha is None else alpha, SHRINKAGE * len(targets))
    dims = tuple(core.shape[2] for core in cores)
    model = fit_linear(cores, targets, recipe.classes, alpha)
    return model.readout(dims, recipe.bond_dim, recipe.feature_rms, recipe.seed)


class _Training:
    """Adam on mini-batches, with clipped gradients, pulled towards where it started.

    What counts is the running average of the weights over the epochs.
    """

    def __init__(self, start: Readout, cores: Cores, targets: np.ndarray, recipe: Recipe):
        self.recipe = recipe
        self.module = TorchModule(start)
        self.params = list(self.module.parameters())
        self.start = [param.detach().clone() for param in self.params]
        self.average = [param.detach().clone() for param in self.params]
        self.inputs, self.targets = _tensors(cores), torch.from_numpy(targets)
        self.optimizer = torch.optim.Adam(self.params, lr=recipe.learning_rate)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        size = recipe.batch_size or min(max(64, len(targets) // 16), 512)
        self.batches, self.steps = max(1, math.ceil(len(targets) / size)), 0

    def epoch(self) -> None:
        """Take a step for every batch."""
        order = torch.randperm(len(self.targets), generator=self.generator)
        for rows in order.tensor_split(self.batches):
            self.steps += 1
            lr = self.recipe.learning_rate * min(1.0, self.steps / WARMUP_STEPS)
            self.optimizer.param_groups[0]["lr"] = lr
            batch = tuple(core[rows] for core in self.inputs)
            outputs = self._forward(batch)
            loss = loss_of(outputs, self.targets[rows], self.recipe.classes).mean()
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.params, MAX_GRADIENT)
            self.optimizer.step()
            with torch.no_grad():
                for param, first in zip(self.params, self.start, strict=True):
                    param.lerp_(first, min(1.0, lr * self.recipe.pull))
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


def loss_of(outputs: torch.Tensor, targets: torch.Tensor, classes: int | None) -> torch.Tensor:
    """Loss (n,): half the squared error, or the cross entropy of logits (n, 1) or (n, classes)."""
    if classes is None:
        return 0.5 * ((outputs - targets) ** 2).sum(dim=1)
    if classes == 2:
        labels = targets.to(outputs.dtype)
        return torch.nn.functional.binary_cross_entropy_with_logits(
            outputs[:, 0], labels, reduction="none"
        )
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")


def _losses(outputs: np.ndarray, targets: np.ndarray, classes: int | None) -> np.ndarray:
    return loss_of(torch.from_numpy(outputs), torch.from_numpy(targets), classes).numpy()


def _sharpened(outputs: np.ndarray, targets: np.ndarray, classes: int | None) -> np.ndarray:
    """Losses (n,), of logits times the factor that is best for all of them.

    A penalized linear start is less certain than it could be. Larger logits alone are no reason
    to prefer a network: they change no prediction.
    """
    factors = SHARPNESS if classes is not None else (1.0,)
    return min((_losses(f * outputs, targets, classes) for f in factors), key=np.mean)


def _outputs(model: Readout, cores: Cores) -> np.ndarray:
    return np.asarray(model.apply(cores))


def _rows(cores: Cores, rows: np.ndarray) -> Cores:
    return tuple(core[rows] for core in cores)


def _tensors(cores: Cores) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(core) for core in cores)
