"""Searches: networks within a budget, by validation data alone, that go on where they ended."""

import json
import os
import signal
from dataclasses import dataclass, replace

import numpy as np
import pytest
from typer.testing import CliRunner

import ftnn
from ftnn.cli.main import app
from ftnn.experiments import Data, Experiment, ExperimentOptions, get_experiment, option
from ftnn.experiments.search import RESULTS, Range, Row, Search, best_first, ranges
from ftnn.training.options import replace_values

pytest.importorskip("torch")
optuna = pytest.importorskip("optuna")

from ftnn.training import TrainConfig, Trainer  # noqa: E402
from ftnn.training.score import ACCURACY, ERROR  # noqa: E402

DIMS = (3, 3, 3)


@dataclass(frozen=True)
class Options(ExperimentOptions):
    """Two sizes, one of them without effect beside the other."""

    depth: int = option(1, "Layers.", least=0)
    bond_dim: int = option(4, "Bonds of layers.", least=1)
    readout_bond: int = option(3, "Bond of the readout.", least=1)

    def idle(self):
        """Return what has no effect."""
        return {"bond_dim": "at depth 0"} if self.depth == 0 else {}


class Unread:
    """A test set that must not be read."""

    def __len__(self):
        return 3

    def __getattr__(self, name):
        raise AssertionError("the test set was read")


def load(options):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    vectors = rng.standard_normal((60, 27)) + 1.5 * (2 * labels[:, None] - 1)
    cores = ftnn.MPS.from_dense(vectors, DIMS).cores
    parts = [(tuple(c[rows] for c in cores), labels[rows]) for rows in (slice(40), slice(40, 60))]
    return Data(*parts[0], *parts[1], Unread(), Unread(), ("a", "b"))


def build(options, data):
    seed = options.train.seed
    layers = [ftnn.Linear(DIMS, DIMS, options.bond_dim, 4, seed=seed) for _ in range(options.depth)]
    return None, ftnn.Sequential(*layers, ftnn.Readout(DIMS, 2, options.readout_bond, seed))


TINY = Experiment("tiny", "A tiny one.", Options, load, build)
OPTIONS = Options(train=TrainConfig(epochs=4, batch_size=20, lr=0.02))
VARIED = {"depth": Range(0, 2), "bond_dim": Range(1, 6), "readout_bond": Range(1, 6)}


def quiet(_):
    pass


def test_a_search_keeps_its_budget_and_draws_no_network_twice(tmp_path):
    told = []
    search = Search(TINY, OPTIONS, VARIED, tmp_path, params=400)
    rows = search.run(6, tell=told.append)
    assert len(rows) == len(told) == 6
    assert len({tuple(sorted(row.values.items())) for row in rows}) == 6
    for row in rows:
        model = build(replace_values(OPTIONS, row.values), None)[1]
        assert row.params == model.num_params() <= 400
        assert ("bond_dim" in row.values) == (row.values["depth"] > 0)
        assert row.pruned or row.epochs == 4
    content = json.loads((tmp_path / RESULTS).read_text())
    assert [row["score"] for row in content["rows"]] == [row.score for row in rows]
    assert (tmp_path / "pareto.png").stat().st_size > 10_000
    ended = [row for row in rows if not row.pruned]
    for row in ended:
        beaten = any(o.params <= row.params and o.score > row.score for o in ended)
        equal = any(
            o.score == row.score and (o.params, o.number) < (row.params, row.number) for o in ended
        )
        assert row.front == (not beaten and not equal)


def test_the_command_of_a_trial_gives_its_score(tmp_path):
    search = Search(TINY, OPTIONS, VARIED, tmp_path)
    row = best_first(search.run(2, tell=quiet), ACCURACY)[0]
    options = replace_values(OPTIONS, row.values)
    data = load(options)
    trainer = Trainer(build(options, data)[1], None, options.train, None, quiet=True)
    assert trainer.fit(data).val_score == row.score
    words = search.command(row).split()
    assert words[:3] == ["ftnn", "train", "tiny"]
    given = dict(zip(words[3::2], words[4::2], strict=True))
    assert given.pop("--epochs") == "4"
    for name, value in row.values.items():
        default = getattr(Options(), name)
        assert int(given.get(f"--{name.replace('_', '-')}", default)) == value


def test_a_search_goes_on_where_it_ended_or_was_killed(tmp_path, monkeypatch):
    first = Search(TINY, OPTIONS, VARIED, tmp_path).run(2, tell=quiet)
    assert Search(TINY, OPTIONS, VARIED, tmp_path).run(2, tell=quiet) == first

    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "fit", killed)
        with pytest.raises(Killed):
            Search(TINY, OPTIONS, VARIED, tmp_path).run(3, tell=quiet)
    search = Search(TINY, OPTIONS, VARIED, tmp_path)
    (waiting,) = search.study.get_trials(states=(optuna.trial.TrialState.WAITING,))
    rows = search.run(4, tell=quiet)
    assert [row.score for row in rows[:2]] == [row.score for row in first]
    assert len(rows) == 4
    again = waiting.system_attrs["fixed_params"]
    assert rows[2].values == search._effective(again)


def test_a_signal_puts_the_trial_back(tmp_path, monkeypatch):
    plain = Trainer.fit

    def struck(trainer, *args, **kwargs):
        class Strike(ftnn.training.Callback):
            def step_end(self, fit, step):
                if step == 3:
                    os.kill(os.getpid(), signal.SIGINT)

        trainer.callbacks = (*trainer.callbacks, Strike())
        return plain(trainer, *args, **kwargs)

    monkeypatch.setattr(Trainer, "fit", struck)
    search = Search(TINY, OPTIONS, VARIED, tmp_path)
    assert search.run(3, tell=quiet) == []
    assert search.stopped
    monkeypatch.undo()
    again = Search(TINY, OPTIONS, VARIED, tmp_path)
    assert len(again.run(1, tell=quiet)) == 1
    states = [trial.state.name for trial in again.study.trials]
    assert states == ["FAIL", "COMPLETE"]
    assert again.study.trials[0].params == again.study.trials[1].params


def test_what_is_worse_than_others_is_pruned_and_what_diverges_is_told(tmp_path, monkeypatch):
    config = replace(OPTIONS.train, epochs=8)
    scores = iter([0.9, 0.9, 0.9, 0.9, 0.1])
    current = []

    def scripted(fit, samples, plain=None):
        if fit.progress.epochs_done == 0:
            current[:] = [next(scores)]
        return ftnn.training.Evaluation(1.0, current[0], np.ones(1), None, 1.0)

    monkeypatch.setattr("ftnn.training.fit.Fit.evaluate", scripted)
    search = Search(TINY, replace(OPTIONS, train=config), VARIED, tmp_path)
    rows = search.run(5, tell=quiet)
    assert [row.pruned for row in rows] == [False] * 4 + [True]
    assert rows[4].epochs < 8
    assert not rows[4].front
    monkeypatch.undo()
    wild = replace(OPTIONS, train=replace(OPTIONS.train, lr=1e30, batch_size=10))
    told = []
    (row,) = Search(TINY, wild, VARIED, tmp_path / "wild" if _made(tmp_path) else "").run(
        1, tell=told.append
    )
    assert (row.score, row.pruned) == (None, True)
    assert "diverged" in told[0]
    assert best_first([row, rows[0]], ACCURACY)[0] == rows[0]


def _made(path):
    (path / "wild").mkdir()
    return True


def test_time_that_is_over_ends_a_search(tmp_path):
    told = []
    assert Search(TINY, OPTIONS, VARIED, tmp_path).run(3, 0.0, told.append) == []
    assert told == ["0 minutes are over"]
    rows = Search(TINY, OPTIONS, VARIED, tmp_path).run(500, 0.01, quiet)
    assert 0 < len(rows) < 500


def test_a_search_of_something_else_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("ftnn.experiments.search.TRIES", 3)
    Search(TINY, OPTIONS, VARIED, tmp_path, params=200)
    for changes, message in (
        ({"params": 300}, "has a search with params 200 .now 300."),
        ({"varied": {"depth": Range(0, 1)}}, "has a search with varied"),
        ({"options": Options()}, "has a search with options"),
        ({"experiment": replace(TINY, name="other")}, "has a search with experiment 'tiny'"),
    ):
        given = {"experiment": TINY, "options": OPTIONS, "varied": VARIED, "params": 200}
        with pytest.raises(ValueError, match=message):
            Search(folder=tmp_path, **given | changes)
    told = []
    assert Search(TINY, OPTIONS, VARIED, tmp_path / "", params=200).run(0) == []
    (tmp_path / "small").mkdir()
    small = Search(TINY, OPTIONS, VARIED, tmp_path / "small", params=3)
    assert small.run(1, tell=told.append) == []
    assert told == ["no other network of at most 3 parameters in 3 draws"]
    (tmp_path / "one").mkdir()
    rows = Search(TINY, OPTIONS, {"depth": Range(1, 1)}, tmp_path / "one").run(2, tell=told.append)
    assert len(rows) == 1
    assert told[-1] == "no other network in 3 draws"


def test_ranges_are_those_given_or_around_the_tuned_ones():
    assert ranges(TINY, OPTIONS) == {
        "depth": Range(0, 3),
        "bond_dim": Range(2, 8),
        "readout_bond": Range(1, 6),
    }
    assert "bond_dim" not in ranges(TINY, replace(OPTIONS, depth=0))
    assert ranges(TINY, OPTIONS, {"epochs": "2..4"}) == {"epochs": Range(2, 4)}
    for given, message in (
        ({"lr": "1..2"}, "--vary has 'lr', expected an integer option: depth, bond_dim"),
        ({"depth": "3"}, "--vary depth: range is '3', expected LOW..HIGH"),
        ({"depth": "3..2"}, "range is '3..2'"),
        ({"bond_dim": "0..2"}, "bond_dim is 0, expected an integer >= 1"),
    ):
        with pytest.raises(ValueError, match=message):
            ranges(TINY, OPTIONS, given)
    bare = Experiment("bare", "Nothing to vary.", ExperimentOptions, load, build)
    with pytest.raises(ValueError, match="bare has none of the options depth"):
        ranges(bare, ExperimentOptions())


def test_low_scores_come_first_where_they_are_better():
    rows = [Row(n, {}, 9, score, 1.0, 3, False) for n, score in enumerate((0.3, None, 0.1))]
    assert [row.number for row in best_first(rows, ERROR)] == [2, 0, 1]
    assert [row.number for row in best_first(rows, ACCURACY)] == [0, 2, 1]


def test_experiments_in_stages_are_refused(tmp_path):
    burgers = get_experiment("burgers")
    options = replace_values(burgers.tuned_options(quick=True), {"sites": 20, "fine_epochs": 1})
    with pytest.raises(ValueError, match="burgers trains in stages with these options"):
        Search(burgers, options, {"depth": Range(1, 2)}, tmp_path)


def test_the_command(tmp_path):
    def invoke(*words):
        return CliRunner().invoke(app, ["search", "digits", "--quick", *map(str, words)])

    few = ("--set", "limit=60", "--set", "epochs=1", "--set", "depth=1", "--out", tmp_path / "run")
    vary = ("--vary", "readout-bond=2..3", "--vary", "phys=2..3")
    done = invoke(*few, *vary, "--trials", 2, "--params", 4000)
    assert done.exit_code == 0, done.output
    assert "2/2" in done.output
    assert "best: ftnn train digits --limit 60 --epochs 1" in done.output
    for words, message in (
        ((*few, *vary, "--params", 5000), "has a search with params 4000"),
        (("--set", "limit"), "--set is 'limit', expected NAME=VALUE"),
        (("--set", "limits=3"), "--set has 'limits', expected one of"),
        (("--set", "limit=x"), "limit is 'x', expected an integer"),
        (("--vary", "phys=3"), "range is '3', expected LOW..HIGH"),
    ):
        found = invoke(*words)
        assert found.exit_code == 2
        assert message in found.stderr
        assert found.stderr.count("\n") == 1
