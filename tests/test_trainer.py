"""The trainer: learning, early stop, interruption, bad input, metrics."""

import gc
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ftnn

torch = pytest.importorskip("torch")
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from ftnn.training import (  # noqa: E402
    Callback,
    DivergenceError,
    TorchModule,
    TrainConfig,
    Trainer,
    TrainingData,
)
from ftnn.training.objective import Classification  # noqa: E402
from ftnn.training.update import Updater  # noqa: E402
from ftnn.training.world import World  # noqa: E402

DIMS = (4, 4, 4)
CLASSES = 3
CONFIG = TrainConfig(epochs=4, batch_size=16, lr=0.03, threads=1)


def make_data(seed=0, train=80, val=40, noise=0.7):
    """Images of three classes: a fixed picture each, plus noise."""
    rng = np.random.default_rng(seed)
    pictures = np.random.default_rng(1).standard_normal((CLASSES, 8, 8))
    labels = rng.integers(0, CLASSES, train + val)
    images = pictures[labels] + noise * rng.standard_normal((train + val, 8, 8))
    return TrainingData(images[:train], labels[:train], images[train:], labels[train:])


def make_model(seed=0, num_outputs=CLASSES):
    return ftnn.Sequential(
        ftnn.Linear(DIMS, DIMS, bond_dim=2, max_bond=4, seed=seed),
        ftnn.nonlinear.RMSNorm(),
        ftnn.Readout(DIMS, num_outputs, bond_dim=3, seed=seed),
    )


def make_trainer(path, config=CONFIG, model=None, quiet=True, callbacks=()):
    encoder = ftnn.encoding.AmplitudeEncoder((8, 8))
    return Trainer(model or make_model(), encoder, config, path, quiet=quiet, callbacks=callbacks)


def arrays(model):
    return {
        name: ftnn.arrays.backend.to_numpy(a).copy() for name, a in model.named_arrays().items()
    }


def same(first, second):
    assert first.keys() == second.keys()
    return all(np.array_equal(first[name], second[name]) for name in first)


class StopAt(Callback):
    """Ask for a stop after a step."""

    def __init__(self, step):
        self.step = step

    def step_end(self, fit, step):
        if step == self.step:
            fit.request_stop()


class Recorder(Callback):
    """Call functions of a fit after every step or epoch, and keep what they return."""

    def __init__(self, step=None, epoch=None):
        self.step, self.epoch = step, epoch
        self.steps, self.epochs = [], []

    def step_end(self, fit, step):
        if self.step is not None:
            self.steps.append(self.step(fit))

    def epoch_end(self, fit, record):
        if self.epoch is not None:
            self.epochs.append(self.epoch(fit))


def stable(history):
    """What does not depend on the clock."""
    return [
        {key: x for key, x in line.items() if key not in ("seconds", "samples_per_s")}
        for line in history
    ]


# ---- learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_learns(tmp_path, optimizer):
    lr = 0.02 if optimizer == "sgd" else 0.03
    config = replace(CONFIG, optimizer=optimizer, lr=lr, clip_norm=5.0, weight_decay=1e-4)
    data = make_data()
    trainer = make_trainer(tmp_path, config)
    before = trainer.evaluate(data.val_inputs, data.val_targets)
    result = trainer.fit(data)
    after = trainer.evaluate(data.val_inputs, data.val_targets)
    assert result.outcome == "completed"
    assert result.epochs == 4
    assert result.steps == 20
    assert result.history[-1]["train_loss"] < 0.7 * result.history[0]["train_loss"]
    assert after.loss < before.loss
    assert after.score > 0.8  # chance is 1/3
    assert after.score == result.val_score
    assert np.mean(after.predictions == data.val_targets) == pytest.approx(after.score)


def test_states_need_no_encoder_and_give_the_same(tmp_path):
    data = make_data()
    encoder = ftnn.encoding.AmplitudeEncoder((8, 8))
    by_images = make_trainer(tmp_path / "a").fit(data)
    states = TrainingData(
        encoder(data.train_inputs),
        data.train_targets,
        encoder.encode(data.val_inputs),
        data.val_targets,
    )
    by_states = Trainer(make_model(), None, CONFIG, tmp_path / "b", quiet=True).fit(states)
    assert stable(by_images.history) == stable(by_states.history)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("total", [1, 2, 10, 100])
def test_schedules_stay_within_the_learning_rate(schedule, warmup, total):
    from ftnn.training.optimizer import make_optimizer, make_scheduler

    config = TrainConfig(lr=0.5, schedule=schedule, warmup=warmup)
    optimizer = make_optimizer(config, TorchModule(make_model()))
    scheduler = make_scheduler(config, optimizer, total)
    rates = []
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total - 1:
            scheduler.step()
    assert all(0.0 < rate <= 0.5 * (1 + 1e-9) for rate in rates)
    if total == 100:
        assert max(rates) > 0.25  # warmup 0.5 meets a cosine half way down
        assert (rates[0] < 0.1) == (warmup > 0)
        assert (rates[-1] < 0.01) == (schedule != "constant")


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_linear_layers_learn_at_their_own_rate(schedule, optimizer):
    from ftnn.training.optimizer import make_optimizer, make_scheduler

    module = TorchModule(
        ftnn.Sequential(ftnn.Residual(ftnn.Linear(DIMS, DIMS, 2, 4), 4), *make_model().layers)
    )
    config = TrainConfig(lr=0.5, linear_lr=0.1, optimizer=optimizer, schedule=schedule)
    found = make_optimizer(config, module)
    scheduler = make_scheduler(config, found, 20)
    rest, linear = found.param_groups
    owners = {id(p): name for name, p in module.named_parameters()}
    assert len(linear["params"]) == 12  # weight and bias of both, also of that in the residual
    assert all("weight" in owners[id(p)] or "bias" in owners[id(p)] for p in linear["params"])
    assert {owners[id(p)].split(":")[0] for p in rest["params"]} == {"3"}
    assert len(rest["params"]) + len(linear["params"]) == len(owners)
    for _ in range(19):
        np.testing.assert_allclose(linear["lr"], 0.1 * rest["lr"])
        found.step()
        scheduler.step()


def test_a_rate_for_linear_layers_needs_one(tmp_path):
    model = ftnn.Sequential(ftnn.Readout(DIMS, CLASSES, 3))
    trainer = make_trainer(tmp_path / "run", replace(CONFIG, linear_lr=0.5), model)
    with pytest.raises(ValueError, match="has no Linear layer"):
        trainer.fit(make_data())
    assert not (tmp_path / "run").exists()


def test_running_average_is_evaluated_and_saved(tmp_path):
    config = replace(CONFIG, epochs=1, ema_decay=0.9)
    data = make_data()
    model = make_model()
    recorder = Recorder(
        lambda fit: {n: p.detach().clone() for n, p in fit.module.named_parameters()}
    )
    trainer = make_trainer(tmp_path, config, model, callbacks=[recorder])
    result = trainer.fit(data)
    seen = recorder.steps
    average = seen[0]
    for weights in seen[1:]:
        average = {name: 0.9 * average[name] + 0.1 * weights[name] for name in average}
    saved = ftnn.load(result.model_path).named_params()
    for name, value in average.items():
        assert np.allclose(saved[name.replace(":", ".")], value.numpy(), rtol=1e-5, atol=1e-6)
        assert not np.allclose(saved[name.replace(":", ".")], seen[-1][name].numpy(), atol=1e-6)
    assert trainer.evaluate(data.val_inputs, data.val_targets).loss == pytest.approx(
        result.val_loss, rel=1e-6
    )
    assert result.history[0]["weights"] == "average"


def test_clipping_limits_the_update(tmp_path):
    data = make_data()
    config = replace(
        CONFIG, epochs=1, optimizer="sgd", schedule="constant", warmup=0.0, lr=1.0, batch_size=80
    )
    norms = {}
    for clip in (0.0, 1e-3):
        before = arrays(make_model())
        trainer = make_trainer(tmp_path / str(clip), replace(config, clip_norm=clip))
        result = trainer.fit(data)
        after = {n: a.astype("float64") for n, a in arrays(trainer.model).items()}
        moved = np.sqrt(sum(np.sum((after[n] - before[n]) ** 2) for n in after))
        norms[clip] = moved
        assert result.history[0]["grad_norm"] > 0.01  # the norm before clipping is reported
    assert norms[1e-3] == pytest.approx(1e-3, rel=1e-2)
    assert norms[0.0] > 0.01


def test_same_seed_same_result_other_seed_other_result(tmp_path):
    config = replace(CONFIG, epochs=1)
    weights = []
    for n, seed in enumerate((0, 0, 1)):
        trainer = make_trainer(tmp_path / str(n), replace(config, seed=seed))
        trainer.fit(make_data())
        weights.append(arrays(trainer.model))
    assert same(weights[0], weights[1])
    assert not same(weights[0], weights[2])


def test_every_epoch_sees_every_sample_once_in_a_new_order(tmp_path, monkeypatch):
    from ftnn.training.data import Samples

    plain, seen = Samples.take, []

    def recorded(self, rows, device):
        if len(self) == 83:
            seen.append(rows)
        return plain(self, rows, device)

    monkeypatch.setattr(Samples, "take", recorded)
    make_trainer(tmp_path, replace(CONFIG, epochs=2)).fit(make_data(train=83))
    assert {len(rows) for rows in seen} == {13, 14}  # 83 samples in 6 batches of at most 16
    first, second = np.concatenate(seen[:6]), np.concatenate(seen[6:])
    assert np.array_equal(np.sort(first), np.arange(83))
    assert np.array_equal(np.sort(second), np.arange(83))
    assert not np.array_equal(first, second)


def test_augmentation_is_new_in_every_epoch_and_reproducible(tmp_path):
    def run(folder, epochs):
        seen = []

        def augment(images, rng):
            out = images + 0.1 * rng.standard_normal(images.shape)
            seen.append(out)
            return out

        trainer = make_trainer(tmp_path / folder, replace(CONFIG, epochs=epochs))
        trainer.fit(make_data(), augment=augment)
        return seen, arrays(trainer.model)

    first, weights = run("a", 2)
    second, again = run("b", 2)
    assert len(first) == 2
    assert first[0].shape == (80, 8, 8)
    assert not np.array_equal(first[0], first[1])
    assert np.array_equal(first[1], second[1])
    assert same(weights, again)


# ---- early stop ----------------------------------------------------------------------------------


def test_patience(tmp_path):
    data = make_data()
    # so small a learning rate that no weight moves: the first epoch stays the best
    config = replace(CONFIG, epochs=9, lr=1e-30, patience=2)
    result = make_trainer(tmp_path, config).fit(data)
    assert result.outcome == "patience"
    assert (result.epochs, result.best_epoch) == (3, 1)
    again = make_trainer(tmp_path, config).fit(data, resume=True)
    assert (again.outcome, again.epochs) == ("patience", 3)


class Scripted(Classification):
    """Classification whose validation results are given."""

    def __init__(self, results):
        self.results = iter(results)

    def measure(self, output, targets, smoothing=0.0):
        losses, scores = super().measure(output, targets, smoothing)
        if isinstance(output, np.ndarray):  # an evaluation
            loss, score = next(self.results)
            return np.full(len(losses), loss), np.full(len(losses), score)
        return losses, scores


def scripted_trainer(path, results, config=CONFIG, callbacks=()):
    encoder = ftnn.encoding.AmplitudeEncoder((8, 8))
    return Trainer(make_model(), encoder, config, path, True, Scripted(results), callbacks)


def test_best_model_is_kept(tmp_path):
    results = [(1.0, 0.5), (1.0, 0.9), (0.9, 0.9), (0.1, 0.4)]
    recorder = Recorder(epoch=lambda fit: arrays(fit.model))
    trainer = scripted_trainer(tmp_path, results, callbacks=[recorder])
    result = trainer.fit(make_data())
    assert (result.kept, result.best_epoch, result.val_score) == ("best", 3, 0.9)
    assert [line["kept"] for line in result.history] == [True, True, True, False]
    assert same(ftnn.load(result.model_path).named_arrays(), recorder.epochs[2])
    assert same(arrays(trainer.model), recorder.epochs[2])


def test_without_validation_the_last_model_is_kept(tmp_path):
    data = make_data()
    data = TrainingData(data.train_inputs, data.train_targets)
    result = make_trainer(tmp_path).fit(data)
    assert (result.kept, result.best_epoch, result.val_score) == ("last", 4, None)
    assert result.history[-1]["val_loss"] is None
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["kept"], summary["outcome"]) == ("last", "completed")


# ---- stop and resume -----------------------------------------------------------------------------


RESUMED = {
    "adamw": {"optimizer": "adamw", "schedule": "cosine", "clip_norm": 1.0},
    "adam": {"optimizer": "adam", "schedule": "onecycle", "label_smoothing": 0.1},
    "sgd": {"optimizer": "sgd", "schedule": "constant", "lr": 0.01},
    "average": {"ema_decay": 0.8, "dtype": "float64"},
    "linear_lr": {"linear_lr": 0.3},
}


@pytest.mark.parametrize("case", RESUMED)
@pytest.mark.parametrize("step", [2, 5, 7, 19])  # 5 steps an epoch: 5 is the end of the first
def test_resumed_equals_uninterrupted(tmp_path, case, step):
    config = replace(CONFIG, **RESUMED[case])
    data = make_data()
    whole = make_trainer(tmp_path / "whole", config)
    expected = whole.fit(data)

    trainer = make_trainer(tmp_path / "parts", config, callbacks=[StopAt(step)])
    stopped = trainer.fit(data)
    assert (stopped.outcome, stopped.steps) == ("stopped", step)
    assert stopped.model_path.exists()

    # another process would build another model: its weights must come from the checkpoint
    trainer = make_trainer(tmp_path / "parts", config, make_model(seed=9))
    result = trainer.fit(data, resume=True)
    assert result.outcome == "completed"
    assert same(arrays(whole.model), arrays(trainer.model))
    assert stable(result.history) == stable(expected.history)
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    assert stable(map(json.loads, lines)) == stable(expected.history)
    assert same(
        ftnn.load(result.model_path).named_arrays(), ftnn.load(expected.model_path).named_arrays()
    )


def test_recomputed_training_is_training(tmp_path):
    data = make_data()
    trainers = [
        make_trainer(tmp_path / str(recompute), replace(CONFIG, recompute=recompute))
        for recompute in (False, True)
    ]
    histories = [trainer.fit(data).history for trainer in trainers]
    losses = [[epoch["train_loss"] for epoch in history] for history in histories]
    assert losses[0] == losses[1]
    assert same(*(arrays(trainer.model) for trainer in trainers))


def test_resume_with_dropout(tmp_path):
    def model(rate):
        return ftnn.Sequential(ftnn.nonlinear.Dropout(rate), *make_model().layers)

    data = make_data()
    fits = {}
    for rate, seed in ((0.0, 0), (0.3, 0), (0.3, 1)):
        fits[rate, seed] = make_trainer(
            tmp_path / f"{rate}-{seed}", replace(CONFIG, seed=seed), model(rate)
        )
        fits[rate, seed].fit(data)
    whole = fits[0.3, 0]
    assert not same(arrays(whole.model), arrays(fits[0.0, 0].model))
    trainer = make_trainer(tmp_path / "parts", model=model(0.3), callbacks=[StopAt(8)])
    trainer.fit(data)
    torch.manual_seed(123)  # nothing may hang on it
    trainer = make_trainer(tmp_path / "parts", model=model(0.3))
    trainer.fit(data, resume=True)
    assert same(arrays(whole.model), arrays(trainer.model))


def with_layer(layer):
    first, *rest = make_model().layers
    return ftnn.Sequential(first, layer, *rest)


@pytest.mark.parametrize("ema_decay", [0.0, 0.8])
def test_validation_and_the_fitted_model_are_in_evaluation_mode(tmp_path, ema_decay):
    data = make_data()
    config = replace(CONFIG, ema_decay=ema_decay, lr=1e-3, dtype="float64")
    trainer = make_trainer(tmp_path, config, with_layer(ftnn.nonlinear.Dropout(0.5)))
    result = trainer.fit(data)
    x = trainer.encoder(data.val_inputs)
    for model in (trainer.model.to("numpy"), ftnn.load(result.model_path)):
        outputs = torch.from_numpy(model(x))
        loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(data.val_targets))
        assert result.val_loss == pytest.approx(loss.item(), rel=1e-9)


def test_running_statistics_are_those_of_training_batches_alone(tmp_path):
    data, other = make_data(), make_data(seed=5, noise=3.0)
    others = TrainingData(
        data.train_inputs, data.train_targets, 10.0 * other.val_inputs, other.val_targets
    )
    config = replace(CONFIG, epochs=1, dtype="float64")
    found = []
    for n, one in enumerate((data, others)):
        model = with_layer(ftnn.nonlinear.CoreNorm(product="running"))
        trainer = make_trainer(tmp_path / str(n), config, model)
        trainer.fit(one)
        found.append(arrays(trainer.model))
    assert same(*found)
    assert any(name.startswith("1.") for name in found[0])


def test_dropout_draws_anew_in_every_step(tmp_path, monkeypatch):
    drawn = []
    plain = ftnn.nonlinear.Dropout.apply

    def recorded(self, cores):
        out = plain(self, cores)
        if self.training and torch.is_grad_enabled():
            drawn.append(tuple((out[1][:, 0, 1:, 0] == 0).flatten().tolist()))
        return out

    monkeypatch.setattr(ftnn.nonlinear.Dropout, "apply", recorded)
    model = ftnn.Sequential(ftnn.nonlinear.Dropout(0.5), *make_model().layers)
    make_trainer(tmp_path, replace(CONFIG, epochs=2), model).fit(make_data())
    assert len(drawn) == len(set(drawn)) == 10


def test_resume_with_augmentation(tmp_path):
    def augment(images, rng):
        return images + 0.1 * rng.standard_normal(images.shape)

    data = make_data()
    whole = make_trainer(tmp_path / "whole")
    whole.fit(data, augment=augment)
    trainer = make_trainer(tmp_path / "parts", callbacks=[StopAt(8)])
    trainer.fit(data, augment=augment)
    trainer = make_trainer(tmp_path / "parts")
    trainer.fit(data, augment=augment, resume=True)
    assert same(arrays(whole.model), arrays(trainer.model))


def test_resume_with_augmentation_of_states(tmp_path):
    def augment(cores, rng):
        assert all(core.shape[0] == cores[0].shape[0] for core in cores)
        return (cores[0] * float(rng.uniform(0.5, 2.0)), *cores[1:])

    data = make_data()
    whole = make_trainer(tmp_path / "whole")
    whole.fit(data, augment_states=augment)
    plain = make_trainer(tmp_path / "plain")
    plain.fit(data)
    assert not same(arrays(whole.model), arrays(plain.model))
    trainer = make_trainer(tmp_path / "parts", callbacks=[StopAt(8)])
    trainer.fit(data, augment_states=augment)
    trainer = make_trainer(tmp_path / "parts")
    trainer.fit(data, augment_states=augment, resume=True)
    assert same(arrays(whole.model), arrays(trainer.model))


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    data = make_data()
    trainer = make_trainer(tmp_path)
    first = trainer.fit(data)
    weights = arrays(trainer.model)
    metrics = (tmp_path / "metrics.jsonl").read_bytes()
    trainer = make_trainer(tmp_path, model=make_model(seed=3))
    again = trainer.fit(data, resume=True)
    assert again.outcome == "completed"
    assert again.val_score == first.val_score
    assert same(weights, arrays(trainer.model))
    assert (tmp_path / "metrics.jsonl").read_bytes() == metrics


def test_a_run_folder_in_use_is_not_overwritten(tmp_path):
    data = make_data()
    config = replace(CONFIG, epochs=1)
    make_trainer(tmp_path, config).fit(data)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="holds an earlier run; resume it"):
        make_trainer(tmp_path, config).fit(data)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    make_trainer(tmp_path, config).fit(data, overwrite=True)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


SCRIPT = """
    import sys, os, signal
    sys.path[:0] = {paths!r}
    from test_trainer import *
    class Signal(Callback):
        def step_end(self, fit, step):
            if step == 7:
                print("step 7", flush=True)
                for number in {signals}:
                    os.kill(os.getpid(), number)
    torch.set_num_threads(1)
    trainer = make_trainer({folder!r}, quiet=False, callbacks=[Signal()])
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    try:
        result = trainer.fit(make_data())
    finally:
        assert [signal.getsignal(number) for number in numbers] == before
    print(result.outcome, result.steps, flush=True)
"""


def run_script(folder, *signals):
    here = os.path.dirname(os.path.abspath(__file__))
    signals = [int(number) for number in signals]
    script = SCRIPT.format(paths=[here, os.path.dirname(here)], folder=str(folder), signals=signals)
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    "signals",
    [
        (signal.SIGINT,),
        (signal.SIGTERM, signal.SIGTERM),  # schedulers send it more than once
        (signal.SIGHUP,),
    ],
)
def test_signals_leave_a_usable_checkpoint(tmp_path, signals):
    done = run_script(tmp_path / "run", *signals)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "stopped 7"
    assert "resume to continue" in done.stdout
    whole = make_trainer(tmp_path / "whole")
    whole.fit(make_data())
    trainer = make_trainer(tmp_path / "run")
    trainer.fit(make_data(), resume=True)
    assert same(arrays(whole.model), arrays(trainer.model))


def test_ctrl_c_after_any_signal_aborts_and_keeps_the_last_checkpoint(tmp_path):
    done = run_script(tmp_path / "run", signal.SIGTERM, signal.SIGINT)
    assert done.returncode != 0
    assert "KeyboardInterrupt" in done.stderr
    assert not (tmp_path / "run" / ".lock").exists()
    result = make_trainer(tmp_path / "run").fit(make_data(), resume=True)
    assert (result.outcome, result.steps) == ("completed", 20)


def test_signals_that_are_ignored_stay_ignored(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        hang_up = Recorder(lambda fit: os.kill(os.getpid(), signal.SIGHUP))
        result = make_trainer(tmp_path, replace(CONFIG, epochs=1), callbacks=[hang_up])
        assert result.fit(make_data()).outcome == "completed"
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


# ---- the host does not wait ----------------------------------------------------------------------


class NoReading(TorchDispatchMode):
    """Refuses the operations by which the host learns a value."""

    READING = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select")

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function.__name__.split(".")[0] not in self.READING, f"{function} within a step"
        return function(*args, **(kwargs or {}))


def layers_of(kind):
    nonlinear = ftnn.nonlinear
    return {
        "kan": (nonlinear.KAN(DIMS, basis="radial", share=True), nonlinear.Dropout(0.2)),
        "gated": (nonlinear.Gated(DIMS, DIMS, 2, 4),),
        "norms": (nonlinear.LayerNorm(DIMS, 4), nonlinear.CoreNorm(product="running")),
    }[kind]


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("kind", ["kan", "gated", "norms"])
def test_the_host_reads_no_number_within_a_step(kind, optimizer, monkeypatch):
    torch.manual_seed(0)
    linear, norm, readout = make_model().layers
    module = TorchModule(ftnn.Sequential(linear, *layers_of(kind), norm, readout), "float32")
    # no average of the weights: torch's asks a counter of its own, which stays on the host
    config = replace(CONFIG, optimizer=optimizer, clip_norm=1.0, schedule="onecycle")
    updater = Updater(module, config, 10, World(), Classification())
    data = make_data()
    cores = ftnn.encoding.AmplitudeEncoder((8, 8)).encode(data.train_inputs)
    batch = tuple(torch.from_numpy(core.astype(np.float32)) for core in cores)
    targets = (torch.from_numpy(data.train_targets),)
    before = arrays(module.model)
    with NoReading(), monkeypatch.context() as patch:
        for name in ("tolist", "numpy", "__array__"):
            patch.setattr(torch.Tensor, name, None)
        measured = [updater.step(batch, targets, len(targets[0])) for _ in range(3)]
        with pytest.raises(TypeError):
            measured[0].read()
        with pytest.raises(AssertionError, match="within a step"):
            updater.failed.item()
    assert [one.step for one in measured] == [1, 2, 3]
    assert all(one.read().finite for one in measured)
    assert not same(before, arrays(module.model))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat_over_two_thousand_steps():
    """Neither the objects of Python nor the resident set grow with the number of steps."""

    def measured(fit):
        if fit.updater.steps % 200:
            return None
        gc.collect()
        objects = len(gc.get_objects())
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return fit.updater.steps, objects, pages * os.sysconf("SC_PAGE_SIZE")

    rng = np.random.default_rng(0)
    vectors, labels = rng.standard_normal((1000, 4)), np.arange(1000) % 2
    states = ftnn.MPS.from_dense(vectors, (2, 2))
    layers = (ftnn.Linear((2, 2), (2, 2), 2, 2), ftnn.Readout((2, 2), 2, 2))
    config = replace(CONFIG, epochs=2, batch_size=1, lr=1e-4, ema_decay=0.5, clip_norm=1.0)
    recorder = Recorder(measured)
    trainer = Trainer(ftnn.Sequential(*layers), None, config, None, True, callbacks=[recorder])
    trainer.fit(TrainingData(states, labels))
    steps, objects, resident = np.array([m for m in recorder.steps if m is not None][1:]).T
    assert steps[-1] == 2000
    assert np.polyfit(steps, objects, 1)[0] < 0.2  # an object a step would be 1
    assert np.polyfit(steps, resident, 1)[0] < 500.0  # bytes; a batch of states has more


# ---- trouble -------------------------------------------------------------------------------------


class Spoiled(Classification):
    """Classification whose losses are spoiled at one step of training."""

    def __init__(self, step, spoil):
        self.step, self.spoil, self.count = step, spoil, 0

    def measure(self, output, targets, smoothing=0.0):
        losses, scores = super().measure(output, targets, smoothing)
        if isinstance(output, torch.Tensor):
            self.count += 1
            if self.count == self.step:
                losses = self.spoil(losses)
        return losses, scores


def spoiled_trainer(path, step, spoil):
    encoder = ftnn.encoding.AmplitudeEncoder((8, 8))
    return Trainer(make_model(), encoder, CONFIG, path, True, Spoiled(step, spoil))


def test_divergence_is_one_clear_line_and_keeps_the_last_checkpoint(tmp_path):
    trainer = spoiled_trainer(tmp_path, 7, lambda losses: losses * float("nan"))
    with pytest.raises(DivergenceError, match="loss is not finite in epoch 2, step 7") as error:
        trainer.fit(make_data())
    assert "\n" not in str(error.value)
    assert "lower lr" in str(error.value)
    assert "clip_norm" in str(error.value)
    assert all(np.isfinite(a).all() for a in arrays(trainer.model).values())
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    result = make_trainer(tmp_path).fit(make_data(), resume=True)
    assert result.outcome == "completed"


def test_a_gradient_that_is_not_finite_makes_no_update(tmp_path):
    # the root of zero: finite, its gradient is not
    trainer = spoiled_trainer(tmp_path, 1, lambda losses: losses + (0.0 * losses).sqrt())
    before = arrays(trainer.model)
    with pytest.raises(DivergenceError, match="gradient is not finite in epoch 1, step 1"):
        trainer.fit(make_data())
    assert same(before, arrays(trainer.model))


IMAGES = np.ones((6, 8, 8))
LABELS = np.array([0, 1, 2, 0, 1, 2])
TOO_LARGE = np.array([0, 1, 2, 0, 1, 3])


def with_nan():
    images = IMAGES.copy()
    images[3, 2, 1] = np.nan
    return images


@pytest.mark.parametrize(
    ("kind", "message", "changes"),
    [
        (
            ValueError,
            r"train_targets\[5\] is 3, expected 0 ... 2",
            {"train_targets": TOO_LARGE},
        ),
        (ValueError, r"train_targets\[0\] is -1, expected", {"train_targets": LABELS - 1}),
        (
            ValueError,
            r"train_targets has shape \(5,\), expected \(6,\)",
            {"train_targets": LABELS[:5]},
        ),
        (TypeError, "train_targets has dtype float64", {"train_targets": LABELS.astype(float)}),
        (TypeError, "train_inputs has dtype int64", {"train_inputs": IMAGES.astype(int)}),
        (ValueError, "train_inputs holds NaN", {"train_inputs": with_nan()}),
        (ValueError, r"train_inputs has shape \(0, 8, 8\)", {"train_inputs": IMAGES[:0]}),
        (ValueError, r"train_inputs has shape \(6, 64\)", {"train_inputs": IMAGES.reshape(6, 64)}),
        (TypeError, "train_inputs is a str", {"train_inputs": "mnist"}),
        (ValueError, r"expected \(batch, 8, 8\)", {"train_inputs": np.ones((6, 9, 8))}),
        (ValueError, "val_targets has shape", {"val_targets": LABELS[:2]}),
        (ValueError, "val_inputs holds NaN", {"val_inputs": with_nan()}),
        (ValueError, "both val_inputs and val_targets", {"val_targets": None}),
        (ValueError, r"phys_dims \(8, 8\)", {"train_inputs": (np.ones((6, 1, 8, 1)),) * 2}),
        (ValueError, "train_inputs: cores holds|train_inputs: cores", {"train_inputs": ()}),
    ],
)
def test_bad_data_is_named_early(tmp_path, kind, message, changes):
    good = TrainingData(IMAGES, LABELS, IMAGES, LABELS)
    with pytest.raises(kind, match=message):
        make_trainer(tmp_path / "run").fit(replace(good, **changes))
    assert not (tmp_path / "run").exists()


def test_bad_calls_are_named_early(tmp_path):
    good = TrainingData(IMAGES, LABELS)
    with pytest.raises(ValueError, match="there is no encoder"):
        Trainer(make_model(), None, CONFIG, tmp_path / "a", quiet=True).fit(good)
    with pytest.raises(ValueError, match="patience needs val_inputs"):
        make_trainer(tmp_path / "a", replace(CONFIG, patience=3)).fit(good)
    with pytest.raises(ValueError, match="end it in an ftnn"):
        make_trainer(tmp_path / "a", model=ftnn.nonlinear.RMSNorm()).fit(good)
    with pytest.raises(ValueError, match="nothing to resume"):
        make_trainer(tmp_path / "a").fit(good, resume=True)
    with pytest.raises(ValueError, match="augment returned"):
        make_trainer(tmp_path / "b").fit(good, augment=lambda images, rng: images[:1])
    states = ftnn.encoding.AmplitudeEncoder((8, 8))(IMAGES)
    with pytest.raises(ValueError, match="train_inputs are states"):
        make_trainer(tmp_path / "a").fit(
            TrainingData(states, LABELS), augment=lambda images, rng: images
        )
    with pytest.raises(TypeError, match="config is a dict"):
        Trainer(make_model(), None, {}, tmp_path / "a")
    with pytest.raises(TypeError, match="model is a int"):
        Trainer(3, None, CONFIG, tmp_path / "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        make_trainer(tmp_path / "file")
    with pytest.raises(ValueError, match="batch_size is 0"):
        make_trainer(tmp_path / "a").evaluate(IMAGES, LABELS, batch_size=0)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch finds 0 CUDA devices"):
            make_trainer(tmp_path / "a", replace(CONFIG, device="cuda"))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("epochs", [0, -1, 1.5, True, "3", None]),
        ("batch_size", [0, 2.0, None]),
        ("seed", [-1, 0.5]),
        ("lr", [0.0, -1.0, float("nan"), float("inf"), "fast"]),
        ("linear_lr", [0.0, -1.0, float("nan")]),
        ("weight_decay", [-0.1, float("inf")]),
        ("warmup", [-0.1, 1.0]),
        ("label_smoothing", [1.0, -0.1]),
        ("ema_decay", [1.0, "yes"]),
        ("clip_norm", [-1.0, float("nan")]),
        ("patience", [-1, 1.5]),
        ("threads", [-1]),
        ("checkpoint_seconds", [-1.0]),
        ("optimizer", ["lion", None]),
        ("schedule", ["linear"]),
        ("dtype", ["float16", torch.float32]),
        ("device", ["tpu", "cpu:0", "cuda:x", None]),
    ],
)
def test_every_field_of_the_configuration_is_checked(field, values):
    for value in values:
        with pytest.raises((TypeError, ValueError), match=f"^{field} is ") as error:
            TrainConfig(**{field: value})
        assert repr(value) in str(error.value)


def test_metrics_are_valid_json_with_all_that_was_measured(tmp_path):
    config = replace(CONFIG, epochs=2)
    result = scripted_trainer(tmp_path, [(float("nan"), 0.5)] * 2, config).fit(make_data())

    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    text = (tmp_path / "metrics.jsonl").read_text()
    lines = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert lines == result.history
    assert [line["epoch"] for line in lines] == [1, 2]
    assert [line["step"] for line in lines] == [5, 10]
    assert lines[0]["val_loss"] is None
    assert lines[0]["bond_dims"] == {"0": [4, 4], "1": [4, 4]}
    assert 0.0 < lines[0]["truncation_error"]["0"] < 1.0
    for key in ("train_loss", "train_accuracy", "lr", "samples_per_s", "seconds", "grad_norm"):
        assert lines[1][key] > 0.0
    assert result.train_seconds == pytest.approx(sum(line["seconds"] for line in lines), rel=0.2)
