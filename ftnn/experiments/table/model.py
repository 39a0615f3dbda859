"""A linear model of the columns, as a network that training takes beyond it where that pays."""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ...encoding import Encoder, TableEncoder
from ...encoding.entries import numbers
from ...layers.layer import Layer
from ...layers.linear_fit import LinearFit, fit_linear
from ...layers.sequential import Sequential
from ...sklearn.recipe import Decision, Recipe, decide
from ...structure import code_information, column_codes, spectral_order
from ...training import Callback
from .data import TableData
from .options import TableOptions

if TYPE_CHECKING:
    from ...training import Fit


def build(options: TableOptions, data: TableData) -> tuple[Encoder, Layer]:
    """Build a readout with one site per column or group of columns.

    It starts as the logistic or ridge regression of the training rows, like the estimators of
    :mod:`ftnn.sklearn`. Where that is all, validation rows have nothing to choose, and count as
    training rows.
    """
    chosen = decision(options, data)
    inputs, (classes, targets) = data.train_inputs, _targets(data)
    if not chosen.epochs:
        inputs = np.concatenate([inputs, data.val_inputs])
        targets = np.concatenate([targets, data.val_targets.reshape(-1, *targets.shape[1:])])
    encoder = _encoders(options, data, inputs)[chosen.encoding]
    linear = fit_linear(encoder.encode(inputs), targets, classes, options.alpha)
    if classes == 2:  # a logit for each class
        signs = np.array([[-0.5], [0.5]])
        linear = LinearFit(signs * linear.coefficients, signs[:, 0] * linear.intercept)
    rms, seed = _feature_rms(data), options.train.seed
    readout = linear.readout(encoder.phys_dims, options.bond_dim, rms, seed)
    return encoder, Sequential(readout)


def callbacks(options: TableOptions, data: TableData) -> tuple[Callback, ...]:
    """Return what keeps the linear start where training does not pay."""
    return () if decision(options, data).epochs else (KeepStart(),)


class KeepStart(Callback):
    """Complete the training before it starts."""

    def fit_start(self, fit: "Fit") -> None:
        """Say so."""
        fit.message("held-out rows do not gain by training: the linear model is kept")
        fit.finish()


@lru_cache(maxsize=1)
def decision(options: TableOptions, data: TableData) -> Decision:
    """Decide on features and training by folds of the training rows, as the estimators do."""
    classes, targets = _targets(data)
    recipe = Recipe(
        classes,
        _feature_rms(data),
        options.alpha,
        options.bond_dim,
        early_stopping=options.cautious,
        seed=options.train.seed,
    )
    inputs = data.train_inputs
    cores = [encoder.encode(inputs) for encoder in _encoders(options, data, inputs)]
    return decide(cores, targets, recipe)


def _encoders(options: TableOptions, data: TableData, inputs: np.ndarray) -> list[TableEncoder]:
    """Fit encoders with linear and with quadratic features of numbers."""
    columns = dict(zip(data.column_names, data.kinds, strict=True))
    group, order = options.columns_per_site, _order(options, data)
    return [
        TableEncoder(columns, features=features, clip=4.0, group=group, order=order).fit(inputs)
        for features in ("linear", "polynomial")
    ]


def _order(options: TableOptions, data: TableData) -> list[int] | None:
    """Return the order of the columns along the chain, from the training rows."""
    if options.order == "file" or len(data.kinds) < 2:
        return None
    columns = [
        numbers(column, name) if kind == "numeric" else column
        for column, name, kind in zip(
            data.train_inputs.T, data.column_names, data.kinds, strict=True
        )
    ]
    return spectral_order(code_information(column_codes(columns))).tolist()


def _targets(data: TableData) -> tuple[int | None, np.ndarray]:
    """Return the number of classes, or None, and the training targets."""
    classes = len(data.class_names) or None
    return classes, data.train_targets if classes else data.train_targets[:, None]


def _feature_rms(data: TableData) -> float:
    return float(len(data.column_names) ** -0.5)
