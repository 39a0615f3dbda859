"""Evaluation: the same on every backend and in any batches, equal to dense references."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import dense

import ftnn
from ftnn.training import Classification, Regression, StateRegression
from ftnn.training.evaluation import evaluate, predict

DIMS = (2, 3, 2)


def states(n, seed=0, dims=DIMS):
    vectors = np.random.default_rng(seed).standard_normal((n, int(np.prod(dims))))
    return ftnn.MPS.from_dense(vectors, dims)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@given(n=st.integers(1, 12), batch_size=st.integers(1, 13), seed=st.integers(0, 99))
def test_labels_equal_a_dense_reference(backend, n, batch_size, seed):
    x = states(n, seed)
    labels = np.random.default_rng(seed).integers(0, 3, n)
    model = ftnn.Sequential(ftnn.Readout(DIMS, 3, 2, seed=seed))
    logits = np.asarray(model(x))
    model.to(backend)
    result = evaluate(model, None, x, labels, batch_size=batch_size)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.outputs, logits, rtol=1e-9, atol=1e-12)
    expected = -np.log(shares[np.arange(n), labels]).mean()
    assert result.loss == pytest.approx(expected, rel=1e-9)
    assert result.score == np.mean(logits.argmax(axis=1) == labels) == result.scores.mean()
    assert np.array_equal(result.predictions, logits.argmax(axis=1))
    assert result.samples_per_s > 0
    assert np.array_equal(predict(model, None, x, batch_size=batch_size), result.outputs)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_states_and_numbers_equal_a_dense_reference(backend, batch_size):
    x, t = states(7), states(7, seed=1)
    model = ftnn.Sequential(ftnn.Linear(DIMS, DIMS, bond_dim=2, max_bond=50)).to(backend)
    result = evaluate(model, None, x, t.cores, StateRegression(), batch_size)
    y = dense(ftnn.Sequential(model.layers[0].to("numpy"))(x))
    norms = np.linalg.norm(dense(t), axis=1)
    errors = np.linalg.norm(y - dense(t), axis=1) / norms
    np.testing.assert_allclose(result.scores, errors, rtol=1e-6)
    assert result.loss == pytest.approx(np.mean(errors**2), rel=1e-6)
    assert result.outputs is None
    numbers = np.random.default_rng(2).standard_normal(7)
    model = ftnn.Readout(DIMS, 1, 2).to(backend)
    result = evaluate(model, None, x, numbers, Regression(), batch_size)
    deviations = result.outputs[:, 0] - numbers
    assert result.loss == pytest.approx(np.mean(deviations**2))
    assert result.score == pytest.approx(np.mean(np.abs(deviations)))


def test_smoothed_cross_entropies_are_those_of_torch():
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).standard_normal((9, 4)) * 10
    labels = np.arange(9) % 4
    for smoothing in (0.0, 0.3):
        own, _ = Classification().measure(logits, (labels,), smoothing)
        other, scores = Classification().measure(
            torch.from_numpy(logits), (torch.from_numpy(labels),), smoothing
        )
        np.testing.assert_allclose(own, other.numpy(), rtol=1e-12)
        assert scores.dtype == torch.float64


def test_the_model_is_in_evaluation_mode_and_comes_back_as_it_was():
    model = ftnn.Sequential(ftnn.nonlinear.Dropout(0.5), ftnn.Readout(DIMS, 3, 2))
    x, labels = states(6), np.zeros(6, dtype=int)
    expected = evaluate(model, None, x, labels).outputs
    model.layers[0].train()
    assert np.array_equal(evaluate(model, None, x, labels).outputs, expected)
    assert [layer.training for _, layer in model.walk()] == [False, True, False]


def test_no_gradient_is_recorded():
    torch = pytest.importorskip("torch")
    model = ftnn.training.TorchModule(ftnn.Readout(DIMS, 3, 2)).model
    seen = []

    class Seeing(Classification):
        def targets(self, targets, num_samples, output, argument):
            seen.append(output.requires_grad)
            return super().targets(targets, num_samples, output, argument)

    evaluate(model, None, states(3), torch.zeros(3, dtype=torch.long), Seeing())
    assert seen == [False]


def test_what_does_not_fit_is_named():
    x, labels = states(4), np.zeros(4, dtype=int)
    model = ftnn.Readout(DIMS, 3, 2)
    images = np.ones((4, 8))
    cases = [
        ((model, None, images, labels), ValueError, "inputs is an array, but there is no encoder"),
        ((model, None, states(4, dims=(2, 2, 3)), labels), ValueError, "phys_dims"),
        ((model, None, x, labels[:2]), ValueError, "targets has shape"),
        ((model, None, x, labels + 3), ValueError, r"targets\[0\] is 3"),
        ((model, None, x, labels, None, 0), ValueError, "batch_size is 0"),
        ((model, None, x, labels, StateRegression()), ValueError, "returns numbers, not states"),
    ]
    for arguments, kind, message in cases:
        with pytest.raises(kind, match=message):
            evaluate(*arguments)
    with pytest.raises(ValueError, match="returns states, not numbers"):
        predict(ftnn.Linear(DIMS, DIMS, 2, 4), None, x)
    model.params["weight.0"] = model.params["weight.0"] * np.nan
    for call in (lambda: evaluate(model, None, x, labels), lambda: predict(model, None, x)):
        with pytest.raises(ValueError, match="NaN or infinite"):
            call()


def test_torch_is_not_needed():
    program = """
import sys
sys.modules["torch"] = None
import numpy as np, ftnn
from ftnn.training import Evaluation, Classification, evaluate
x = ftnn.MPS.from_dense(np.ones((5, 4)), (2, 2))
print(evaluate(ftnn.Readout((2, 2), 3, 2), None, x, np.zeros(5, dtype=int)).scores.shape)
try:
    from ftnn.training import Trainer
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == "(5,)", done.stderr
    assert "needs torch; `pip install" in done.stdout
