"""TensorNetworkClassifier and TensorNetworkRegressor: tables in, predictions out."""

import os
import tempfile
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
from ..layers.files import load, load_encoder, save
from ..layers.readouts import Readout

CHUNK = 2048
"""Samples that are encoded and contracted at once."""


class TensorNetworkEstimator(BaseEstimator):
    """What classifier and regressor share: parameters, encoding, training, pickling."""

    model_: Readout
    encoder_: TableEncoder

    _parameter_constraints: ClassVar[dict[str, list]] = {
        "bond_dim": [Interval(Integral, 1, None, closed="left"), None],
        "features": [StrOptions(set(FEATURES) - {"trig"})],
        "degree": [Interval(Integral, 1, None, closed="left"), None],
        "clip": [Interval(Real, 0, None, closed="neither")],
        "feature_scale": [Interval(Real, 0, None, closed="neither")],
        "group": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="neither"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
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
        features="polynomial",
        degree=None,
        clip=3.0,
        feature_scale=1.0,
        group=1,
        alpha=None,
        learning_rate=0.01,
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
        self.encoder_ = TableEncoder(
            ("numeric",) * columns,
            features=self.features,
            degree=self.degree,
            clip=float(self.clip),
            scale=float(rms * np.sqrt(group)),
            group=group,
        ).fit(X)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        recipe = Recipe(
            classes,
            rms,
            self.alpha,
            self.bond_dim,
            self.learning_rate,
            self.pull,
            self.batch_size,
            self.max_epochs,
            self.patience,
            self.validation_fraction,
            self.early_stopping,
            seed,
        )
        result = fit_network(self.encoder_.encode(X), targets, recipe)
        self.model_, self.n_iter_ = result.model, result.epochs
        self.validation_loss_ = result.validation

    def _outputs(self, X: Any) -> np.ndarray:
        """Outputs (n, num_outputs) of the network."""
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
            model, encoder = state.pop("model_"), state.pop("encoder_")
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "model.safetensors")
                save(model, path, encoder)
                with open(path, "rb") as file:
                    state["model_file"] = file.read()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        content = state.pop("model_file", None)
        if content is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "model.safetensors")
                with open(path, "wb") as file:
                    file.write(content)
                state["model_"], state["encoder_"] = load(path), load_encoder(path)
        super().__setstate__(state)


class TensorNetworkClassifier(ClassifierMixin, TensorNetworkEstimator):
    """Classifier."""

    classes_: np.ndarray

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y) -> Self:
        """Fit.
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
        outputs = self._outputs(X)
        return outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict_proba(self, X) -> np.ndarray:
        outputs = self._outputs(X)
        if len(self.classes_) == 2:
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
        weights = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def predict(self, X) -> np.ndarray:
        outputs = self._outputs(X)
        best = outputs[:, 0] > 0 if len(self.classes_) == 2 else outputs.argmax(axis=1)
        return self.classes_[best.astype(np.int64)]


class TensorNetworkRegressor(RegressorMixin, MultiOutputMixin, TensorNetworkEstimator):
    """Regressor."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y) -> Self:
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
        self._flat = y.ndim == 1
        targets = y[:, None] if y.ndim == 1 else y
        self.center_, self.scale_ = targets.mean(axis=0), targets.std(axis=0)
        safe = np.where(self.scale_ > 0, self.scale_, 1.0)
        self._fit_network(X, (targets - self.center_) / safe, None)
        return self

    def predict(self, X) -> np.ndarray:
        outputs = self._outputs(X) * self.scale_ + self.center_
        return outputs[:, 0] if self._flat else outputs
