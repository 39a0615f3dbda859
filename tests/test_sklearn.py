"""The scikit-learn estimators: their conventions, their recipe, and what they promise."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import EPS
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_wine, make_classification, make_friedman1
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import ftnn
from ftnn.encoding import TableEncoder
from ftnn.layers.linear_fit import fit_linear
from ftnn.layers.linear_start import linear_readout
from ftnn.sklearn import TensorNetworkClassifier, TensorNetworkRegressor, recipe
from ftnn.sklearn.losses import losses_of, sharpened_losses
from ftnn.sklearn.significance import STANDARD_ERRORS, cross_fitted_gains, pays

QUICK = {"max_epochs": 2, "random_state": 0}


@parametrize_with_checks(
    [TensorNetworkClassifier(max_epochs=3), TensorNetworkRegressor(max_epochs=3)]
)
def test_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def states(rng, n, dims):
    """Product states (1, features), and the features (n, all)."""
    sites = [np.concatenate([np.ones((n, 1)), rng.normal(size=(n, p - 1))], axis=1) for p in dims]
    features = np.concatenate([site[:, 1:] for site in sites], axis=1)
    return tuple(site[:, None, :, None] for site in sites), features


# ---- linear start --------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=9),
    st.integers(1, 4),
    st.integers(0, 4),
    st.floats(0.05, 2.0),
    st.integers(0, 2**16),
)
def test_the_readout_is_the_linear_model(dims, outputs, more, rms, seed):
    rng = np.random.default_rng(seed)
    cores, features = states(rng, 4, dims)
    C, b = rng.normal(size=(outputs, features.shape[1])), rng.normal(size=outputs)
    readout = linear_readout(dims, C, b, outputs + 1 + more, rms, seed)
    expected = features @ C.T + b
    size = np.linalg.norm(C) * np.linalg.norm(features) + np.linalg.norm(b)
    error = np.linalg.norm(readout.apply(cores) - expected)
    assert error <= 1e3 * EPS["float64"] * size
    plain = ftnn.Readout(dims, outputs, readout.bond_dim)
    assert {k: a.shape for k, a in readout.named_arrays().items()} == {
        k: a.shape for k, a in plain.named_arrays().items()
    }


def test_a_small_bond_keeps_the_largest_singular_values():
    rng = np.random.default_rng(0)
    dims, halves = (2,) * 9, (slice(0, 4), slice(5, 9))
    cores, features = states(rng, 5, dims)
    C, b = rng.normal(size=(3, 9)), rng.normal(size=3)
    near = C.copy()
    for half in halves:
        u, s, v = np.linalg.svd(C[:, half], full_matrices=False)
        near[:, half] = s[0] * np.outer(u[:, 0], v[0])
    outputs = linear_readout(dims, C, b, bond_dim=2).apply(cores)
    assert np.allclose(outputs, features @ near.T + b)


def test_a_linear_start_of_a_thousand_sites_neither_explodes_nor_decays():
    rng = np.random.default_rng(1)
    cores, features = states(rng, 4, (2,) * 1000)
    C = rng.normal(size=(2, 1000))
    assert np.allclose(
        linear_readout((2,) * 1000, C, [0.0, 1.0]).apply(cores), features @ C.T + [0, 1]
    )


def test_the_linear_start_is_no_saddle_point():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    cores, _ = states(rng, 20, (2,) * 8)
    readout = linear_readout((2,) * 8, rng.normal(size=(1, 8)), [0.0])
    module = ftnn.training.TorchModule(readout)
    inputs = tuple(torch.from_numpy(core) for core in cores)
    products = inputs[1][:, 0, 1, 0] * inputs[6][:, 0, 1, 0]  # of the features of two sites
    (module.apply_cores(inputs)[:, 0] - products).square().mean().backward()
    free = module.get_parameter("weight:4").grad[2:, :, :, 2:]  # where both halves meet
    assert bool((free.abs() > 0).any())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((2, 2), np.ones((1, 3)), [0.0]), "coefficients has shape"),
        (((2, 2), np.ones((1, 2)), [0.0, 1.0]), "intercept has shape"),
        (((2, 2), np.ones((1, 2)), [0.0], None, 0.0), "feature_rms is 0.0"),
    ],
)
def test_shapes_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        linear_readout(*arguments)


# ---- recipe --------------------------------------------------------------------------------------


def test_the_start_of_the_classifier_is_a_logistic_regression():
    X, y = load_wine(return_X_y=True)
    ours = TensorNetworkClassifier(max_epochs=0, features="linear", clip=100.0).fit(X, y)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(X, y)
    assert np.allclose(ours.predict_proba(X), model.predict_proba(X), atol=1e-3)
    assert ours.n_iter_ == 0


def test_training_finds_products_that_no_linear_model_has():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 6))
    y = np.where(X[:, 0] * X[:, 4] > 0, "same", "other")
    ours = TensorNetworkClassifier(random_state=0).fit(X[:300], y[:300])
    linear = LogisticRegression().fit(X[:300], y[:300])
    assert ours.n_iter_ > 0
    assert ours.score(X[300:], y[300:]) > 0.85 > 0.65 > linear.score(X[300:], y[300:])


def test_regression_beyond_the_linear_start():
    X, y = make_friedman1(400, 6, noise=0.5, random_state=0)
    scores = [
        TensorNetworkRegressor(
            features="polynomial", max_epochs=epochs, early_stopping=False, random_state=0
        )
        .fit(X[:300], y[:300])
        .score(X[300:], y[300:])
        for epochs in (0, 30)
    ]
    assert scores[1] > scores[0] + 0.03


def test_noise_is_not_fitted():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 10))
    y = X[:, 0] + rng.normal(size=200)
    ours = TensorNetworkRegressor(random_state=0).fit(X, y)
    assert ours.n_iter_ == 0
    assert ours.encoder_.features == "linear"


@pytest.mark.parametrize("alpha", [None, 3.0])
@pytest.mark.parametrize("outputs", [1, 2])
def test_squared_errors_of_a_ridge_fit_are_those_of_leaving_one_out(outputs, alpha):
    rng = np.random.default_rng(0)
    cores, features = states(rng, 12, (2, 3, 2))
    targets = features[:, :1] * [1.0, -2.0][:outputs] + rng.normal(size=(12, outputs))
    fit = fit_linear(cores, targets, None, alpha)
    if alpha is None:
        assert fit.squared_errors.shape == (12, outputs)
        return
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    for n in range(12):
        rest = np.arange(12) != n
        model = Ridge(alpha).fit(z[rest], targets[rest])
        error = model.predict(z[n : n + 1]).reshape(1, -1)[0] - targets[n]
        assert np.allclose(fit.squared_errors[n], error**2)


def recipe_of(classes):
    names = ("feature_rms", "alpha", "bond_dim", "learning_rate", "pull", "batch_size")
    values = dict(zip(names, (0.3, None, None, 0.01, 3.0, None), strict=True))
    values |= {"max_epochs": 8, "patience": 4, "validation_fraction": 0.2}
    return recipe.Recipe(classes, **values, early_stopping=True, seed=0)


@pytest.mark.parametrize("classes", [None, 2, 3])
def test_quadratic_features_are_taken_where_held_out_samples_gain(classes):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(150, 3))
    linear, quadratic = (
        TableEncoder(["numeric"] * 3, features=name).fit(X).encode(X)
        for name in ("linear", "polynomial")
    )
    for signal, chosen in ((X[:, 0], 0), (X[:, 0] ** 2, 1)):
        noisy = signal + 0.1 * rng.normal(size=150)
        if classes is None:
            targets = (noisy - noisy.mean())[:, None]
        else:
            targets = np.digitize(noisy, np.quantile(noisy, np.arange(1, classes) / classes))
        one = recipe_of(classes)
        folds = recipe._folds(targets, one)
        assert recipe._choose_encoding([linear, quadratic], targets, folds, one) == chosen


def test_folds_partition_the_samples_and_pooling_stops_early():
    labels = np.arange(103) % 3
    folds = recipe._folds(labels, recipe_of(3))
    assert sorted(np.concatenate([val for _, val in folds])) == list(range(103))
    assert all(not set(train) & set(val) for train, val in folds)
    assert recipe._folds(labels[:49], recipe_of(3)) == []
    rng = np.random.default_rng(0)
    cores, _ = states(rng, 103, (2, 2))
    epochs, history = recipe._choose_epochs(cores, rng.permutation(labels), folds, recipe_of(3))
    assert epochs == 0
    assert len(history) <= 9


def test_larger_logits_alone_are_no_gain():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 3))
    labels = (logits + 0.3 * rng.normal(size=(50, 3))).argmax(axis=1)
    once, more = (sharpened_losses(f * logits, labels, 3) for f in (1.0, 2.0))
    assert np.isclose(once.mean(), more.mean())
    assert not pays(once - more, 200)
    once, more = (losses_of(f * logits, labels, 3) for f in (1.0, 2.0))
    assert pays(once - more, 200)


@pytest.mark.parametrize(("folds", "count"), [(5, 5), (5, 2), (100, 100)])
def test_the_error_of_a_mean_over_folds_is_that_of_correlated_means(folds, count):
    """Gains of ``count`` folds, whose means correlate by the share of a fold."""
    m, rho = 200 // folds, 1.0 / folds
    rng, means, accepted = np.random.default_rng(0), [], []
    within = np.sqrt((1.0 - rho) * m)  # so that the mean of a fold has variance 1
    for _ in range(4000):
        common = np.sqrt(rho) * rng.standard_normal()
        gains = common + within * rng.standard_normal(count * m)
        means.append(gains.mean())
        accepted.append(pays(gains, 200 - m))
    assert np.isclose(np.mean(accepted), 0.0228, atol=0.01)
    naive = np.mean(np.abs(means) > STANDARD_ERRORS * within / np.sqrt(count * m)) / 2
    assert naive > 1.5 * np.mean(accepted)


def test_the_choice_among_epochs_does_not_inflate_the_gain():
    """Epochs that are all as good as none: the best of them looks better, others do not say so."""
    rng = np.random.default_rng(0)
    halves = np.arange(100) % 2 == 0
    chosen, fitted = [], []
    for _ in range(1000):
        steps = rng.standard_normal((50, 100))
        losses = np.concatenate([np.zeros((1, 100)), np.cumsum(steps, axis=0)])
        chosen.append(pays(losses[0] - losses[losses.mean(axis=1).argmin()], 10**9))
        fitted.append(pays(cross_fitted_gains(losses, halves), 10**9))
    assert np.mean(fitted) < 0.04
    assert np.mean(chosen) > 0.06 > np.mean(fitted)


def test_gains_that_all_samples_agree_on_stay():
    losses = np.linspace(1.0, 0.0, 11)[:, None] + np.zeros(20)
    assert np.array_equal(cross_fitted_gains(losses, np.arange(20) < 7), np.ones(20))
    assert pays(cross_fitted_gains(losses, np.arange(20) < 7), 20)


def test_training_that_fails_leaves_the_linear_start():
    X, y = load_breast_cancer(return_X_y=True)
    wild = TensorNetworkClassifier(
        learning_rate=5.0, pull=0.0, max_epochs=2, early_stopping=False, random_state=0
    ).fit(X, y)
    assert wild.n_iter_ == 0
    assert wild.score(X, y) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_no_fold_collapses(seed):
    """Networks of 30 sites, trained whether it pays or not; 0.62 is a collapse."""
    X, y = load_breast_cancer(return_X_y=True)
    network = TensorNetworkClassifier(max_epochs=10, early_stopping=False, random_state=seed)
    scores = cross_val_score(network, X, y, cv=2)
    assert scores.min() > 0.92


def test_one_seed_gives_one_result():
    X, y = make_classification(120, random_state=0)
    first, second = (
        TensorNetworkClassifier(random_state=3, max_epochs=3, early_stopping=False)
        .fit(X, y)
        .decision_function(X)
        for _ in range(2)
    )
    assert np.array_equal(first, second)


# ---- scikit-learn --------------------------------------------------------------------------------


def test_grid_search_over_a_pipeline():
    X, y = make_classification(90, 5, random_state=0)
    pipeline = make_pipeline(StandardScaler(), TensorNetworkClassifier(**QUICK))
    grid = {"tensornetworkclassifier__bond_dim": [3, 4], "tensornetworkclassifier__group": [1, 2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert search.best_score_ > 0.7
    assert clone(search.best_estimator_).get_params()["tensornetworkclassifier__max_epochs"] == 2


@pytest.mark.parametrize("kind", [TensorNetworkClassifier, TensorNetworkRegressor])
def test_a_pickle_holds_the_bytes_of_a_model_file(kind, tmp_path):
    X, y = make_classification(80, 4, n_informative=3, n_redundant=0, random_state=0)
    X[::7, 1] = np.nan
    fitted = kind(**QUICK, early_stopping=False).fit(X, y)
    content = pickle.dumps(fitted)
    assert b"torch" not in content
    again = pickle.loads(content)
    assert np.array_equal(again.predict(X), fitted.predict(X))
    path = tmp_path / "model.safetensors"
    path.write_bytes(fitted.__getstate__()["model_file"])
    outputs = ftnn.load(path)(ftnn.load_encoder(path)(X))
    assert np.array_equal(outputs, fitted.model_(fitted.encoder_(X)))


def test_missing_values_have_a_channel_of_their_own():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = rng.integers(0, 2, 200)
    X[y == 1, 2] = np.nan
    fitted = TensorNetworkClassifier(random_state=0).fit(X, y)
    assert fitted.score(X, y) == 1.0
    assert np.isfinite(fitted.predict_proba(X)).all()


def test_several_targets():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 4))
    Y = np.stack([X[:, 0] + X[:, 1], X[:, 2] - 3.0, np.full(150, 7.0)], axis=1)
    fitted = TensorNetworkRegressor(random_state=0).fit(X, Y)
    assert fitted.predict(X).shape == (150, 3)
    assert np.allclose(fitted.predict(X), Y, atol=0.1)
    one = TensorNetworkRegressor(random_state=0).fit(X, Y[:, 0])
    assert one.predict(X).shape == (150,)


@pytest.mark.parametrize("shift", [0.0, 1e6])
@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_units_of_columns_and_targets_do_not_matter(shift, scale):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    y = X @ [1.0, -2.0, 0.5]
    fitted = TensorNetworkRegressor(random_state=0).fit(X, y)
    other = TensorNetworkRegressor(random_state=0).fit(X * scale, y * scale + shift * scale)
    near = (other.predict(X * scale) - shift * scale) / scale
    assert np.allclose(near, fitted.predict(X), atol=1e-4)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"bond_dim": 0}, "bond_dim"),
        ({"features": "trig"}, "features"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"learning_rate": -1.0}, "learning_rate"),
    ],
)
def test_parameters_are_checked(parameters, words):
    X, y = make_classification(30, random_state=0)
    with pytest.raises(ValueError, match=words):
        TensorNetworkClassifier(**parameters).fit(X, y)


def test_what_is_not_fitted_says_so():
    with pytest.raises(NotFittedError):
        TensorNetworkClassifier().predict(np.zeros((2, 2)))


def test_importing_ftnn_imports_neither_scikit_learn_nor_torch():
    code = (
        "import sys, ftnn; print({'sklearn', 'torch'} & set(sys.modules)); ftnn.sklearn; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "False"]
