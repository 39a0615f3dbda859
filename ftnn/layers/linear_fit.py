"""fit_linear: ridge and logistic regression of the features of product states."""

import warnings
from dataclasses import dataclass

import numpy as np

from ..chains.terms import Cores
from .linear_start import linear_readout
from .readouts import Readout

ALPHAS = np.logspace(-3, 4, 22)
"""Penalties that a ridge regression chooses from."""


@dataclass(frozen=True, eq=False)
class LinearFit:
    """Linear model of the features of product states.

    Attributes
    ----------
    coefficients : array (num_outputs, features)
    intercept : array (num_outputs,)
    squared_errors : array (n, num_outputs), optional
        Of a regression: squared error of the prediction for every sample by the model fitted
        without it.
    """

    coefficients: np.ndarray
    intercept: np.ndarray
    squared_errors: np.ndarray | None = None

    def predict(self, cores: Cores) -> np.ndarray:
        """Return outputs (n, num_outputs) of product states: numbers, or logits."""
        return features_of(cores) @ self.coefficients.T + self.intercept

    def readout(
        self,
        dims: tuple[int, ...],
        bond_dim: int | None = None,
        feature_rms: float = 1.0,
        seed: int = 0,
    ) -> Readout:
        """Return a readout that is this model, exactly: :func:`linear_readout`."""
        return linear_readout(dims, self.coefficients, self.intercept, bond_dim, feature_rms, seed)


def features_of(cores: Cores) -> np.ndarray:
    """Return the features (n, sum(p - 1)) of product states: all channels but the constant ones.

    Parameters
    ----------
    cores : tuple of array (n, 1, phys, 1)
    """
    return np.concatenate([core[:, 0, 1:, 0] for core in cores], axis=1)


def fit_linear(
    cores: Cores, targets: np.ndarray, num_classes: int | None, alpha: float | None = None
) -> LinearFit:
    """Fit a ridge or logistic regression to the standardized features of product states.

    Needs scikit-learn.

    Parameters
    ----------
    cores : tuple of array (n, 1, phys, 1)
        Channel 0 of every site is the constant one.
    targets : int array (n,) of classes, or float array (n, num_outputs)
    num_classes : int or None
        None for a regression. Two classes have one output, the logit of the second.
    alpha : float, optional
        Penalty. By default 1 for classes; for numbers the one of ``ALPHAS`` with the least
        squared error when every sample is predicted by a model fitted without it.

    Returns
    -------
    LinearFit

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(50, 3))
    >>> sites = np.stack([np.ones_like(z), z], axis=2)  # (n, sites, 2)
    >>> cores = tuple(site[:, None, :, None] for site in sites.swapaxes(0, 1))
    >>> fit = fit_linear(cores, z @ [[1.0], [2.0], [0.0]] + 3.0, None)
    >>> fit.coefficients.round(1) + 0.0, fit.intercept.round(1)
    (array([[1., 2., 0.]]), array([3.]))
    """
    features = features_of(cores)
    center, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale <= 1e-9 * np.sqrt(np.mean(features**2))] = np.inf  # constant: weight 0
    z = (features - center) / scale
    errors = None
    if num_classes is None:
        C, b, errors = _ridge(z, targets, alpha)
    else:
        C, b = _logistic(z, targets, 1.0 if alpha is None else alpha)
    C = C / scale
    return LinearFit(C, b - C @ center, errors)


def _ridge(
    z: np.ndarray, targets: np.ndarray, alpha: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit coefficients (outputs, features), intercept (outputs,), squared errors (n, outputs)."""
    from sklearn.linear_model import RidgeCV

    (n, outputs), alphas = targets.shape, ALPHAS if alpha is None else [alpha]
    if z.shape[1] == 0:
        mean = targets.mean(axis=0)
        return np.zeros((outputs, 0)), mean, ((targets - mean) * n / max(n - 1, 1)) ** 2
    model = RidgeCV(alphas, alpha_per_target=True, store_cv_results=True).fit(z, targets)
    errors = model.cv_results_.reshape(n, outputs, len(alphas))
    best = errors.mean(axis=0).argmin(axis=1)  # (outputs,)
    errors = np.take_along_axis(errors, best[None, :, None], axis=2)[:, :, 0]
    return np.reshape(model.coef_, (outputs, -1)), np.reshape(model.intercept_, -1), errors


def _logistic(z: np.ndarray, targets: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Fit coefficients (outputs, features) and intercept; one output for two classes."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():  # a start may be rough
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=1.0 / alpha, max_iter=1000).fit(z, targets)
    return model.coef_, model.intercept_
