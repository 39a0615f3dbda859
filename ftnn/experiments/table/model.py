"""A linear model of the columns, as a network that training takes beyond it."""

import numpy as np

from ...encoding import Encoder, TableEncoder
from ...layers.layer import Layer
from ...layers.linear_fit import LinearFit, fit_linear
from ...layers.sequential import Sequential
from .data import TableData
from .options import TableOptions


def build(options: TableOptions, data: TableData) -> tuple[Encoder, Layer]:
    """Build a readout with one site per column or group of columns.

    It starts as the logistic or ridge regression of the training rows, like the estimators of
    :mod:`ftnn.sklearn`.
    """
    columns = dict(zip(data.column_names, data.kinds, strict=True))
    group = options.columns_per_site
    encoder = TableEncoder(columns, clip=4.0, group=group).fit(data.train_inputs)
    cores, classes = encoder.encode(data.train_inputs), len(data.class_names) or None
    targets = data.train_targets if classes else data.train_targets[:, None]
    linear = fit_linear(cores, targets, classes, options.alpha)
    if classes == 2:  # a logit for each class
        signs = np.array([[-0.5], [0.5]])
        linear = LinearFit(signs * linear.coefficients, signs[:, 0] * linear.intercept)
    rms = len(columns) ** -0.5
    readout = linear.readout(encoder.phys_dims, options.bond_dim, rms, options.train.seed)
    return encoder, Sequential(readout)
