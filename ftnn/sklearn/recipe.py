"""The recipe of the estimators: a linear start, then training while a validation share improves."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import train_test_split

from ..chains.terms import Cores
from ..layers.linear_start import linear_readout
from ..layers.readouts import Readout
from ..training.module import TorchModule

MIN_VALIDATION = 10
"""With fewer validation samples nothing is known of a network, and the linear start is kept."""
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
        Mean loss on the validation share: of the linear start, then after every epoch.
    """

    model: Readout
    encoding: int
    epochs: int
    history: list[float]


@dataclass(frozen=True, eq=False)
class _Trial:
    """Losses (n,) on the validation share after the best number of epochs."""

    losses: np.ndarray
    epochs: int
    history: list[float]


def fit_network(encodings: Sequence[Cores], targets: np.ndarray, recipe: Recipe) -> Fit:
    """Fit a readout to product states and their targets.

    1. A part of the samples is set aside. On the others a linear model of the features is fitted
       and written into a network, exactly (:func:`ftnn.layers.linear_start.linear_readout`).
    2. The network is trained, pulled back towards its start, while the loss on the part set
       aside improves. The best epoch counts only if it is better than the linear start by more
       than two standard errors of the difference. Likewise a later encoding of the same samples
       counts only if it is better than the ones before by more than that.
    3. Steps 1 and 2 are repeated for as many epochs on all samples. Should the training loss then
       be larger than that of the linear start, the start is kept.

    Parameters
    ----------
    encodings : sequence of tuple of float64 array (n, 1, phys, 1)
        The samples as product states in one or several ways, the simplest first.
    targets : int array (n,) of classes, or float array (n, outputs)
        Standardized, if real.
    recipe : Recipe
    """
    n, count = len(targets), math.ceil(recipe.validation_fraction * len(targets))
    chosen, epochs, history = 0, 0, []
    if recipe.max_epochs > 0 and not recipe.early_stopping:
        epochs = recipe.max_epochs
    elif recipe.early_stopping and min(count, n - count) >= MIN_VALIDATION:
        train, val = _split(targets, count, recipe)
        if recipe.classes is None or len(np.unique(targets[train])) == recipe.classes:
            best: _Trial | None = None
            for number, cores in enumerate(encodings):
                trial = _try(cores, targets, train, val, recipe, best)
                if best is None or _pays(best.losses, trial.losses):
                    best, chosen = trial, number
                    epochs, history = trial.epochs, trial.history
    cores = encodings[chosen]
    if epochs > 0:
        start = _linear_start(cores, targets, recipe, shrink=True)
        before = _losses(_outputs(start, cores), targets, recipe.classes).mean()
        run = _Training(start, cores, targets, recipe)
        for _ in range(epochs):
            run.epoch()
        if _losses(run.outputs(cores), targets, recipe.classes).mean() <= before:
            return Fit(run.result(), chosen, epochs, history)
    return Fit(_linear_start(cores, targets, recipe), chosen, 0, history)


def _split(targets: np.ndarray, count: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows to train on and ``count`` rows set aside, stratified if there are enough."""
    labels, n = None, len(targets)
    if recipe.classes is not None and min(count, n - count) >= recipe.classes:
        labels = targets if np.bincount(targets).min() >= 2 else None
    rows = np.arange(n)
    return train_test_split(rows, test_size=count, random_state=recipe.seed, stratify=labels)


def _try(
    cores: Cores,
    targets: np.ndarray,
    train: np.ndarray,
    val: np.ndarray,
    recipe: Recipe,
    rival: _Trial | None,
) -> _Trial:
    """Train on some rows while the loss on the others improves; 0 epochs if it does not pay.

    An encoding whose linear model is worse than the rival is not trained.
    """
    inputs, rest = tuple(core[train] for core in cores), tuple(core[val] for core in cores)
    start = _linear_start(inputs, targets[train], recipe)
    first = best = _sharpened(_outputs(start, rest), targets[val], recipe.classes)
    history, chosen = [float(first.mean())], 0
    if rival is not None and history[0] >= rival.losses.mean():
        return _Trial(first, 0, history)
    start = _linear_start(inputs, targets[train], recipe, shrink=True)
    run = _Training(start, inputs, targets[train], recipe)
    for epoch in range(1, recipe.max_epochs + 1):
        run.epoch()
        losses = _sharpened(run.outputs(rest), targets[val], recipe.classes)
        history.append(float(losses.mean()))
        if history[-1] < best.mean():
            best, chosen = losses, epoch
        elif epoch - chosen >= recipe.patience or not math.isfinite(history[-1]):
            break
    if not _pays(first, best):
        best, chosen = first, 0
    return _Trial(best, chosen, history)


def _pays(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether losses (n,) are better by more than the error of their mean difference."""
    gain = before - after
    error = gain.std(ddof=1) / math.sqrt(len(gain))
    return bool(gain.mean() > STANDARD_ERRORS * error)


def _linear_start(
    cores: Cores, targets: np.ndarray, recipe: Recipe, shrink: bool = False
) -> Readout:
    """Fit a linear model to the features, and write it into a readout."""
    features = np.concatenate([core[:, 0, 1:, 0] for core in cores], axis=1)
    center, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale <= 1e-9 * recipe.feature_rms] = np.inf  # a feature that does not vary has weight 0
    z = (features - center) / scale
    if recipe.classes is None:
        C, b = _ridge(z, targets, recipe.alpha)
    else:
        alpha = 1.0 if recipe.alpha is None else recipe.alpha
        C, b = _logistic(z, targets, max(alpha, SHRINKAGE * len(z)) if shrink else alpha)
    C = C / scale
    dims = tuple(core.shape[2] for core in cores)
    return linear_readout(dims, C, b - C @ center, recipe.bond_dim, recipe.feature_rms, recipe.seed)


def _ridge(z: np.ndarray, targets: np.ndarray, alpha: float | None) -> tuple:
    """Coefficients (outputs, features) and intercept (outputs,); alpha by leaving one out."""
    grid = np.logspace(-3, 4, 22) if alpha is None else [alpha]
    if z.shape[1] == 0:
        return np.zeros((targets.shape[1], 0)), targets.mean(axis=0)
    model = RidgeCV(grid, alpha_per_target=True).fit(z, targets)
    return np.reshape(model.coef_, (targets.shape[1], -1)), np.reshape(model.intercept_, -1)


def _logistic(z: np.ndarray, targets: np.ndarray, alpha: float) -> tuple:
    """Coefficients (outputs, features) and intercept; one output for two classes."""
    with warnings.catch_warnings():  # a start may be rough
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=1.0 / alpha, max_iter=1000).fit(z, targets)
    return model.coef_, model.intercept_


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


def _tensors(cores: Cores) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(core) for core in cores)
