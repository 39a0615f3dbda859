"""Healing is least squares to what reaches a layer now; saved models are what they were."""

import copy
import json
import os
import signal
from itertools import chain, pairwise, repeat

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import kl_div

import ftnn
from ftnn.tensorized import Conv1d, Conv2d, Embedding, Linear, heal, load, save
from ftnn.tensorized.course import Course
from ftnn.tensorized.difference import check_difference, mean_difference, resolved
from ftnn.tensorized.refits import Refits

# ---- healing -------------------------------------------------------------------------------------


def two_layers(seed, bias=True, samples=400):
    """Two linear layers, the first of them also with a weight that went wrong, and inputs."""
    torch.manual_seed(seed)
    dense = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4, bias=bias)).double()
    x = torch.randn(samples, 6).double() + 0.5
    first = copy.deepcopy(dense[0])  # no tensorized layer: it stays as wrong as it is
    nn.init.orthogonal_(first.weight)  # what it makes is of ordinary condition
    return dense, first, x


@settings(max_examples=15)
@given(st.integers(0, 99), st.booleans(), st.sampled_from(["svd", "mpo", "tt", "tree"]))
def test_a_healed_layer_of_full_rank_is_the_linear_regression_on_what_reaches_it(
    seed, bias, format
):
    dense, first, x = two_layers(seed, bias)
    model = nn.Sequential(first, Linear.from_dense(dense[1], format))
    healed = heal(model, dense, [x[:150], x[150:]])
    with torch.no_grad():
        goal, inputs = dense(x), first(x)
        if bias:
            inputs = torch.cat([inputs, torch.ones(len(x), 1).double()], dim=1)
        best = inputs @ torch.linalg.lstsq(inputs, goal, driver="gelsd").solution
        least = float((best - goal).norm() / goal.norm())
        found = float((healed.model(x) - goal).norm() / goal.norm())
    assert healed.errors["1"] == pytest.approx(found, rel=1e-9)
    assert found <= healed.errors["start"]
    assert found <= least * 1.01 + 1e-6


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(30, 12)
        self.conv = nn.Conv1d(12, 16, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm1d(16)
        self.plane = nn.Conv2d(1, 3, 3, stride=2)
        self.twice = nn.Linear(16, 16)
        self.last = nn.Linear(16, 5)

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(self.table(x).transpose(1, 2))))
        z = self.plane(y[:, None]).flatten(1).mean(1, keepdim=True)
        return self.last(torch.tanh(self.twice(torch.tanh(self.twice(y.mean(-1)))))) + z


def mixed(seed=0):
    torch.manual_seed(seed)
    dense, batches = Mixed().eval(), list(torch.randint(0, 30, (4, 32, 9)))
    model = copy.deepcopy(dense)
    model.table = Embedding.from_dense(dense.table, ranks=4)
    model.conv = Conv1d.from_dense(dense.conv, ranks=3)
    model.plane = Conv2d.from_dense(dense.plane, "cp", ranks=1)
    model.twice = Linear.from_dense(dense.twice, "mpo", ranks=3)
    model.last = Linear.from_dense(dense.last, "svd", ranks=2)
    return dense, model, batches


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_healing_goes_along_the_calls_and_never_makes_it_worse():
    """On the way it may: of some fits outputs tell nothing until the last layer has answered."""
    dense, model, batches = mixed()
    model.train()
    before, teacher, told = state_of(model), state_of(dense), []
    healed = heal(model, dense, batches, progress=told.append)
    steps = ["start", "table", "conv", "plane", "twice", "last", "batch normalization"]
    assert list(healed.errors) == steps
    values = list(healed.errors.values())
    assert any(later > earlier for earlier, later in pairwise(values))
    assert values[-1] == min(values)
    assert values[-1] < 0.8 * values[0]
    assert len(told) == 6
    assert told[-2].startswith("last: outputs differ by ")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, teacher[name]) for name, value in dense.state_dict().items())
    assert all(module.training for module in healed.model.modules())
    with torch.no_grad():
        gaps = [(healed.model.eval()(x) - dense(x)).square().sum() for x in batches]
        sizes = [dense(x).square().sum() for x in batches]
    assert values[-1] == pytest.approx(float((sum(gaps) / sum(sizes)) ** 0.5), rel=1e-4)


def test_all_parameters_are_trained_to_the_outputs_or_a_loss():
    dense, model, batches = mixed()
    only = heal(model, dense, batches, layers=False, epochs=8, lr=3e-3)
    assert list(only.errors) == ["start", *(f"epoch {n}" for n in range(1, 9))]
    assert only.errors["epoch 8"] < 0.7 * only.errors["start"]
    seen = []

    def own(output, goal, batch):
        seen.append(batch)
        return (output - 1).square().mean()

    ones = heal(model, dense, batches, layers=False, epochs=20, lr=1e-2, loss=own)
    assert len(seen) == 20 * len(batches)
    with torch.no_grad():
        assert float((ones.model.eval()(batches[0]) - 1).square().mean()) < 0.5


def test_logits_are_healed_as_probabilities():
    dense, model, batches = mixed()
    pairs = [(x, dense(x).argmax(1)) for x in batches]
    healed = heal(model, dense, pairs, epochs=1)
    with torch.no_grad():
        found, goal = healed.model.eval()(batches[0]), dense(batches[0])
        parts = [(healed.model(x), dense(x)) for x in batches]
        mean = sum(
            float(kl_div(f.log_softmax(1), g.log_softmax(1), log_target=True, reduction="sum"))
            for f, g in parts
        ) / sum(len(g) for _, g in parts)
    assert found.shape == goal.shape
    assert healed.errors["epoch 1"] == pytest.approx(mean, rel=1e-3)


def test_batch_normalizations_take_what_reaches_them_now():
    """Of a layer that is only scaled, the normalization makes up for all."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dense = nn.Sequential(nn.Linear(8, 12, bias=False), nn.BatchNorm1d(12), nn.Linear(12, 3))
    draw = torch.Generator().manual_seed(0)
    batches = [torch.randn(50, 8, generator=draw) for _ in range(3)]
    for x in batches * 20:  # running means of these batches
        dense.train()(x)
    model = copy.deepcopy(dense).eval()
    model[2] = Linear.from_dense(dense[2], "svd")
    with torch.no_grad():
        model[0].weight *= 3.0
    healed = heal(model, dense, batches)
    assert healed.errors["start"] > 0.5
    assert healed.errors["batch normalization"] < 0.1
    assert not healed.model[1].training
    assert healed.model[1].momentum == dense[1].momentum
    single = [x[:1] for x in batches]  # has no variance: nothing is taken
    kept = heal(model, dense, single)
    assert torch.equal(kept.model[1].running_var, model[1].running_var)
    assert kept.errors["batch normalization"] == kept.errors["2"]


def test_a_fit_that_does_not_help_leaves_everything(monkeypatch):
    dense, model, batches = mixed()
    errors = chain([1.0], repeat(2.0))
    monkeypatch.setattr("ftnn.tensorized.judge.Judge.error", lambda *_: next(errors))
    healed = heal(model, dense, batches)
    assert set(healed.errors.values()) == {1.0}
    state = state_of(model)
    assert all(torch.equal(value, state[name]) for name, value in healed.model.state_dict().items())


class Branch(nn.Module):
    """Small inputs take one layer more."""

    def __init__(self):
        super().__init__()
        self.first, self.more = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        y = torch.tanh(self.first(x))
        return self.more(y) if x.abs().max() < 1 else y


def test_not_every_batch_need_reach_every_layer():
    torch.manual_seed(0)
    dense, model = Branch(), Branch()
    model.load_state_dict(dense.state_dict())
    model.first = Linear.from_dense(dense.first, "svd", ranks=2)
    model.more = Linear.from_dense(dense.more, "svd", ranks=2)
    batches = [torch.rand(50, 8) / 2, 5 * torch.randn(50, 8)]
    healed = heal(model, dense, batches)
    assert list(healed.errors) == ["start", "first", "more"]
    assert healed.errors["more"] < healed.errors["start"]


class Dropping(nn.Module):
    """Draws at random, keeps running means, and has no parameter of a single dtype."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(12, 16), nn.BatchNorm1d(16)
        self.drop, self.last = nn.Dropout(0.3), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


def dropping():
    torch.manual_seed(1)
    dense = Dropping().eval()
    model = copy.deepcopy(dense)
    model.first = Linear.from_dense(dense.first, "mpo", ranks=2)
    model.last = Linear.from_dense(dense.last, "svd", ranks=2)
    return model, dense, [{"x": x} for x in torch.randn(5, 20, 12)]


def test_a_healing_goes_on_where_it_was_killed_or_stopped(tmp_path, monkeypatch):
    """After any layer or step, in the same place, to the same bits."""
    model, dense, batches = dropping()
    options = {"epochs": 3, "seed": 5}
    torch.manual_seed(7)
    whole = heal(model, dense, batches, **options)
    drawn = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(drawn, torch.rand(1))  # the generator of others is left alone
    assert whole.outcome == "completed"
    steps = ["first", "last", "batch normalization", "epoch 1", "epoch 2", "epoch 3"]
    assert list(whole.errors) == ["start", *steps]
    places = {"_step": (Course, "_step"), "layer": (Refits, "step")}
    for name, call in (("layer", 1), ("layer", 2), ("_step", 1), ("_step", 8), ("_step", 15)):
        for how in ("kill", "stop"):
            folder, (owner, method), calls = tmp_path / f"{name}-{call}-{how}", places[name], []
            plain = getattr(owner, method)

            def strike(*args, call=call, how=how, calls=calls, plain=plain):
                calls.append(None)
                if len(calls) == call and how == "kill":
                    raise OSError("killed")
                if len(calls) == call:
                    os.kill(os.getpid(), signal.SIGTERM)
                return plain(*args)

            with monkeypatch.context() as patch:
                patch.setattr(owner, method, strike)
                if how == "kill":
                    with pytest.raises(OSError, match="killed"):
                        heal(model, dense, batches, **options, run_dir=folder)
                elif (name, call) == ("_step", 15):  # nothing is left to do
                    found = heal(model, dense, batches, **options, run_dir=folder)
                    assert found.outcome == "completed"
                else:
                    found = heal(model, dense, batches, **options, run_dir=folder)
                    assert (found.outcome, found.signal) == ("stopped", signal.SIGTERM)
                    assert found.errors.keys() < whole.errors.keys()
            torch.manual_seed(3)
            again = heal(model, dense, batches, **options, run_dir=folder, resume=True)
            assert again.errors == whole.errors
            assert again.outcome == "completed"
            state = again.model.state_dict()
            for key, value in whole.model.state_dict().items():
                assert torch.equal(value, state[key]), (name, call, how, key)
            lines = (folder / "metrics.jsonl").read_text().splitlines()
            assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]


def test_a_folder_of_another_healing_is_refused(tmp_path):
    model, dense, batches = dropping()
    heal(model, dense, batches, epochs=1, run_dir=tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = dropping()[0]
    other.first = Linear.from_dense(dense.first, "mpo", ranks=3)
    cases = [
        ((model, batches), {"epochs": 1}, "holds an earlier healing; go on with it"),
        ((model, batches), {"epochs": 2, "resume": True}, "epochs 1 .now 2.; resume with the same"),
        ((model, batches), {"epochs": 1, "lr": 0.1, "resume": True}, "lr 0.001 .now 0.1."),
        ((model, batches[1:]), {"epochs": 1, "resume": True}, "healed on other batches"),
        ((other, batches), {"epochs": 1, "resume": True}, "it is of another model"),
    ]
    for (tried, own), options, words in cases:
        with pytest.raises(ValueError, match=words):
            heal(tried, dense, own, run_dir=tmp_path, **options)
    with pytest.raises(ValueError, match="there is no run_dir to resume from"):
        heal(model, dense, batches, resume=True)
    with pytest.raises(ValueError, match="nothing to resume"):
        heal(model, dense, batches, run_dir=tmp_path / "none", resume=True)
    assert not (tmp_path / "none").exists()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    (path,) = tmp_path.glob("checkpoint-*")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="checkpoint"):
        heal(model, dense, batches, epochs=1, run_dir=tmp_path, resume=True)


def test_short_floats_are_kept_in_checkpoints(tmp_path):
    model, dense, batches = dropping()
    model, dense = model.bfloat16(), dense.bfloat16()
    short = [{"x": batch["x"].bfloat16()} for batch in batches]
    whole = heal(model, dense, short, layers=False, epochs=2)
    heal(model, dense, short, layers=False, epochs=2, run_dir=tmp_path)
    again = heal(model, dense, short, layers=False, epochs=2, run_dir=tmp_path, resume=True)
    assert again.errors == whole.errors
    state = again.model.state_dict()
    assert all(torch.equal(x, state[key]) for key, x in whole.model.state_dict().items())


def test_progress_is_shown_as_in_training(capsys):
    model, dense, batches = dropping()
    heal(model, dense, batches, epochs=2, show=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("first: outputs differ by ")
    (head,) = (line for line in lines if "epoch" in line and "diff" in line.split())
    assert head.split()[:3] == ["epoch", "loss", "diff"]
    rows = [line.split() for line in lines if line.split()[0] in ("1", "2")]
    assert len(rows) == 2
    heal(model, dense, batches, epochs=1)
    assert capsys.readouterr().out == ""


def test_the_order_of_batches_is_drawn_from_the_seed():
    model, dense, batches = dropping()
    orders = []
    for seed in (0, 0, 1):
        seen = []

        def own(output, goal, batch, seen=seen):
            seen.append(next(n for n, one in enumerate(batches) if one is batch))
            return (output - goal).square().mean()

        heal(model, dense, batches, layers=False, epochs=2, loss=own, seed=seed)
        assert sorted(seen[:5]) == sorted(seen[5:]) == [0, 1, 2, 3, 4]
        assert seen[:5] != seen[5:]
        orders.append(seen)
    assert orders[0] == orders[1] != orders[2]


def test_what_cannot_be_healed_is_told():
    dense, model, batches = mixed()
    with pytest.raises(ValueError, match="there are no batches"):
        heal(model, dense, [])
    with pytest.raises(ValueError, match="no tensorized layer to heal"):
        heal(dense, dense, batches)
    with pytest.raises(ValueError, match="epochs is -1 and lr"):
        heal(model, dense, batches, epochs=-1)
    with pytest.raises(ValueError, match="the loss is nan; choose a lower lr"):
        heal(
            model, dense, batches, layers=False, epochs=1, loss=lambda y, g, b: y.mean() * torch.nan
        )
    other = copy.deepcopy(dense)
    other.twice = nn.Identity()
    with pytest.raises(ValueError, match="no layer 'twice' to heal by"):
        heal(model, other, batches)


# ---- files ---------------------------------------------------------------------------------------


def test_a_saved_model_is_what_it_was(tmp_path):
    _, model, batches = mixed()
    save(model, tmp_path / "model.safetensors")
    torch.manual_seed(5)
    found = load(Mixed().eval(), tmp_path / "model.safetensors")
    assert all(
        torch.equal(value, state_of(model)[name]) for name, value in found.state_dict().items()
    )
    assert torch.equal(found(batches[0]), model(batches[0]))
    assert repr(found) == repr(model)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.body = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.same = self.body
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x):
        return self.head(torch.relu(self.same(self.body(self.table(x)))))


def test_what_is_shared_is_saved_once_and_stays_shared(tmp_path):
    torch.manual_seed(0)
    dense, x = Tied(), torch.randint(0, 20, (50,))
    model = ftnn.tensorize(dense, [x], ratio=1.05).model
    assert model.same is model.body
    save(model, tmp_path / "model.safetensors")
    found = load(Tied(), tmp_path / "model.safetensors")
    assert found.same is found.body
    assert found.head.weight is found.table.weight
    torch.testing.assert_close(found(x), model(x), rtol=0, atol=0)
    half = load(Tied().bfloat16(), tmp_path / "model.safetensors")
    assert half.body.cores[0].dtype == torch.bfloat16
    save(half, tmp_path / "half.safetensors")
    again = load(Tied().bfloat16(), tmp_path / "half.safetensors")
    assert all(torch.equal(v, state_of(half)[n]) for n, v in again.state_dict().items())


def test_files_of_other_models_are_refused(tmp_path):
    dense, model, _ = mixed()
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="has no tensorized layer"):
        save(dense, path)
    assert not path.exists()
    save(model, path)
    with pytest.raises(ValueError, match="has a layer 'table'"):
        load(nn.Sequential(nn.Linear(3, 3)), path)
    other = Mixed()
    other.twice = nn.Linear(20, 16)
    with pytest.raises(ValueError, match="has a layer 'twice' in format 'mpo', which"):
        load(other, path)
    other = Mixed()
    other.more = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"lacks 'more\.weight'"):
        load(other, path)
    with torch.no_grad():
        model.last.cores[0][0] = torch.nan
    save(model, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"'last\.cores\.0' that are not finite"):
        load(Mixed(), tmp_path / "nan.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load(Mixed(), path)
    ftnn.save(ftnn.Readout((2, 2), 3, bond_dim=2), tmp_path / "states.safetensors")
    with pytest.raises(ValueError, match=r"was not written by ftnn\.tensorized\.save"):
        load(Mixed(), tmp_path / "states.safetensors")
    with pytest.raises(FileNotFoundError):
        load(Mixed(), tmp_path / "none.safetensors")


# ---- differences ---------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(0, 999), st.integers(2, 9))
def test_differences_are_those_of_all_samples_however_they_are_batched(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    output, goal = (5 * torch.randn(12, classes, generator=generator).double() for _ in range(2))
    parts = [(0, 5), (5, 6), (6, 12)]
    outputs, goals = ([x[a:b] for a, b in parts] for x in (output, goal))
    expected = {
        "l2": float((output - goal).square().sum() / goal.square().sum()),
        "kl": float(
            kl_div(
                output.log_softmax(1), goal.log_softmax(1), log_target=True, reduction="batchmean"
            )
        ),
    }
    for name, value in expected.items():
        assert mean_difference(name, outputs, goals) == pytest.approx(value, rel=1e-9)
        assert mean_difference(name, goals, goals) == pytest.approx(0.0, abs=1e-12)
    shifted = [x + 3.0 for x in outputs]
    assert mean_difference("kl", shifted, goals) == pytest.approx(expected["kl"], rel=1e-9)
    own = mean_difference(lambda y, g: (y - g).abs().mean(), outputs, goals)
    assert own == pytest.approx(float((output - goal).abs().mean()), rel=1e-9)


def test_logits_are_seen_by_their_labels():
    x, y = torch.randn(4, 3), torch.randn(4, 7)
    labels = torch.zeros(4, dtype=torch.int64)
    assert resolved("auto", (x, labels), y, y) == "kl"
    assert resolved("auto", [x, labels], y, y) == "kl"
    assert resolved("auto", {"input": x, "labels": labels}, y, y) == "kl"
    assert resolved("auto", x, type("Output", (), {"logits": y})(), y) == "kl"
    for batch in (x, (x,), (x, torch.randn(4, 7)), (x, labels[:3]), (x, "labels"), {"x": x}):
        assert resolved("auto", batch, y, y) == "l2"
    assert resolved("l2", (x, labels), y, y) == "l2"
    with pytest.raises(ValueError, match="difference is 'mse'"):
        check_difference("mse")


def test_what_cannot_be_healed_is_told_and_what_is_blank_is_healed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dense = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 10))
    x = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
    found = ftnn.tensorize(dense, [x], params=0.5)
    with pytest.raises(ValueError, match="batch 1: the dense model's outputs are not numbers"):
        heal(found, dense, [x, x * float("nan")])
    with pytest.raises(ValueError, match="layer '2': inputs have values that are not finite"):
        heal(found, dense, [x], forward=lambda m, x: m(x * float("nan")).nan_to_num())
    with pytest.raises(ValueError, match="the batches have no samples"):
        heal(found, dense, [x[:0]])
    for other in (
        nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10)),
        nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Bilinear(24, 24, 10)),
        nn.Linear(16, 10),
    ):
        with pytest.raises(ValueError, match="no linear layers '0', '2' with 24 neurons"):
            heal(found, other, [x], forward=lambda model, batch: dense(batch))
    for batches in ([torch.zeros(20, 16)], [torch.ones(20, 16)], [x, x[:0]]):
        errors = heal(found, dense, batches).errors
        assert min(errors.values()) <= errors["start"]
