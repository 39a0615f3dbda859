"""The recipe of the estimators: a linear start, then training where held-out samples gain by it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from ..chains.terms import Cores
from ..layers.linear_fit import fit_linear
from ..layers.readouts import Readout
from .descent import Descent
from .losses import losses_of, sharpened_losses
from .significance import cross_fitted_gains, pays

MIN_VALIDATION = 10
"""With fewer samples in a fold nothing is known of a network, and the linear start is kept."""
MAX_POOLED = 500
"""Training is tried on further folds until so many held-out samples are pooled."""
SHRINKAGE = 1.0
"""Penalty of the logistic regression that training starts from, a sample. Where the samples are
separable, a lightly penalized one leaves nothing to learn: its gradients vanish."""
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
    learning_rate : float or None
        By default 0.01 for numbers, 0.003 for classes.
    pull : float
    batch_size : int or None
    max_epochs, patience : int
    validation_fraction : float
    early_stopping : bool
    seed : int
    """

    classes: int | None
    feature_rms: float
    alpha: float | None = None
    bond_dim: int | None = None
    learning_rate: float | None = None
    pull: float = 3.0
    batch_size: int | None = None
    max_epochs: int = 50
    patience: int = 10
    validation_fraction: float = 0.2
    early_stopping: bool = True
    seed: int = 0


@dataclass(frozen=True, eq=False)
class FittedReadout:
    """Readout that :func:`fit_network` found, and how.

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


@dataclass(frozen=True, eq=False)
class Decision:
    """What held-out samples say about the training, before it starts.

    Attributes
    ----------
    encoding : int
        Which of the encodings to take.
    epochs : int
        For how many epochs to train; 0 keeps the linear start.
    history : list of float
        Mean loss of held-out samples: of the linear start, then after every epoch.
    """

    encoding: int
    epochs: int
    history: list[float]


def decide(encodings: Sequence[Cores], targets: np.ndarray, recipe: Recipe) -> Decision:
    """Choose the encoding and the number of epochs.

    1. Linear models of the features of every encoding are compared by the losses of held-out
       samples: leaving one out of a ridge regression, K folds of a logistic one. All samples
       count. A later encoding replaces an earlier one if that :func:`pays`.
    2. The linear model is written into a network, exactly
       (:func:`ftnn.layers.linear_start.linear_readout`), and trained on the folds. The number of
       epochs is that of the least pooled loss of held-out samples, or 0 unless a number that a half
       of them chooses :func:`pays` on the other half.

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
    if not recipe.early_stopping:
        return Decision(chosen, recipe.max_epochs, [])
    return Decision(chosen, *_choose_epochs(encodings[chosen], targets, folds, recipe))


def fit_network(encodings: Sequence[Cores], targets: np.ndarray, recipe: Recipe) -> FittedReadout:
    """Fit a readout to product states and their targets.

    The network starts as the linear model and is trained on all samples, for as many epochs as
    :func:`decide` says. Should the training loss then be larger than that of the linear start, the
    start is kept. Parameters are those of :func:`decide`.
    """
    decision = decide(encodings, targets, recipe)
    cores, epochs = encodings[decision.encoding], decision.epochs
    if epochs > 0:
        start = _linear_start(cores, targets, recipe, shrink=True)
        before = losses_of(_outputs(start, cores), targets, recipe.classes).mean()
        run = _descent(start, cores, targets, recipe)
        for _ in range(epochs):
            run.epoch()
        if losses_of(run.outputs(cores), targets, recipe.classes).mean() <= before:
            return FittedReadout(run.result(), decision.encoding, epochs, decision.history)
    start = _linear_start(cores, targets, recipe)
    return FittedReadout(start, decision.encoding, 0, decision.history)


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
        trained_on = len(targets) - 1 if recipe.classes is None else len(folds[0][0])
        if pays(best - losses, trained_on):
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
    return sharpened_losses(np.concatenate(outputs), labels, recipe.classes)


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
        run = _descent(start, inputs, targets[train], recipe)
        best, least = 0, sharpened_losses(outputs[0], targets[val], recipe.classes).mean()
        for epoch in range(1, epochs + 1):
            run.epoch()
            outputs.append(run.outputs(rest))
            if number > 0:
                continue
            loss = sharpened_losses(outputs[-1], targets[val], recipe.classes).mean()
            if loss < least:
                best, least = epoch, loss
            elif epoch - best >= recipe.patience or not math.isfinite(loss):
                break
        epochs = len(outputs) - 1
        pooled.append(outputs)
        labels = np.concatenate([targets[val] for _, val in folds[: number + 1]])
        losses = np.stack(  # (epochs + 1, held out)
            [
                sharpened_losses(np.concatenate(parts), labels, recipe.classes)
                for parts in zip(*pooled, strict=True)
            ]
        )
        losses[np.isnan(losses)] = np.inf
        if losses.mean(axis=1).argmin() == 0 or len(labels) >= MAX_POOLED:
            break
    history = losses.mean(axis=1)
    halves = np.random.default_rng(recipe.seed).permutation(len(labels)) % 2 == 0
    if not pays(cross_fitted_gains(losses, halves), len(folds[0][0])):
        return 0, history.tolist()
    return int(history.argmin()), history.tolist()


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


def _descent(start: Readout, cores: Cores, targets: np.ndarray, recipe: Recipe) -> Descent:
    return Descent(
        start,
        cores,
        targets,
        recipe.classes,
        recipe.learning_rate or (0.01 if recipe.classes is None else 0.003),
        recipe.pull,
        recipe.batch_size,
        recipe.seed,
    )


def _outputs(model: Readout, cores: Cores) -> np.ndarray:
    return np.asarray(model.apply(cores))


def _rows(cores: Cores, rows: np.ndarray) -> Cores:
    return tuple(core[rows] for core in cores)
