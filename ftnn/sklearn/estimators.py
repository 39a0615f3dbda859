"""TensorNetworkClassifier and TensorNetworkRegressor: tables in, predictions out."""

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MultiOutputMixin,
    RegressorMixin,
    _fit_context,
)
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..encoding.features import FEATURES
from ..encoding.tables import TableEncoder
from ..layers.files import dumps, loads
from ..layers.readouts import Readout

CHUNK = 2048
"""Samples that are encoded and contracted at once."""


class TensorNetworkEstimator(BaseEstimator):
    """Share parameters, encoding, training and pickling of classifier and regressor."""

    model_: Readout
    encoder_: TableEncoder

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "bond_dim": [Interval(Integral, 1, None, closed="left"), None],
        "features": [StrOptions({"auto", *FEATURES} - {"trig"})],
        "degree": [Interval(Integral, 1, None, closed="left"), None],
        "clip": [Interval(Real, 0, None, closed="neither")],
        "feature_scale": [Interval(Real, 0, None, closed="neither")],
        "group": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "pull": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "patience": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        *,
        bond_dim=None,
        features="auto",
        degree=None,
        clip=4.0,
        feature_scale=1.0,
        group=1,
        alpha=None,
        learning_rate=None,
        pull=3.0,
        batch_size=None,
        max_epochs=50,
        early_stopping=True,
        validation_fraction=0.2,
        patience=10,
        random_state=None,
    ):
        self.bond_dim = bond_dim
        self.features = features
        self.degree = degree
        self.clip = clip
        self.feature_scale = feature_scale
        self.group = group
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.pull = pull
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.random_state = random_state

    def _fit_network(self, X: np.ndarray, targets: np.ndarray, classes: int | None) -> None:
        """Fit the encoder and the network."""
        try:
            from .recipe import Recipe, fit_network
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{error}; fitting needs torch: pip install 'ftnn[torch]'"
            ) from None
        columns = X.shape[1]
        group = min(self.group, columns)
        # over all sites the features have norm feature_scale: the norms of product states, which
        # multiply, then hardly differ from sample to sample
        rms = float(self.feature_scale / np.sqrt(columns))
        names = ("linear", "polynomial") if self.features == "auto" else (self.features,)
        encoders = [
            TableEncoder(
                ("numeric",) * columns,
                features=name,
                degree=None if name == "linear" else self.degree,
                clip=float(self.clip),
                scale=float(rms * np.sqrt(group)),
                group=group,
            ).fit(X)
            for name in names
        ]
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        recipe = Recipe(
            classes,
            rms,
            self.alpha,
            self.bond_dim,
            self.learning_rate or (0.01 if classes is None else 0.003),
            self.pull,
            self.batch_size,
            self.max_epochs,
            self.patience,
            self.validation_fraction,
            self.early_stopping,
            seed,
        )
        result = fit_network([encoder.encode(X) for encoder in encoders], targets, recipe)
        self.model_, self.encoder_ = result.model, encoders[result.encoding]
        self.n_iter_, self.validation_losses_ = result.epochs, result.history

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the outputs (n, num_outputs) of the network."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        return np.concatenate(
            [
                self.model_.apply(self.encoder_.encode(X[first : first + CHUNK]))
                for first in range(0, len(X), CHUNK)
            ]
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:  # as the bytes of a file of ftnn.save, which outlive versions
            state["model_file"] = dumps(state.pop("model_"), state.pop("encoder_"))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        content = state.pop("model_file", None)
        if content is not None:
            state["model_"], state["encoder_"] = loads(content)
        super().__setstate__(state)


class TensorNetworkClassifier(ClassifierMixin, TensorNetworkEstimator):
    """Classifier of tables: rows as product states, read by a matrix product state.

    Every column is a site, whose vector holds a constant and the features of the column. The
    logits are overlaps with an MPS that carries the class index: polynomials of all columns, of
    every order. It starts as a logistic regression of the features, exactly, and is trained
    further only where held-out samples say that this pays. Missing values (NaN) are allowed.

    Parameters
    ----------
    bond_dim : int, optional
        Bond dimension of the network. By default 8 more than its linear start needs, which is at
        most the number of outputs plus 1.
    features : {"auto", "linear", "polynomial", "fourier", "spline"}
        What a site holds of a column; see :class:`ftnn.encoding.TableEncoder`. "auto" fits with
        "linear", and takes "polynomial" where its linear model is better on held-out samples by
        more than two standard errors.
    degree : int, optional
        Of the features.
    clip : float
        Numbers beyond this many standard deviations of their column are moved there.
    feature_scale : float
        Size of all features of a sample together, beside the constant channels.
    group : int
        Columns a site. Products of columns of one site are not formed.
    alpha : float, optional
        Penalty of the linear start. By default 1: ``C=1`` of a
        logistic regression of standardized features.
    learning_rate : float, optional
        Of Adam, after a short warm-up. By default 0.003.
    pull : float
        Weight decay towards the start: a step moves the weights back by ``learning_rate * pull``
        of the way.
    batch_size : int, optional
        By default a sixteenth of the samples, at least 64 and at most 512.
    max_epochs : int
        0 keeps the linear start.
    early_stopping : bool
        Choose the number of epochs by the pooled losses of held-out folds, then train anew on all
        samples for as many; 0 epochs where training does not pay by more than two standard
        errors, and with fewer than 10 samples in a fold. False trains ``max_epochs`` on all
        samples.
    validation_fraction : float
        Share of the samples in a fold; there are ``round(1 / validation_fraction)`` folds, at
        least 2. Training is tried on as many as are needed to pool 500 samples.
    patience : int
        Epochs without a better validation loss after which training stops.
    random_state : int, RandomState or None
        Of the folds, the order of samples and the free bonds at the start.

    Attributes
    ----------
    classes_ : array (n_classes,)
        Labels, sorted.
    model_ : ftnn.Readout
        The network, on NumPy.
    encoder_ : ftnn.encoding.TableEncoder
        Standardizes the columns and makes product states of rows.
    n_iter_ : int
        Epochs trained; 0 is the linear start.
    validation_losses_ : list of float
        Mean loss of held-out samples, at the linear start and after every epoch.
    n_features_in_ : int
    feature_names_in_ : array of str
        If X has column names.

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


class TensorNetworkRegressor(RegressorMixin, MultiOutputMixin, TensorNetworkEstimator):
    """Regressor of tables, with one target or several: see :class:`TensorNetworkClassifier`.

    It starts as a ridge regression of the features. Targets are standardized for training.

    Parameters
    ----------
    bond_dim : int, optional
        Bond dimension of the network. By default 8 more than its linear start needs, which is at
        most the number of outputs plus 1.
    features : {"auto", "linear", "polynomial", "fourier", "spline"}
        What a site holds of a column; see :class:`ftnn.encoding.TableEncoder`. "auto" fits with
        "linear", and takes "polynomial" where its linear model is better on held-out samples by
        more than two standard errors.
    degree : int, optional
        Of the features.
    clip : float
        Numbers beyond this many standard deviations of their column are moved there.
    feature_scale : float
        Size of all features of a sample together, beside the constant channels.
    group : int
        Columns a site. Products of columns of one site are not formed.
    alpha : float, optional
        Penalty of the linear start. By default chosen by leaving one
        sample out.
    learning_rate : float, optional
        Of Adam, after a short warm-up. By default 0.01.
    pull : float
        Weight decay towards the start: a step moves the weights back by ``learning_rate * pull``
        of the way.
    batch_size : int, optional
        By default a sixteenth of the samples, at least 64 and at most 512.
    max_epochs : int
        0 keeps the linear start.
    early_stopping : bool
        Choose the number of epochs by the pooled losses of held-out folds, then train anew on all
        samples for as many; 0 epochs where training does not pay by more than two standard
        errors, and with fewer than 10 samples in a fold. False trains ``max_epochs`` on all
        samples.
    validation_fraction : float
        Share of the samples in a fold; there are ``round(1 / validation_fraction)`` folds, at
        least 2. Training is tried on as many as are needed to pool 500 samples.
    patience : int
        Epochs without a better validation loss after which training stops.
    random_state : int, RandomState or None
        Of the folds, the order of samples and the free bonds at the start.

    Attributes
    ----------
    model_ : ftnn.Readout
        The network, on NumPy.
    encoder_ : ftnn.encoding.TableEncoder
        Standardizes the columns and makes product states of rows.
    n_iter_ : int
        Epochs trained; 0 is the linear start.
    validation_losses_ : list of float
        Mean loss of held-out samples, at the linear start and after every epoch.
    n_features_in_ : int
    feature_names_in_ : array of str
        If X has column names.
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
