"""Models that grow while they train: schedules, moments, rates, places, interruptions."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ftnn

torch = pytest.importorskip("torch")
from test_trainer import (  # noqa: E402
    CONFIG,
    DIMS,
    Recorder,
    StopAt,
    arrays,
    make_data,
    make_model,
    make_trainer,
    same,
    stable,
)

from ftnn.training import Callback, TrainConfig  # noqa: E402
from ftnn.training.changes import candidates, changed  # noqa: E402
from ftnn.training.fit import Fit  # noqa: E402
from ftnn.training.growth import best_place, new_gradient  # noqa: E402
from ftnn.training.schedule import schedule, text_of  # noqa: E402

BOND = st.one_of(st.integers(1, 99).map(str), st.integers(1, 9).map("+{}".format))
EVENTS = st.builds(
    lambda time, change, warm: {**time, **change, "warm": warm},
    st.one_of(
        st.fixed_dictionaries({"epoch": st.integers(1, 99)}),
        st.fixed_dictionaries({"plateau": st.integers(1, 9), "params": st.integers(1, 9999)}),
    ),
    st.one_of(
        st.fixed_dictionaries(
            {"inflate": BOND, "where": st.sampled_from(["0", "1.layer", "best"])}
        ),
        st.fixed_dictionaries({"max_bond": BOND, "freeze": st.just("0.weight.1")}),
        st.fixed_dictionaries({"widen": st.integers(1, 99).map(str)}),
        st.fixed_dictionaries({"repeat": st.just("2"), "prune": st.integers(1, 99)}),
    ),
    st.one_of(st.just(1.0), st.integers(0, 5).map(float), st.just(0.25)),
)


# ---- schedules -----------------------------------------------------------------------------------


@given(EVENTS)
def test_a_schedule_is_the_same_as_text_and_as_tables(table):
    (event,) = schedule([table])
    assert {name: getattr(event, name) for name in table} == table
    assert schedule(str(event)) == (event,)
    assert text_of(f" ; {event};") == text_of([table]) == str(event)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "grow is '', expected events such as 'epoch=10"),
        ("epoch=3", "event 1 changes nothing; give one of inflate"),
        ("inflate=3", "event 1 has neither epoch and plateau"),
        ("epoch=3 plateau=2 inflate=3", "event 1 has both epoch and plateau"),
        ("epoch=3 inflate", "'inflate' is no NAME=VALUE"),
        ("epoch=3 epoch=4 inflate=3", "'epoch=4' comes twice"),
        ("epoch=3 bond=3", "event 1 has 'bond', expected one of epoch, plateau"),
        ("epoch=0 inflate=3", "epoch is '0', expected an integer >= 1"),
        ([{"epoch": 2.5, "inflate": 3}], "epoch is 2.5, expected an integer >= 1"),
        ([{"epoch": True, "inflate": 3}], "epoch is True, expected an integer >= 1"),
        ("epoch=3 inflate=-3", "inflate is '-3', expected a size such as 8, or \\+2"),
        ("epoch=3 widen=\\+3", "widen is"),
        ("epoch=3 inflate=3 warm=-1", "warm is '-1', expected a number >= 0"),
        ("epoch=3 inflate=3 warm=nan", "warm is 'nan', expected a number >= 0"),
        ("epoch=3 freeze=0 where=1", "has where=1, which goes with inflate, max_bond, widen"),
        ("epoch=3 inflate=3 widen=4 where=best", "where=best, which goes with inflate or max_bond"),
        ("epoch=3 inflate=8; epoch=5 inflate=4", "inflate is 4 after epoch 5, but 8 after epoch 3"),
        ("epoch=3 inflate=8; epoch=3 inflate=9", "events 1 and 2 both inflate all layers"),
        ("epoch=3 freeze=0; epoch=3 thaw=0", "events 1 and 2 both freeze or thaw 0 after epoch 3"),
        ([3], "event 1 is 3, expected a table"),
        ([{"epoch": 3, "freeze": 0}], "freeze is 0, expected a path"),
    ],
)
def test_schedules_that_mean_nothing_are_refused(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        schedule(given)
    with pytest.raises((ValueError, TypeError), match=message):
        TrainConfig(grow=given)


@pytest.mark.parametrize(
    ("grow", "message"),
    [
        ("epoch=4 inflate=3", "comes after epoch 4, but there are 4 epochs"),
        (
            "epoch=2 inflate=1",
            "event 1, epoch=2 inflate=1: no bond is smaller than 1: 2 of '0', 3 of '2'",
        ),
        ("epoch=2 inflate=5 where=7", "where is '7', but the model has the layers"),
        ("epoch=1 freeze=0; epoch=2 inflate=9", "event 2, .*: array '0.* is frozen"),
        ("epoch=2 widen=3", "event 1"),
        ("epoch=2 deepen=2", "event 1"),
        ("plateau=4 inflate=\\+1", "never comes: training stops after 3 epochs"),
    ],
)
def test_growth_that_cannot_be_is_refused_before_anything_is_written(tmp_path, grow, message):
    config = replace(CONFIG, grow=grow.replace("\\", ""), patience=3)
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path / "run", config).fit(make_data())
    assert not (tmp_path / "run").exists()


def test_a_plateau_needs_validation(tmp_path):
    data = replace(make_data(), val_inputs=None, val_targets=None)
    with pytest.raises(ValueError, match="needs validation samples, whose loss stalls"):
        make_trainer(None, replace(CONFIG, grow="plateau=2 inflate=+1")).fit(data)


# ---- in training ---------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(
    "change", ["inflate=4", "inflate=+2 max_bond=6", "widen=5", "deepen=0", "repeat=1", "freeze=2"]
)
def test_a_model_that_grows_goes_on_as_it_was(tmp_path, monkeypatch, change, optimizer):
    """The same outputs, the moments of the old entries, and gradients for the new ones."""
    seen = []
    plain = Fit.replace_model

    def checked(fit, model, blocks):
        x = tuple(core[:8] for core in fit.val.cores)
        before = {n: p for n, p in fit.model.named_params().items()}
        moments = {n: fit.updater.optimizer.state[p] for n, p in before.items()}
        with torch.no_grad():
            output = fit.module.apply_cores(x)
            plain(fit, model, blocks)
            assert torch.allclose(fit.module.apply_cores(x), output, rtol=1e-4, atol=1e-5)
        for name, param in fit.model.named_params().items():
            if name not in blocks:
                continue
            block, state = blocks[name], fit.updater.optimizer.state[param]
            for key, value in moments[block.name].items():
                if value.ndim:
                    assert torch.equal(state[key][block.target], value[block.source])
        seen.append(fit.module)

    monkeypatch.setattr(Fit, "replace_model", checked)
    config = replace(CONFIG, optimizer=optimizer, lr=0.01, grow=f"epoch=2 {change}")
    gradients = Recorder(lambda fit: {n: p.grad for n, p in fit.model.named_params().items()})
    trainer = make_trainer(tmp_path, config, callbacks=[gradients])
    result = trainer.fit(make_data())
    assert len(seen) == 1
    for found in gradients.steps[-1].values():
        assert torch.isfinite(found).all()
        assert found.any()
    kept, lines = ftnn.load(result.model_path), (tmp_path / "metrics.jsonl").read_text()
    told = [json.loads(line).get("growth") for line in lines.splitlines()]
    assert [bool(text) for text in told] == [False, True, False, False]
    assert told[1][0].startswith(change)
    sizes = [json.loads(line)["params"] for line in lines.splitlines()]
    assert sizes == [sizes[0]] * 2 + [seen[0].model.num_params()] * 2
    if result.best_epoch > 2:
        assert kept.num_params() == sizes[3]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(
    ("change", "new"), [("widen=5", {"1.weight.1"}), ("prune=300", {"0", "1"})]
)
def test_moments_of_entries_that_become_others_are_dropped(monkeypatch, change, new, optimizer):
    """Those of a weight in another gauge; those of an index that is fused with a larger one."""
    seen = []
    plain = Fit.replace_model

    def checked(fit, model, blocks):
        seen.append((fit.model.named_params().keys(), model.named_params(), blocks))
        before = {n: p.detach().clone() for n, p in fit.model.named_params().items()}
        plain(fit, model, blocks)
        for name, block in blocks.items():
            own = fit.model.named_params()[name]
            assert torch.equal(own[block.target], before[block.name][block.source])

    monkeypatch.setattr(Fit, "replace_model", checked)
    model = ftnn.Sequential(
        ftnn.Linear(DIMS, DIMS, bond_dim=3, max_bond=4), ftnn.Expectation(DIMS, 3, bond_dim=2)
    )
    if "prune" in change:
        model = ftnn.Sequential(model.layers[0], ftnn.Readout(DIMS, 3, bond_dim=6))
    config = replace(CONFIG, optimizer=optimizer, grow=f"epoch=2 {change}")
    result = make_trainer(None, config, model).fit(make_data())
    assert result.outcome == "completed"
    ((old, _, blocks),) = seen
    dropped = old - blocks.keys()
    assert dropped
    assert all(any(name.startswith(start) for start in new) for name in dropped)


def test_a_model_shrinks_while_it_trains(tmp_path):
    config = replace(CONFIG, epochs=6, grow="epoch=2 inflate=6; epoch=4 prune=400 warm=0")
    trainer = make_trainer(tmp_path, config)
    history = trainer.fit(make_data()).history
    sizes = [record["params"] for record in history]
    assert sizes[2] > 400 >= sizes[4] > 300
    assert history[4]["train_loss"] < 2 * history[3]["train_loss"] + 0.1


@pytest.mark.parametrize("warm", [0.0, 1.0, 2.0])
def test_the_rate_rises_again_after_growth(tmp_path, warm):
    class Rates(Callback):
        def __init__(self):
            self.rates = []

        def step_measured(self, fit, stats):
            self.rates.append(stats.lr)

    rates = Rates()
    config = replace(CONFIG, schedule="constant", warmup=0.0, lr=0.01)
    config = replace(config, grow=f"epoch=2 inflate=4 warm={warm:g}")
    make_trainer(tmp_path, config, callbacks=[rates]).fit(make_data())
    steps, rise = 5, round(5 * warm)
    expected = [1.0] * (2 * steps) + [min(1.0, (k + 1) / (rise + 1)) for k in range(2 * steps)]
    assert rates.rates == pytest.approx([0.01 * factor for factor in expected])


GROWING = (
    "epoch=1 inflate=3; epoch=2 deepen=0 warm=2; epoch=3 widen=5 freeze=3; "
    "plateau=1 inflate=+1 where=best params=9999"
)


@pytest.mark.parametrize("stop", [3, 5, 7, 12, 16])
@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.5}])
def test_a_run_that_grows_resumes_to_the_same_result(tmp_path, stop, changes):
    data, config = make_data(), replace(CONFIG, grow=GROWING, **changes)
    whole = make_trainer(tmp_path / "whole", config)
    expected = whole.fit(data)
    assert any(record.get("growth") for record in expected.history)
    make_trainer(tmp_path / "run", config, callbacks=[StopAt(stop)]).fit(data)
    other = make_model()
    for array in other.named_params().values():
        array[:] = 1.0
    again = make_trainer(tmp_path / "run", config, model=other)
    result = again.fit(data, resume=True)
    assert stable(result.history) == stable(expected.history)
    assert same(arrays(whole.model), arrays(again.model))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


@pytest.mark.parametrize("moment", ["before growth", "after growth", "before checkpoint"])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_kill_between_growth_and_checkpoint_changes_nothing(tmp_path, monkeypatch, moment, epoch):
    class Killed(BaseException):
        pass

    data, config = make_data(), replace(CONFIG, grow=GROWING)
    whole = make_trainer(tmp_path / "whole", config)
    whole.fit(data)
    owner, name = (Fit, "checkpoint") if moment == "before checkpoint" else (Fit, "replace_model")
    plain = getattr(owner, name)

    def killed(fit, *args):
        if fit.progress.epochs_done != epoch:
            return plain(fit, *args)
        if moment == "after growth":
            plain(fit, *args)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(Killed):
            make_trainer(tmp_path / "run", config).fit(data)
    again = make_trainer(tmp_path / "run", config)
    again.fit(data, resume=True)
    assert same(arrays(whole.model), arrays(again.model))


def test_another_schedule_is_refused_on_resuming(tmp_path):
    data, config = make_data(), replace(CONFIG, grow="epoch=1 inflate=3")
    make_trainer(tmp_path, config, callbacks=[StopAt(12)]).fit(data)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = replace(CONFIG, grow="epoch=1 inflate=4")
    with pytest.raises(ValueError, match="trained with grow 'epoch=1 inflate=3'"):
        make_trainer(tmp_path, other).fit(data, resume=True)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


# ---- on a plateau --------------------------------------------------------------------------------


def test_a_plateau_is_a_loss_that_has_not_fallen_since_the_last_change(tmp_path):
    class Losses(Callback):
        """Validation losses as if they were these."""

        def epoch_end(self, fit, record):
            values = [3.0, 2.0, 2.0, 1.9999, 2.1, 1.0, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4]
            fit.history[-1]["val_loss"] = values[fit.progress.epochs_done - 1]

    config = replace(CONFIG, epochs=12, grow="plateau=2 inflate=+1 where=0 warm=0")
    trainer = make_trainer(tmp_path, config)
    losses = Losses()
    plain = trainer._assemble

    def first(*args):
        fit = plain(*args)
        fit.callbacks = (losses, *fit.callbacks)
        return fit

    trainer._assemble = first
    history = trainer.fit(make_data()).history
    grown = [record["epoch"] for record in history if record.get("growth")]
    assert grown == [4, 11]  # two epochs after 2, and after 9; after 4, 6 and 7 were better


@pytest.mark.parametrize("change", ["inflate=+1", "inflate=3", "inflate=9"])
def test_the_best_place_has_the_largest_gradient_for_a_new_entry(tmp_path, change):
    found = []
    (event,) = schedule(f"plateau=1 {change} where=best params=20000")

    class Look(Callback):
        def epoch_end(self, fit, record):
            if record["epoch"] != 1:
                return
            x = fit.train.cores, fit.train.targets
            count = len(x[1][0])
            assert count <= 256  # all samples are looked at
            scores = {}
            for path in candidates(fit.model, event):
                model = changed(fit.model, event, [path])[0]
                scores[path] = new_gradient(fit, model, *x)
            found.append((best_place(fit, event), scores))

    model = ftnn.Sequential(
        ftnn.Linear(DIMS, DIMS, bond_dim=2, max_bond=4, seed=0),
        ftnn.nonlinear.LayerNorm(DIMS, max_bond=4),
        ftnn.Linear(DIMS, DIMS, bond_dim=3, max_bond=4, seed=1),
        ftnn.Readout(DIMS, 3, bond_dim=3),
    )
    make_trainer(tmp_path, replace(CONFIG, epochs=2), model, callbacks=[Look()]).fit(make_data())
    ((best, scores),) = found
    assert best == max(scores, key=scores.get)
    assert scores.keys() == ({"0"} if change == "inflate=3" else {"0", "2", "3"})
    assert len(set(scores.values())) == len(scores)
    assert all(score > 0 for score in scores.values())


def test_a_larger_bond_is_given_to_the_layer_that_discards_most(tmp_path):
    model = ftnn.Sequential(
        ftnn.Linear(DIMS, DIMS, bond_dim=2, max_bond=7, seed=0),
        ftnn.Linear(DIMS, DIMS, bond_dim=3, max_bond=2, seed=1),
        ftnn.Linear(DIMS, DIMS, bond_dim=1, max_bond=3, seed=1),
        ftnn.Readout(DIMS, 3, bond_dim=3),
    )
    config = replace(CONFIG, lr=1e-6, grow="plateau=1 max_bond=+2 where=best")
    history = make_trainer(tmp_path, config, model).fit(make_data()).history
    (first,) = next(record["growth"] for record in history if record.get("growth"))
    assert first.startswith("max_bond=+2 in layer 1")
    before, after = history[0]["truncation_error"], history[-1]["truncation_error"]
    assert after["1"] < before["1"]


def test_the_gradient_of_new_entries_is_that_of_the_loss(tmp_path):
    """By finite differences: the loss falls by its square for a small step along it."""
    (event,) = schedule("plateau=1 inflate=+1 where=best")
    seen = []

    class Look(Callback):
        def fit_start(self, fit):
            x = fit.train.cores, fit.train.targets
            model = changed(fit.model, event, ["0"])[0]
            mean_square = new_gradient(fit, model, *x)
            old = fit.model.named_params()

            def loss(model):
                module = ftnn.training.TorchModule(model, "float64").eval()
                return fit.objective.measure(module.apply_cores(x[0]), x[1], 0.0)[0].mean()

            total, count = 0.0, 0
            for name, array in model.named_params().items():
                inside = np.zeros(tuple(array.shape), bool)
                inside[tuple(slice(n) for n in old[name].shape)] = True
                for place in np.argwhere(~inside):
                    values = []
                    for step in (1e-5, -1e-5):
                        with torch.no_grad():
                            model.named_params()[name][tuple(place)] += step
                            values.append(float(loss(model)))
                            model.named_params()[name][tuple(place)] -= step
                    total += ((values[0] - values[1]) / 2e-5) ** 2
                    count += 1
            seen.append((mean_square, total / count))

    config = replace(CONFIG, epochs=1, dtype="float64")
    make_trainer(tmp_path, config, callbacks=[Look()]).fit(make_data())
    assert seen[0][0] == pytest.approx(seen[0][1], rel=1e-5)
    assert seen[0][0] > 0


def test_growth_ends_at_the_parameters_that_are_allowed(tmp_path):
    config = replace(CONFIG, epochs=9, lr=1e-6, grow="plateau=1 inflate=+1 where=best params=400")
    result = make_trainer(tmp_path, config).fit(make_data())
    sizes = [record["params"] for record in result.history]
    assert sizes[0] < sizes[-1] <= 400
    assert sizes == sorted(sizes)
    trainer = make_trainer(
        tmp_path / "all", replace(config, grow="plateau=1 inflate=+1 params=400")
    )
    assert trainer.fit(make_data()).history[-1]["params"] <= 400


# ---- several processes, the compiler, the command line -------------------------------------------


@pytest.mark.filterwarnings("ignore")  # of torch's compiler about itself
def test_the_network_is_compiled_once_for_every_growth(tmp_path, monkeypatch):
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    config = replace(CONFIG, compile=True, grow="epoch=1 inflate=3; epoch=3 inflate=4")
    make_trainer(tmp_path, config).fit(make_data())
    assert counter.frame_count == 3


def test_tables_of_a_file_and_words_of_a_flag_are_one_schedule(tmp_path):
    from ftnn.experiments import get_experiment, run
    from ftnn.experiments.experiment import resolve
    from ftnn.experiments.folder import load_options

    digits = get_experiment("digits")
    path = tmp_path / "grow.toml"
    path.write_text('grow = [{epoch = 1, inflate = 6}, {plateau = 9, inflate = "+2", params = 9}]')
    options = resolve(digits.tuned_options(quick=True), path, {"epochs": 2, "limit": 60})
    assert options.train.grow == "epoch=1 inflate=6; plateau=9 inflate=+2 params=9"
    result = run(digits, options, tmp_path / "run", quiet=True)
    assert result.history[0]["growth"]
    assert result.history[1]["params"] > result.history[0]["params"]
    assert load_options(tmp_path / "run")[1] == options


def test_experiments_in_stages_take_no_schedule(tmp_path):
    from ftnn.experiments import get_experiment, run
    from ftnn.training.options import replace_values

    burgers = get_experiment("burgers")
    options = replace_values(burgers.tuned_options(quick=True), {"grow": "epoch=1 inflate=9"})
    if burgers.stages(options) is None:
        options = replace_values(options, {"sites": burgers.options.coarse + 1, "fine_epochs": 1})
    with pytest.raises(ValueError, match="grow is 'epoch=1 inflate=9', but burgers trains in"):
        run(burgers, options, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
