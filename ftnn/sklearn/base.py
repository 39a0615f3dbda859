"""TensorNetworkEstimator: what classifier and regressor share."""

from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
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
            self.learning_rate,
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
