"""What is learned: losses and scores against dense ones, and training states from states."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import assert_close, chains, dense, insert_gauges, mps

pytest.importorskip("torch")
import torch

import ftnn
from ftnn.arrays.backend import convert
from ftnn.chains.distance import relative_squares
from ftnn.training import Callback, StateRegression, TrainConfig, Trainer, TrainingData

DIMS = (2, 3, 2)
CONFIG = TrainConfig(epochs=4, batch_size=8, lr=0.05, dtype="float64", threads=1)


@given(chains(kinds=("generic", "padded", "deficient", "repeated")))
def test_relative_squares_equal_dense_ones(chain):
    x = chain.mps()
    other = [core + 0.3 for core in insert_gauges(chain.cores(), 3)]
    t = mps(other)
    expected = np.sum(np.abs(dense(x) - dense(t)) ** 2, axis=1) / np.sum(dense(t) ** 2, axis=1)
    scale = 1 + np.max(np.sum(dense(x) ** 2, axis=1) / np.sum(dense(t) ** 2, axis=1))
    for backend in ("numpy", "torch"):
        found = relative_squares(*(mps(s.cores, backend).cores for s in (x, t)))
        assert_close(found, expected, condition=1e6, scale=scale)


def test_relative_squares_of_long_chains_and_their_gradient():
    rng = np.random.default_rng(0)
    L = 400
    edges = [1, *[3] * (L - 1), 1]
    cores = [
        torch.from_numpy(rng.standard_normal((2, edges[k], 2, edges[k + 1]))) for k in range(L)
    ]
    target = [c.clone() for c in cores]
    cores[0] = (1.5 * cores[0]).requires_grad_()
    squares = relative_squares(tuple(cores), tuple(target))
    np.testing.assert_allclose(squares.detach(), 0.25, rtol=1e-6)
    squares.sum().backward()
    # d/ds of (s - 1)^2 at s = 1.5, along the core itself
    along = float((cores[0].grad * cores[0].detach()).sum()) / 1.5
    assert along == pytest.approx(2 * 2 * 0.5, rel=1e-5)


@given(chains(kinds=("generic", "padded")), st.sampled_from(["float32", "float64"]))
def test_roots_are_relative_errors_and_have_finite_gradients(chain, dtype):
    """Those of y, away from the target and at it, where a root has none."""
    target = [torch.from_numpy(core).to(getattr(torch, dtype)) for core in chain.cores()]
    for shift in (0.5, 0.0):
        first = (target[0] * (1.0 + shift)).requires_grad_()
        cores = (first, *target[1:])
        losses, scores = StateRegression(root=True).measure(cores, tuple(target))
        np.testing.assert_allclose(
            losses.detach(), shift, atol=1e-3 if dtype[-2:] == "32" else 1e-7
        )
        losses.sum().backward()
        assert torch.isfinite(first.grad).all()
        if shift:  # d/ds |s - 1| = 1
            np.testing.assert_allclose(losses.detach(), scores.detach(), rtol=1e-4)
            along = float((first.grad * target[0]).sum())
            assert along == pytest.approx(len(losses), rel=1e-2)


def states(n, seed):
    vectors = np.random.default_rng(seed).standard_normal((n, 12))
    return ftnn.MPS.from_dense(vectors, DIMS)


def make(tmp_path, config=CONFIG, seed=0, callbacks=()):
    layer = ftnn.Linear(DIMS, DIMS, bond_dim=4, max_bond=100, bias=False, seed=seed)
    model = ftnn.Sequential(layer)
    return Trainer(model, None, config, tmp_path, True, StateRegression(), callbacks)


def data():
    matrix = np.eye(12) + 0.1 * np.random.default_rng(9).standard_normal((12, 12))
    parts = [states(n, seed) for n, seed in ((32, 1), (8, 2))]
    targets = [ftnn.MPS.from_dense(x.to_dense() @ matrix.T, DIMS) for x in parts]
    return TrainingData(parts[0], targets[0], parts[1], targets[1])


def test_states_are_learned_from_states(tmp_path):
    trainer = make(tmp_path, replace(CONFIG, epochs=150))
    result = trainer.fit(data())
    scores = [line["val_error"] for line in result.history]
    assert scores[-1] < 0.15 < scores[0]
    assert result.val_score == min(scores)  # lower is better
    given = data()
    found = trainer.evaluate(given.val_inputs, given.val_targets)
    outputs = trainer.model.to("numpy")(given.val_inputs).to_dense()
    expected = np.linalg.norm(outputs - given.val_targets.to_dense(), axis=1) / np.linalg.norm(
        given.val_targets.to_dense(), axis=1
    )
    np.testing.assert_allclose(found.scores, expected, rtol=1e-6)
    assert found.score == pytest.approx(expected.mean())
    assert found.outputs is None
    with pytest.raises(ValueError, match="have no class"):
        _ = found.predictions
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["val_error"] == result.val_score


class StopAfter(Callback):
    """Ask for a stop after an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def epoch_end(self, fit, record):
        if record["epoch"] == self.epoch:
            fit.request_stop()


def test_a_resumed_regression_is_that_never_stopped(tmp_path):
    whole = make(tmp_path / "whole")
    whole.fit(data())
    part = make(tmp_path / "part", callbacks=[StopAfter(2)])
    assert part.fit(data()).outcome == "stopped"
    again = make(tmp_path / "part")
    again.fit(data(), resume=True)
    for name, array in whole.model.named_params().items():
        assert torch.equal(array, again.model.named_params()[name])
    other = data()
    other = replace(other, train_targets=other.train_inputs)
    with pytest.raises(ValueError, match="trained on other samples"):
        make(tmp_path / "part").fit(other, resume=True)


def test_wrong_objectives_and_targets(tmp_path):
    good, labels = data(), np.zeros(32, dtype=int)
    cases = [
        ({"train_targets": labels}, (TypeError, ValueError), "train_targets"),
        ({"train_targets": states(31, 0)}, ValueError, "has 31 states, expected 32"),
        ({"train_targets": ftnn.MPS.from_dense(np.ones((32, 8)), (2, 2, 2))}, ValueError, "phys_d"),
        ({"val_targets": ftnn.MPS.from_dense(np.zeros((8, 12)), DIMS)}, ValueError, r"\[0\] is ze"),
    ]
    for change, error, words in cases:
        with pytest.raises(error, match=words):
            make(tmp_path).fit(replace(good, **change))
    readout = ftnn.Sequential(ftnn.Readout(DIMS, 2, 2))
    with pytest.raises(ValueError, match="returns numbers, not states"):
        Trainer(readout, None, CONFIG, tmp_path, True, StateRegression()).fit(good)
    linear = ftnn.Sequential(ftnn.Linear(DIMS, DIMS, 2, 4))
    with pytest.raises(ValueError, match="returns states, not logits"):
        Trainer(linear, None, CONFIG, tmp_path, True).fit(replace(good, train_targets=labels))
    with pytest.raises(TypeError, match="objective is a str"):
        Trainer(linear, None, CONFIG, tmp_path, True, "states")
    with pytest.raises(ValueError, match="the targets are not labels"):
        Trainer(
            linear, None, replace(CONFIG, label_smoothing=0.1), tmp_path, True, StateRegression()
        )


def test_float32_targets_follow_the_model(tmp_path):
    given = data()
    single = [convert(core, "torch", "float32") for core in given.train_targets.cores]
    trainer = make(tmp_path)
    result = trainer.fit(TrainingData(given.train_inputs, tuple(single)))
    assert np.isfinite(result.history[-1]["train_error"])
