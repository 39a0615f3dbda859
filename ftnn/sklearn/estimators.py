"""TensorNetworkClassifier and TensorNetworkRegressor: tables in, predictions out."""

from typing import Self

import numpy as np
from sklearn.base import ClassifierMixin, MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from .base import TensorNetworkEstimator
from .docstrings import documented


@documented(
    alpha="1: ``C=1`` of a logistic regression of standardized features", learning_rate="0.003"
)
class TensorNetworkClassifier(ClassifierMixin, TensorNetworkEstimator):
    """Classifier of tables: rows as product states, read by a matrix product state.

    Every column is a site, whose vector holds a constant and the features of the column. The
    logits are overlaps with an MPS that carries the class index: polynomials of all columns, of
    every order. It starts as a logistic regression of the features, exactly, and is trained
    further only where held-out samples say that this pays. Missing values (NaN) are allowed.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : array (n_classes,)
        Labels, sorted.
    {attributes}

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from ftnn.sklearn import TensorNetworkClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = TensorNetworkClassifier(random_state=0).fit(X[::2], y[::2])
    >>> bool(classifier.score(X[1::2], y[1::2]) > 0.9), classifier.predict_proba(X[:2]).shape
    (True, (2, 3))
    """

    classes_: np.ndarray

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y) -> Self:
        """Fit encoder and network.

        Parameters
        ----------
        X : array (n, columns)
            Numbers; NaN where missing.
        y : array (n,)
            Labels of any kind.

        Returns
        -------
        TensorNetworkClassifier
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_all_finite="allow-nan")
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has only one class, {self.classes_[0]!r}; a classifier needs at least two"
            )
        self._fit_network(X, labels.astype(np.int64), len(self.classes_))
        return self

    def decision_function(self, X) -> np.ndarray:
        """Return logits (n, n_classes); for two classes (n,), positive for the second.

        Parameters
        ----------
        X : array (n, columns)
        """
        outputs = self._outputs(X)
        return outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict_proba(self, X) -> np.ndarray:
        """Return the probabilities of the classes, (n, n_classes).

        Parameters
        ----------
        X : array (n, columns)
        """
        outputs = self._outputs(X)
        if len(self.classes_) == 2:
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
        weights = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def predict(self, X) -> np.ndarray:
        """Return the most probable class of every row, (n,).

        Parameters
        ----------
        X : array (n, columns)
        """
        outputs = self._outputs(X)
        best = outputs[:, 0] > 0 if len(self.classes_) == 2 else outputs.argmax(axis=1)
        return self.classes_[best.astype(np.int64)]


@documented(alpha="chosen by leaving one sample out", learning_rate="0.01")
class TensorNetworkRegressor(RegressorMixin, MultiOutputMixin, TensorNetworkEstimator):
    """Regressor of tables, with one target or several: see :class:`TensorNetworkClassifier`.

    It starts as a ridge regression of the features. Targets are standardized for training.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}
    target_mean_, target_scale_ : array (n_outputs,)
        Of the training targets.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from ftnn.sklearn import TensorNetworkRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = TensorNetworkRegressor(random_state=0).fit(X[::2], y[::2])
    >>> bool(regressor.score(X[1::2], y[1::2]) > 0.4)
    True
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y) -> Self:
        """Fit encoder and network.

        Parameters
        ----------
        X : array (n, columns)
            Numbers; NaN where missing.
        y : array (n,) or (n, outputs)

        Returns
        -------
        TensorNetworkRegressor
        """
        X, y = validate_data(
            self,
            X,
            y,
            dtype=np.float64,
            ensure_all_finite="allow-nan",
            multi_output=True,
            y_numeric=True,
        )
        y = np.asarray(y, dtype=np.float64)
        self._one_target = y.ndim == 1
        targets = y[:, None] if y.ndim == 1 else y
        self.target_mean_, self.target_scale_ = targets.mean(axis=0), targets.std(axis=0)
        safe = np.where(self.target_scale_ > 0, self.target_scale_, 1.0)
        self._fit_network(X, (targets - self.target_mean_) / safe, None)
        return self

    def predict(self, X) -> np.ndarray:
        """Return targets of the shape of those in training, (n,) or (n, outputs).

        Parameters
        ----------
        X : array (n, columns)
        """
        outputs = self._outputs(X) * self.target_scale_ + self.target_mean_
        return outputs[:, 0] if self._one_target else outputs
