"""Experiment on quantum dynamics: states, Hamiltonians, doubling of time, complex training."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import ftnn
from ftnn.chains.distance import infidelities
from ftnn.cli.main import app
from ftnn.experiments import get_experiment, run
from ftnn.experiments.quantum_dynamics.conclusion import (
    local_expectations,
    to_quimb,
    trotter_infidelity,
)
from ftnn.experiments.quantum_dynamics.hamiltonians import FIELDS, VARIATION, X, Y, Z, hamiltonian
from ftnn.experiments.quantum_dynamics.model import build, carry, fit, squared
from ftnn.experiments.quantum_dynamics.options import DynamicsOptions, stages
from ftnn.experiments.quantum_dynamics.states import arrays_of, evolved, initial_state, pairs
from ftnn.training import StateRegression, TorchModule, TrainConfig, Trainer, TrainingData
from ftnn.training.callbacks import Callback
from ftnn.training.options import replace_values
from ftnn.training.update import Updater
from ftnn.training.world import World

QUICK = ("quantum-dynamics", "--sites", 5, "--time", 0.3, "--samples", 16, "--depth", 4)
QUICK += ("--doublings", 2, "--epochs", 2, "--batch-size", 8, "--max-bond", 4, "--quiet")


@pytest.fixture(autouse=True)
def few_states(monkeypatch):
    """Few states to validate and to test with, so that no pool of processes is worth it."""
    from ftnn.experiments.quantum_dynamics import conclusion, data

    monkeypatch.setattr(data, "VALIDATION", 4)
    monkeypatch.setattr(data, "TEST", 8)
    monkeypatch.setattr(conclusion, "ENTANGLED", 4)


def site_operator(sites, operators):
    """Dense product of single-site operators, given by site."""
    out = np.eye(1)
    for k in range(sites):
        out = np.kron(out, operators.get(k, np.eye(2)))
    return out


def random_complex(rng, shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def dense_hamiltonian(name, sites):
    """The sums in the docstring of ftnn/experiments/quantum_dynamics/hamiltonians.py."""
    total = np.zeros((2**sites, 2**sites), complex)
    for k in range(sites):
        if name == "imaginary":
            total += 0.8 * site_operator(sites, {k: Y})
            if k + 1 < sites:
                total += site_operator(sites, {k: Y, k + 1: Z})
                total += 0.5 * site_operator(sites, {k: X, k + 1: Y})
        elif k + 1 < sites:
            total += site_operator(sites, {k: Z, k + 1: Z})
    return total


def dense_states(cores):
    return ftnn.MPS([core.astype(complex) for core in cores]).to_dense()


def propagator(matrix, time):
    energies, vectors = np.linalg.eigh(matrix)
    return (vectors * np.exp(-1j * time * energies)) @ vectors.conj().T


def given_hamiltonian(name, sites):
    """What quimb was given, dense; for "ising" its fields are checked against their range."""
    local = hamiltonian(name, sites)
    total = np.zeros((2**sites, 2**sites), complex)
    for k in range(sites - 1):
        gate = local.get_gate((k, k + 1))
        total += np.kron(np.kron(np.eye(2**k), gate), np.eye(2 ** (sites - k - 2)))
    return total


@pytest.mark.parametrize("name", ["ising", "imaginary"])
def test_hamiltonians_are_the_documented_sums(name):
    sites = 4
    found, expected = given_hamiltonian(name, sites), dense_hamiltonian(name, sites)
    if name == "imaginary":
        assert not found.real.any()
    else:  # the fields are random: read them off, and compare with their range
        for operator, mean in zip((X, Z), FIELDS, strict=True):
            for k in range(sites):
                single = site_operator(sites, {k: operator})
                field = float(np.trace(single @ found).real) / 2**sites
                assert abs(field / mean - 1.0) <= VARIATION
                expected += field * single
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("name", ["ising", "imaginary"])
@pytest.mark.parametrize("kind", ["product", "random", "evolved"])
def test_evolved_states_against_dense_propagators(name, kind, tmp_path):
    sites, time = 6, 0.8
    states = pairs(name, kind, sites, time, 3, "test", tmp_path)
    exact = given_hamiltonian(name, sites)
    start = dense_states(states[0])
    np.testing.assert_allclose(np.linalg.norm(start, axis=1), 1.0, atol=1e-6)
    assert states[0][2].dtype == ("float32" if name == "imaginary" else "complex64")
    for n, cores in zip(range(5, -1, -1), states[1:], strict=True):
        expected = start @ propagator(exact, time / 2**n).T
        # as vectors, not up to a phase: that is learned, too
        error = np.linalg.norm(dense_states(cores) - expected, axis=1)
        assert error.max() < 2e-3
    again = pairs(name, kind, sites, time, 3, "test", tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(states[-1], again[-1], strict=True))
    other = pairs(name, kind, sites, time, 3, "val", tmp_path)
    assert infidelities(states[0], other[0]).min() > 0.01


def test_random_product_states_measure_the_distance_of_operators():
    """The mean of |W x - U x|^2 is that of the entries of W - U, see data.py."""
    rng = np.random.default_rng(0)
    difference = rng.standard_normal((8, 8)) + 1j * rng.standard_normal((8, 8))
    for real in (False, True):
        states = [initial_state("product", 3, rng, real) for _ in range(1500)]
        x = np.array([state.to_dense()[:, 0] for state in states])
        squares = np.linalg.norm(x @ difference.T, axis=1) ** 2
        mean = np.linalg.norm(difference) ** 2 / 8
        assert abs(squares.mean() - mean) < 5 * squares.std() / np.sqrt(len(x))


@pytest.mark.parametrize("bond", [1, 2, 3])
def test_squared_operators_are_products(bond):
    operator = ftnn.MPO.random((2, 2, 2, 2), (2, 2, 2, 2), bond, seed=1)
    weight = tuple(core + 0.3j * core[::-1] for core in operator.cores)
    dense = ftnn.MPO(weight).to_dense()
    exact = dense @ dense
    np.testing.assert_allclose(ftnn.MPO(squared(weight, 16)).to_dense(), exact, atol=1e-10)
    cut = ftnn.MPO(squared(weight, bond)).to_dense()
    tail = 0.0
    for k in range(1, 4):  # truncation is at most the sum of what every cut loses
        rows = exact.reshape(2**k, 2 ** (4 - k), 2**k, 2 ** (4 - k)).transpose(0, 2, 1, 3)
        tail += (np.linalg.svd(rows.reshape(4**k, -1))[1][bond:] ** 2).sum()
    assert np.linalg.norm(cut - exact) ** 2 <= tail * (1 + 1e-9) + 1e-18


def options(**changes):
    tuned = get_experiment("quantum-dynamics").tuned_options()
    return replace_values(tuned, {"sites": 4, "time": 0.4, "samples": 4, "doublings": 0} | changes)


def test_twice_the_layers_are_twice_the_time(tmp_path):
    small = options(halvings=1, depth=4, max_bond=16, data=str(tmp_path))
    large = options(depth=4, max_bond=16, data=str(tmp_path))
    load = get_experiment("quantum-dynamics").load
    x = ftnn.MPS(load(large).test_inputs)
    first, second = (build(one, load(one))[1] for one in (small, large))
    assert (len(first.layers), len(second.layers)) == (2, 4)
    doubled = carry(first, second).to("numpy", "complex64")
    first = first.to("numpy", "complex64")
    np.testing.assert_allclose(doubled(x).to_dense(), first(first(x)).to_dense(), atol=1e-4)
    one = options(halvings=2, depth=4, bond_dim=4, max_bond=16, data=str(tmp_path))
    built = [build(one, load(one))[1] for _ in range(2)]
    weights = built[0].layers[0].operators()["weight"]
    assert len(built[0].layers) == 1
    carried = carry(built[0], built[1])  # squared, and compressed by nothing, or hardly anything
    dense = ftnn.MPO(weights).to_dense()
    found = ftnn.MPO(carried.layers[0].operators()["weight"]).to_dense()
    assert np.linalg.norm(found - dense @ dense) < 0.1 * np.linalg.norm(dense)


def test_carrying_refuses_what_does_not_fit(tmp_path):
    large = options(depth=8, data=str(tmp_path))
    data = get_experiment("quantum-dynamics").load(large)
    built = build(large, data)[1]
    with pytest.raises(ValueError, match="it has 2 layers, expected 8 or 4"):
        carry(ftnn.Sequential(*built.layers[:2]), built)
    with pytest.raises(ValueError, match="other layers than Linear without bias"):
        carry(ftnn.Sequential(ftnn.nonlinear.RMSNorm()), built)


def test_stages_double_the_time():
    parts = stages(options(doublings=3, halvings=0, depth=8))
    assert [part.halvings for part in parts] == [2, 1, 0]
    assert [part.layers for part in parts] == [2, 4, 8]
    assert [part.layers for part in stages(options(halvings=1, depth=8))] == [2, 4]
    assert stages(options(depth=2)) is stages(options(depth=1)) is None
    assert stages(options(depth=8, start="of half the time")) is None


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize("name", ["ising", "imaginary"])
def test_layers_start_fitted(name, depth, tmp_path):
    """Repeated operators of a fraction of the time, against dense propagators."""
    chosen = options(
        hamiltonian=name,
        depth=depth,
        bond_dim=8,
        samples=32,
        doublings=4,
        data=str(tmp_path),
        dtype="float32" if name == "imaginary" else "complex64",
    )
    data, lines = get_experiment("quantum-dynamics").load(chosen), []
    model = fit(chosen, data, build(chosen, data)[1], lines.append)
    assert len(lines) == 5 - max(0, depth.bit_length() - 1)
    assert len(model.layers) == depth
    exact = propagator(given_hamiltonian(name, 4), 0.4 / depth)
    for layer in model.layers:
        found = ftnn.MPO(layer.operators()["weight"]).to_dense()
        assert np.linalg.norm(found - exact) < 2e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depth": 3}, "depth is 3, expected a power of two, as stages double it; try 2 or 4"),
        ({"depth": 64}, "depth is 64, expected an integer"),
        ({"doublings": 6}, "doublings is 6, expected an integer"),
        ({"time": 0.0}, "time is 0.0, expected a number > 0"),
    ],
)
def test_wrong_options(changes, words):
    with pytest.raises(ValueError, match=words):
        replace_values(DynamicsOptions(), {"doublings": 0} | changes)


def test_complex_evolution_needs_a_complex_network(tmp_path):
    command = ("train", *QUICK, "--dtype", "float32", "--data", tmp_path, "--out", tmp_path / "run")
    refused = CliRunner().invoke(app, [*map(str, command)])
    assert refused.exit_code == 2
    assert "dtype is float32, but evolution by the Ising chain is complex" in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["ising", "imaginary"])
def test_training_in_stages_learns_and_resumes(name, tmp_path, monkeypatch):
    own = ("--hamiltonian", name, "--data", tmp_path / "cache")
    own += ("--dtype", "float32") if name == "imaginary" else ()
    command = ("train", *QUICK, *own, "--out", tmp_path / "whole")
    done = CliRunner().invoke(app, [*map(str, command)])
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["infidelity"].keys() == {"product", "random", "evolved", "unchanged", "trotter"}
    assert (tmp_path / "whole" / "dynamics.png").is_file()
    model = ftnn.load(tmp_path / "whole" / "model.safetensors")
    weight = model.layers[0].params["weight.1"]
    assert weight.dtype == ("float32" if name == "imaginary" else "complex64")
    if name == "ising":
        assert np.abs(weight.imag).max() > 1e-3
    stopped, measure = tmp_path / "stopped", StateRegression.measure

    def strike(*arguments):  # in the first of two stages
        if (stopped / "stage-1" / "checkpoint.json").is_file():
            raise KeyboardInterrupt
        return measure(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(StateRegression, "measure", strike)
        cut = CliRunner().invoke(app, [*map(str, ("train", *QUICK, *own, "--out", stopped))])
    assert cut.exit_code == 130
    assert not (stopped / "checkpoint.json").exists()
    again = CliRunner().invoke(app, ["train", "--resume", str(stopped), "--quiet"])
    assert again.exit_code == 0, again.output
    other = json.loads((stopped / "summary.json").read_text())
    assert other["infidelity"] == summary["infidelity"]


@pytest.mark.parametrize(("factor", "lr"), [(0.01, 1.0), (1.0, 1e-5), (0.0, 1e-4)])
def test_the_learning_rate_follows_the_error_of_the_start(factor, lr, tmp_path):
    chosen = {"schedule": "constant", "warmup": 0.0, "error_lr": factor, "lr": lr}
    chosen = options(doublings=2, epochs=1, data=str(tmp_path / "cache"), **chosen)
    rates = []

    class Record(Callback):
        def step_measured(self, fit, stats):
            rates.append((stats.step, stats.lr))

    run("quantum-dynamics", chosen, tmp_path / "run", quiet=True, callbacks=[Record()])
    expected = []
    for place, stage in zip(("stage-1", "."), stages(chosen), strict=True):
        start = ftnn.load(tmp_path / "run" / place / "start.safetensors")
        data = get_experiment("quantum-dynamics").load(stage)
        exact, found = dense_states(data.val_targets), dense_states(start.apply(data.val_inputs))
        error = np.linalg.norm(found - exact) / np.sqrt(len(exact))  # targets have norm 1
        assert error > 2e-3
        expected.append(min(lr, factor * error or lr))
    assert [step for step, _ in rates] == [1, 1]
    np.testing.assert_allclose([rate for _, rate in rates], expected, rtol=1e-3)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_complex_parameter_is_two_real_ones(optimizer):
    """Updates are those of torch's plain optimizer, which takes complex parameters."""
    config = TrainConfig(
        epochs=3,
        lr=0.05,
        dtype="complex128",
        optimizer=optimizer,
        weight_decay=0.1,
        schedule="constant",
        warmup=0.0,
        clip_norm=0.5,
    )
    rng = np.random.default_rng(0)
    dims = (2, 2, 2)
    x, t = (
        tuple(
            torch.from_numpy(
                rng.standard_normal((4, *shape)) + 1j * rng.standard_normal((4, *shape))
            )
            for shape in ((1, 2, 2), (2, 2, 2), (2, 2, 1))
        )
        for _ in range(2)
    )
    modules = [
        TorchModule(ftnn.Linear(dims, dims, 2, 4, bias=False, seed=3), "complex128")
        for _ in range(2)
    ]
    objective = StateRegression()
    updater = Updater(modules[0], config, 3, World(), objective)
    plain = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    more = {"momentum": 0.9} if optimizer == "sgd" else {}
    params = list(modules[1].parameters())
    reference = plain[optimizer](params, 0.05, weight_decay=0.1, foreach=False, **more)
    for _ in range(3):
        assert updater.step(x, t, 4).read().finite
        reference.zero_grad()
        objective.measure(modules[1].apply_cores(x), t)[0].mean().backward()
        torch.nn.utils.clip_grad_norm_(params, 0.5)
        reference.step()
    for one, other in zip(modules[0].parameters(), params, strict=True):
        assert one.is_complex()
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("wrong", ["train_inputs", "train_targets"])
def test_complex_states_are_refused_by_a_real_training(wrong):
    rng, dims = np.random.default_rng(0), (2, 2)
    vectors = rng.standard_normal((4, 4)), random_complex(rng, (4, 4))
    real, other = (ftnn.MPS.from_dense(x, dims) for x in vectors)
    inputs, targets = (other, real) if wrong == "train_inputs" else (real, other)
    data = TrainingData(inputs.cores, targets.cores)
    model = ftnn.Linear(dims, dims, 2, 2, bias=False)
    trainer = Trainer(model, None, TrainConfig(epochs=1), None, True, StateRegression())
    with pytest.raises(ValueError, match=f"{wrong} are complex, but dtype is float32; train with"):
        trainer.fit(data)


def test_complex_updates_that_are_not_finite_are_skipped():
    config = TrainConfig(epochs=2, lr=0.05, dtype="complex64", optimizer="adam")
    dims = (2, 2)
    module = TorchModule(ftnn.Linear(dims, dims, 2, 4, bias=False), "complex64")
    before = [p.detach().clone() for p in module.parameters()]
    updater = Updater(module, config, 2, World(), StateRegression())
    x = (torch.full((1, 1, 2, 1), torch.nan, dtype=torch.complex64),) * 2
    assert not updater.step(x, x, 1).read().finite
    for old, new in zip(before, module.parameters(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_infidelities_against_dense_ones(dtype):
    rng = np.random.default_rng(1)
    x, t = (
        ftnn.MPS.from_dense(
            (rng.standard_normal((5, 8)) + 1j * rng.standard_normal((5, 8))), (2,) * 3
        )
        for _ in range(2)
    )
    if dtype == "float64":
        x, t = (ftnn.MPS([core.real.copy() for core in y.cores]) for y in (x, t))
    a, b = x.to_dense(), t.to_dense()
    cosines = np.abs((a.conj() * b).sum(1)) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    scaled = tuple(1e60 * core for core in x.cores)
    np.testing.assert_allclose(infidelities(scaled, t.cores), 1 - cosines**2, atol=1e-12)
    np.testing.assert_allclose(infidelities(x.cores, x.cores), 0.0, atol=1e-12)
    zero = tuple(0.0 * core for core in x.cores)
    np.testing.assert_allclose(infidelities(zero, t.cores), 1.0)


def test_local_expectations_and_trotter_against_dense_ones(tmp_path):
    sites, steps = 5, 3
    chosen = options(sites=sites, time=0.9, data=str(tmp_path))
    data = get_experiment("quantum-dynamics").load(chosen)
    vector = dense_states(data.test_targets)[0]
    expected = [(vector.conj() @ site_operator(sites, {k: Z}) @ vector).real for k in range(sites)]
    np.testing.assert_allclose(local_expectations(data.test_targets, Z), expected, atol=1e-5)
    again = tuple(core[None] for core in arrays_of(to_quimb(data.test_targets, 0)))
    assert infidelities(again, tuple(c[:1].astype(complex) for c in data.test_targets))[0] < 1e-10

    def half(first, share):
        local, total = hamiltonian("ising", sites), np.eye(2**sites)
        for k in range(first, sites - 1, 2):
            gate = local.get_gate((k, k + 1))
            whole = np.kron(np.kron(np.eye(2**k), gate), np.eye(2 ** (sites - k - 2)))
            total = propagator(whole, share * 0.9 / steps) @ total
        return total

    step = half(0, 0.5) @ half(1, 1.0) @ half(0, 0.5)
    start, end = dense_states(data.test_inputs)[:8], dense_states(data.test_targets)[:8]
    found = start @ np.linalg.matrix_power(step, steps).T
    expected = 1 - np.abs((found.conj() * end).sum(1)) ** 2
    assert trotter_infidelity(chosen, data, steps) == pytest.approx(expected.mean(), rel=0.02)


def test_evolution_by_halves_of_the_step_changes_nothing():
    """On a chain that no dense vector holds; the study measures it at full length."""
    rng = np.random.default_rng(0)
    state, by = initial_state("product", 20, rng), hamiltonian("ising", 20)
    plain = evolved(state, by, [1.0])[0]
    finer = evolved(state, by, [1.0], step=0.1, cutoff=1e-11)[0]
    assert 1.0 - abs(plain.H @ finer) ** 2 < 1e-4
