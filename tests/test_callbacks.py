"""Callbacks: what they see and when, their checkpoints, replaced models, TensorBoard."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

import ftnn
from ftnn.layers.surgery import Block

torch = pytest.importorskip("torch")
from test_trainer import (  # noqa: E402
    CONFIG,
    DIMS,
    StopAt,
    arrays,
    make_data,
    make_model,
    make_trainer,
    same,
    scripted_trainer,
    stable,
)

from ftnn.training import Callback, Regression, TensorBoard, Trainer, TrainingData  # noqa: E402
from ftnn.training.callbacks import KeepStart  # noqa: E402
from ftnn.training.fit import Fit  # noqa: E402

TWO = replace(CONFIG, epochs=2)


class Journal(Callback):
    """Write down every call."""

    def __init__(self):
        self.calls = []

    def fit_start(self, fit):
        self.calls.append(("fit_start", fit.updater.steps))

    def step_end(self, fit, step):
        assert step == fit.updater.steps
        self.calls.append(("step_end", step))

    def step_measured(self, fit, stats):
        self.calls.append(("step_measured", stats.step))

    def measure(self, fit):
        self.calls.append(("measure", fit.progress.epochs_done))
        return {"steps_so_far": fit.updater.steps}

    def epoch_end(self, fit, record):
        self.calls.append(("epoch_end", record["epoch"]))

    def message(self, fit, text):
        self.calls.append(("message", text))

    def fit_end(self, fit, result):
        self.calls.append(("fit_end", result.outcome))

    def close(self):
        self.calls.append(("close",))


def test_hooks_are_called_in_their_order(tmp_path):
    journal = Journal()
    result = make_trainer(tmp_path, TWO, callbacks=[journal]).fit(make_data())
    calls = journal.calls
    assert calls[0] == ("fit_start", 0)
    assert calls[-2:] == [("fit_end", "completed"), ("close",)]
    steps = [call[1] for call in calls if call[0] == "step_end"]
    assert steps == list(range(1, 11))
    assert [call[1] for call in calls if call[0] == "step_measured"] == steps
    for step in steps:  # the numbers come after the step, before the one after the next
        at = calls.index(("step_measured", step))
        assert calls.index(("step_end", step)) < at
        assert ("step_end", step + 2) not in calls[:at]
    assert calls.index(("measure", 1)) + 1 == calls.index(("epoch_end", 1))
    assert calls.index(("step_measured", 5)) < calls.index(("measure", 1))
    assert [line["steps_so_far"] for line in result.history] == [5, 10]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["steps_so_far"] for line in lines] == [5, 10]


def test_callbacks_change_nothing_by_themselves(tmp_path):
    data = make_data()
    plain = make_trainer(tmp_path / "plain")
    expected = plain.fit(data)
    watched = make_trainer(tmp_path / "watched", callbacks=[Callback(), TensorBoard(every=1)])
    assert stable(watched.fit(data).history) == stable(expected.history)
    assert same(arrays(plain.model), arrays(watched.model))


def test_numbers_of_the_steps_are_those_of_the_epoch(tmp_path):
    class Numbers(Callback):
        def __init__(self):
            self.stats, self.records = [], []

        def step_measured(self, fit, stats):
            self.stats.append(stats)

        def epoch_end(self, fit, record):
            self.records.append(record)

    numbers = Numbers()
    make_trainer(tmp_path, TWO, callbacks=[numbers]).fit(make_data(train=83))
    for record, stats in zip(numbers.records, (numbers.stats[:6], numbers.stats[6:]), strict=True):
        weights = [s.samples for s in stats]
        assert sum(weights) == 83
        mean = np.average([s.loss for s in stats], weights=weights)
        assert record["train_loss"] == pytest.approx(mean, rel=1e-12)
        assert record["grad_norm"] == pytest.approx(np.mean([s.grad_norm for s in stats]))
        assert record["lr"] == stats[-1].lr


def test_close_is_called_after_errors_of_any_callback(tmp_path):
    class Failing(Journal):
        def step_end(self, fit, step):
            raise RuntimeError("no more paper")

        def close(self):
            super().close()
            raise OSError("the drawer is stuck")

    first, second, third = Journal(), Failing(), Journal()
    trainer = make_trainer(tmp_path, callbacks=[first, second, third])
    with pytest.raises(OSError, match="drawer") as error:
        trainer.fit(make_data())
    assert "paper" in str(error.value.__context__)
    assert all(journal.calls[-1] == ("close",) for journal in (first, second, third))
    assert not (tmp_path / ".lock").exists()


class Counter(Callback):
    """Count steps, over resumptions."""

    def __init__(self):
        self.count, self.total = 0, torch.zeros(2)

    def step_end(self, fit, step):
        self.count += 1
        self.total += step

    def state(self):
        return {"count": self.count, "total": self.total}

    def load_state(self, fit, state):
        self.count, self.total = state["count"], state["total"]


def test_a_state_is_checkpointed_and_comes_back(tmp_path):
    data, counter = make_data(), Counter()
    make_trainer(tmp_path, callbacks=[counter, StopAt(7)]).fit(data)
    assert counter.count == 7
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="with the callback Counter"):
        make_trainer(tmp_path).fit(data, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    again = Counter()
    make_trainer(tmp_path, callbacks=[again]).fit(data, resume=True)
    assert again.count == 20
    assert again.total.tolist() == [210.0, 210.0]
    with pytest.raises(ValueError, match="two callbacks with a state"):
        make_trainer(tmp_path / "b", callbacks=[Counter(), Counter()]).fit(data)


@pytest.mark.parametrize(("wrong", "hint"), [(Journal, "make an instance"), (print, "Callback")])
def test_what_is_no_callback_is_refused(tmp_path, wrong, hint):
    with pytest.raises(TypeError, match=hint):
        make_trainer(tmp_path / "run", callbacks=[wrong])


# ---- models replaced in mid-training -------------------------------------------------------------


def grown(model, bond_dim):
    """The same function with larger bonds of its first layer, and where its old arrays are."""
    linear, *rest = model.layers
    new = ftnn.Linear(DIMS, DIMS, bond_dim=bond_dim, max_bond=4)
    new.to("torch", "float32")
    blocks = {}
    for name, old in linear.params.items():
        where = tuple(slice(size) for size in old.shape)
        new.params[name] = torch.zeros_like(new.params[name])
        new.params[name][where] = old.detach()
        blocks[f"0.{name}"] = Block(f"0.{name}", where, where)
    new.buffers = {name: array.clone() for name, array in linear.buffers.items()}
    network = ftnn.Sequential(new, *rest)
    own = (name for name in network.named_params() if not name.startswith("0."))
    return network, blocks | {name: Block(name, (), ()) for name in own}


class Grow(Callback):
    """Give the first layer larger bonds after an epoch."""

    def __init__(self, epoch, bond_dim=5):
        self.epoch, self.bond_dim, self.done = epoch, bond_dim, False

    def grow(self, fit):
        self.done = True
        fit.replace_model(*grown(fit.model, self.bond_dim))

    def epoch_end(self, fit, record):
        if record["epoch"] == self.epoch:
            self.grow(fit)

    def state(self):
        return {"done": True} if self.done else {}

    def load_state(self, fit, state):
        self.grow(fit)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "sgd"}, {"ema_decay": 0.5}])
def test_a_padded_parameter_keeps_its_moments_and_gets_zeros_around(tmp_path, changes):
    class Check(Grow):
        def grow(self, fit):
            old = fit.updater
            before = {
                name: {k: v.clone() for k, v in old.optimizer.state[p].items()}
                for name, p in fit.model.named_params().items()
            }
            weights = {name: p.detach().clone() for name, p in fit.model.named_params().items()}
            average = {n: a.clone() for n, a in fit.updater.evaluated.model.named_params().items()}
            lr = [group["lr"] for group in old.optimizer.param_groups]
            x = tuple(core[:4] for core in fit.val.cores)
            with torch.no_grad():
                output = fit.module.apply_cores(x)
            super().grow(fit)
            with torch.no_grad():
                assert torch.allclose(fit.module.apply_cores(x), output, rtol=1e-3, atol=1e-4)
            assert [group["lr"] for group in fit.updater.optimizer.param_groups] == lr
            for name, param in fit.model.named_params().items():
                block = tuple(slice(size) for size in weights[name].shape)
                state = fit.updater.optimizer.state[param]
                assert state.keys() == before[name].keys()
                assert torch.equal(param.detach()[block], weights[name])
                for key, value in before[name].items():
                    if value.ndim == 0:
                        assert torch.equal(state[key], value)
                        continue
                    assert state[key].shape == param.shape
                    assert torch.equal(state[key][block], value)
                    outside = state[key].clone()
                    outside[block] = 0.0
                    assert not outside.any()
                mean = fit.updater.evaluated.model.named_params()[name]
                assert torch.equal(mean.detach()[block], average[name])

    config = replace(CONFIG, **changes, lr=0.01)
    grow = Check(2)
    trainer = make_trainer(tmp_path, config, callbacks=[grow])
    result = trainer.fit(make_data())
    assert grow.done
    assert result.history[-1]["train_loss"] < result.history[1]["train_loss"]
    assert ftnn.load(result.model_path).num_params() == trainer.model.num_params()


@pytest.mark.parametrize("stop", [7, 12])
def test_a_run_that_grows_resumes_to_the_same_result(tmp_path, stop):
    data = make_data()
    whole = make_trainer(tmp_path / "whole", callbacks=[Grow(2)])
    expected = whole.fit(data)
    make_trainer(tmp_path / "parts", callbacks=[Grow(2), StopAt(stop)]).fit(data)
    trainer = make_trainer(tmp_path / "parts", model=make_model(seed=9), callbacks=[Grow(2)])
    result = trainer.fit(data, resume=True)
    assert stable(result.history) == stable(expected.history)
    assert same(arrays(whole.model), arrays(trainer.model))


def test_the_best_model_may_be_one_since_replaced(tmp_path):
    data = make_data()
    results = [(1.0, 0.9), (1.0, 0.5), (1.0, 0.5), (1.0, 0.5)]
    trainer = scripted_trainer(tmp_path, results, callbacks=[Grow(1)])
    result = trainer.fit(data)
    assert result.best_epoch == 1
    assert trainer.model.num_params() == make_model().num_params()
    assert same(ftnn.load(result.model_path).named_arrays(), arrays(trainer.model))
    again = make_trainer(tmp_path, callbacks=[Grow(1)])
    again.fit(data, resume=True)
    assert same(arrays(trainer.model), arrays(again.model))


def test_replacements_that_do_not_fit_change_nothing(tmp_path):
    class Wrong(Callback):
        def epoch_end(self, fit, record):
            model, blocks = grown(fit.model, 5)
            updater = fit.updater
            before = (updater.module, updater.optimizer, updater.scheduler)
            for change, message in (
                ({"9.weight": Block("0.weight.0", (), ())}, "no parameter '9.weight'"),
                ({"0.weight.0": Block("9.weight", (), ())}, "no parameter '9.weight'"),
                ({"0.weight.0": Block("0.weight.0", (), ())}, "expected"),
            ):
                with pytest.raises(ValueError, match=message):
                    fit.replace_model(model, blocks | change)
            other = ftnn.Sequential(ftnn.Readout((2, 2), 3, 1))
            with pytest.raises(ValueError, match="in_dims"):
                fit.replace_model(other, {})
            assert (updater.module, updater.optimizer, updater.scheduler) == before

    config = replace(CONFIG, epochs=1)
    assert make_trainer(tmp_path, config, callbacks=[Wrong()]).fit(make_data()).epochs == 1


# ---- without a folder, with numbers --------------------------------------------------------------


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = make_data()
    trainer = make_trainer(None, TWO)
    result = trainer.fit(data)
    assert result.model_path is None
    assert not list(tmp_path.iterdir())
    written = make_trainer(tmp_path / "run", TWO)
    assert stable(written.fit(data).history) == stable(result.history)
    assert same(arrays(trainer.model), arrays(written.model))
    with pytest.raises(ValueError, match="no run_dir to resume from"):
        make_trainer(None, TWO).fit(data, resume=True)
    with pytest.raises(ValueError, match="give TensorBoard"):
        make_trainer(None, TWO, callbacks=[TensorBoard()]).fit(data)


def test_numbers_are_learned(tmp_path):
    data = make_data(noise=0.1)
    numbers = np.stack([data.train_targets, -0.5 * data.train_targets], axis=1)
    encoder = ftnn.encoding.AmplitudeEncoder((8, 8))
    config = replace(CONFIG, epochs=15)
    trainer = Trainer(make_model(num_outputs=2), encoder, config, tmp_path, True, Regression())
    result = trainer.fit(TrainingData(data.train_inputs, numbers))
    assert result.history[-1]["train_loss"] < 0.05 < result.history[0]["train_loss"]
    evaluation = trainer.evaluate(data.train_inputs, numbers)
    expected = np.abs(evaluation.outputs - numbers).mean(axis=1)
    np.testing.assert_allclose(evaluation.scores, expected, rtol=1e-6, atol=1e-7)
    for wrong, message in ((numbers[:, 0], "shape"), (numbers * np.nan, "not finite")):
        with pytest.raises(ValueError, match=message):
            trainer.evaluate(data.train_inputs, wrong)


# ---- TensorBoard ---------------------------------------------------------------------------------


def test_tensorboard_has_the_numbers_of_a_run_that_was_resumed(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    data = make_data()
    make_trainer(tmp_path, callbacks=[TensorBoard(every=1), StopAt(7)]).fit(data)
    result = make_trainer(tmp_path, callbacks=[TensorBoard(every=1)]).fit(data, resume=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    assert [e.step for e in events.Scalars("step/loss")] == list(range(1, 21))
    for tag, key in (
        ("loss/train", "train_loss"),
        ("loss/val", "val_loss"),
        ("accuracy/val", "val_accuracy"),
        ("epoch/lr", "lr"),
        ("epoch/grad_norm", "grad_norm"),
    ):
        points = events.Scalars(tag)
        assert [point.step for point in points] == [5, 10, 15, 20]
        expected = [line[key] for line in result.history]
        np.testing.assert_allclose([point.value for point in points], expected, rtol=1e-6)
    assert {"truncation_error/0", "bond_dims/0", "entropies/0"} <= set(tags)


def test_tensorboard_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        TensorBoard()


# ---- a start that counts -------------------------------------------------------------------------


@pytest.mark.parametrize("later", [0.7, 0.9])
def test_a_start_is_kept_until_an_epoch_is_better(tmp_path, later):
    results = [(1.0, 0.8), (1.0, 0.2), (1.0, later), (1.0, 0.3), (1.0, 0.4)]
    trainer = scripted_trainer(tmp_path, results, callbacks=[KeepStart(seconds=1000.0)])
    start = arrays(trainer.model)
    result = trainer.fit(make_data())
    assert [line["kept"] for line in result.history] == [False, later == 0.9, False, False]
    assert result.best_epoch == (2 if later == 0.9 else 0)
    assert result.val_score == max(later, 0.8)
    assert same(arrays(trainer.model), start) == (later == 0.7)
    assert same(ftnn.load(result.model_path).named_arrays(), start) == (later == 0.7)
    assert result.train_seconds > 1000.0


@pytest.mark.parametrize("step", [2, 7])
def test_a_start_survives_an_interruption(tmp_path, step):
    results = [(1.0, 0.8), *[(1.0, 0.3)] * 4]
    stop = [KeepStart(1000.0), StopAt(step)]
    trainer = scripted_trainer(tmp_path, results, callbacks=stop)
    start = arrays(trainer.model)
    assert trainer.fit(make_data()).outcome == "stopped"
    trainer = scripted_trainer(tmp_path, results[1:], callbacks=[KeepStart(1000.0)])
    result = trainer.fit(make_data(), resume=True)
    assert (result.outcome, result.best_epoch, result.val_score) == ("completed", 0, 0.8)
    assert same(arrays(trainer.model), start)
    assert 1000.0 < result.train_seconds < 2000.0


def test_a_start_counts_also_if_its_evaluation_is_interrupted(tmp_path, monkeypatch):
    def strike(*arguments):
        raise KeyboardInterrupt

    results = [(1.0, 0.8), *[(1.0, 0.3)] * 4]
    trainer = scripted_trainer(tmp_path, results, callbacks=[KeepStart(1000.0)])
    with monkeypatch.context() as patch:
        patch.setattr(Fit, "evaluate", strike)
        with pytest.raises(KeyboardInterrupt):
            trainer.fit(make_data())
    trainer = scripted_trainer(tmp_path, results, callbacks=[KeepStart()])
    start = arrays(trainer.model)
    result = trainer.fit(make_data(), resume=True)
    assert (result.outcome, result.best_epoch, result.val_score) == ("completed", 0, 0.8)
    assert same(arrays(trainer.model), start)
    assert 1000.0 < result.train_seconds < 2000.0
