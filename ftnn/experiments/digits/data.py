"""scikit-learn's digits in three splits."""

import math

import numpy as np

from ..splits import Data, hold_out
from .options import DigitsOptions

_TEST_SEED = 0


def load(options: DigitsOptions) -> Data:
    """Load the three splits; nothing is downloaded."""
    return load_digits(options.train.seed).limited(options.limit)


def load_digits(seed: int = 0) -> Data:
    """Load the handwritten digits that ship with scikit-learn: 1797 images of 8 x 8 pixels.

    Parameters
    ----------
    seed : int
        Seed of the validation split. The test set, a stratified quarter, is always the same.

    Returns
    -------
    Data
        1212 training, 135 validation and 450 test images.

    Examples
    --------
    >>> data = load_digits()
    >>> data.train_inputs.shape, data.val_inputs.shape, data.test_inputs.shape
    ((1212, 8, 8), (135, 8, 8), (450, 8, 8))
    """
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    images = (bunch.images / 16.0).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    rest, rest_labels, test, test_labels = hold_out(
        images, labels, math.ceil(len(labels) / 4), _TEST_SEED
    )
    train, train_labels, val, val_labels = hold_out(
        rest, rest_labels, math.ceil(len(rest_labels) / 10), seed
    )
    names = tuple(str(digit) for digit in range(10))
    return Data(train, train_labels, val, val_labels, test, test_labels, names)
