"""The shipped experiments: their data against other sources, and each from end to end."""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from typer.testing import CliRunner

import ftnn
from ftnn.cli import app
from ftnn.encoding.functions import from_function
from ftnn.experiments import get_experiment
from ftnn.experiments.burgers import solution
from ftnn.experiments.burgers.data import gaussian
from ftnn.experiments.burgers.solution import burgers
from ftnn.experiments.options import LayerOptions
from ftnn.experiments.quantics.data import VISCOSITY, Waves, heat, random_waves
from ftnn.experiments.quantics.model import start_near_identity
from ftnn.experiments.quantum_phases import data as phases_module
from ftnn.experiments.quantum_phases.data import boundary, counted, grid_points, phases
from ftnn.experiments.quantum_phases.dressing import DRESSING, dress
from ftnn.experiments.quantum_phases.ground_states import (
    cluster_ising,
    common_bonds,
    ground_states,
    string_order,
)
from ftnn.experiments.registry import SHIPPED
from ftnn.experiments.splits import Data
from ftnn.interpret import truncation_errors
from ftnn.layers.surgery import prolong
from ftnn.nonlinear import BlockMap, FeatureMap, ProductMap
from ftnn.training.options import flat, replace_values

torch = pytest.importorskip("torch")
from ftnn.training import StateRegression, TorchModule, trainer  # noqa: E402
from ftnn.training.score import ACCURACY, ERROR  # noqa: E402

X, Z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])


def good(*args):
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def operator(sites, at):
    """Dense product of operators on some sites, {site: matrix}."""
    full = np.eye(1)
    for k in range(sites):
        full = np.kron(full, at.get(k, np.eye(2)))
    return full


# ---- configurations -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_tuned_values_are_files(name):
    experiment = get_experiment(name)
    values = tomllib.loads(experiment.tuned.read_text())
    quick = values.pop("quick")
    whole, trial = (flat(experiment.tuned_options(quick=q)) for q in (False, True))
    assert whole == flat(experiment.options()) | values
    assert trial == whole | quick
    experiment.check(experiment.tuned_options())
    experiment.check(experiment.tuned_options(quick=True))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("digits", {"sites": 4}, "unknown key 'sites'"),
        ("fashion-mnist", {"depth": 0, "max_bond": 5}, "does not use it at depth 0"),
        ("fashion-mnist", {"depth": 0, "nonlinearity": "none"}, "nonlinearity is 'none'"),
        ("fashion-mnist", {"products": 0, "gates": 3}, "does not use it at products 0"),
        ("images", {"products": 0, "channels": 3}, "channels is 3"),
        ("images", {"products": 0, "merge": True}, "merge is True"),
        ("fashion-mnist", {"products": 1, "merge": True, "hidden": 3}, "use it with merge"),
        ("quantum-phases", {"depth": 0, "phys": 3}, "phys is 3"),
        ("digits", {"depth": 0, "bond_dim": 3}, "bond_dim is 3"),
        ("fashion-mnist-quantics", {"depth": 0, "phys": 3}, "phys is 3"),
        ("burgers", {"sites": 6, "fine_lr": 0.3}, "fine_lr is 0.3"),
    ],
)
def test_options_without_use_are_refused(name, change, words):
    experiment = get_experiment(name)
    with pytest.raises(ValueError, match=words):
        experiment.check(replace_values(experiment.tuned_options(), change))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("quantics", {"sites": 9, "limit": 40}),
        ("quantics", {"sites": 12, "limit": 40, "bond_dim": 1}),
        ("fashion-mnist-quantics", {"phys": 2, "bond_dim": 2}),
        ("images", {"phys": 3, "bond_dim": 2, "depth": 2}),
        ("quantum-phases", {"sites": 9, "phys": 2, "depth": 2}),
    ],
)
def test_without_a_limit_bonds_are_those_of_the_products(name, change):
    """Nothing is truncated, and nothing is as large as the limit."""
    experiment = get_experiment(name)
    rng = np.random.default_rng(0)
    options = replace_values(experiment.tuned_options(), change | {"max_bond": 10**9})
    if name in ("images", "fashion-mnist-quantics"):
        images, labels = rng.random((20, 28, 28)), np.arange(20) % 10
        data = Data(images, labels, images, labels, images, labels, tuple("0123456789"))
    elif name == "quantum-phases":
        states = ftnn.MPS.from_dense(rng.standard_normal((20, 2**9)), (2,) * 9, max_bond=3).cores
        data = Data(states, np.arange(20) % 2, *2 * (states, np.arange(20) % 2))
    else:
        data = experiment.load(options)
    encoder, model = experiment.build(options, data)
    inputs = data.test_inputs if encoder is None else encoder.encode(data.test_inputs)
    errors = truncation_errors(model, inputs)
    linear = [layer for layer in model.layers if isinstance(layer, ftnn.Linear)]
    assert len(linear) == getattr(options, "network", LayerOptions(depth=1)).depth
    assert all(error.max() < 1e-6 for error in errors.values())
    assert all(len(layer.buffers["omega.0"]) <= layer.max_bond <= 100 for layer in linear)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("merge", [False, True])
def test_products_reach_the_neighbours_in_the_image(count, merge):
    """A pixel changes the states of its patch and of those as many steps away, and no others."""
    experiment, rng = get_experiment("images"), np.random.default_rng(0)
    change = {"products": count, "channels": 4, "gates": 2, "depth": 0, "features": 3}
    options = replace_values(experiment.tuned_options(), change | {"merge": merge})
    images, labels = rng.random((20, 16, 24)), np.arange(20) % 10
    data = Data(images, labels, images, labels, images, labels, tuple("0123456789"))
    experiment.check(options)
    encoder, model = experiment.build(options, data)
    first = [ProductMap, BlockMap] if merge else [FeatureMap]
    front = ftnn.Sequential(*model.layers[: len(first) + count])
    assert [type(layer) for layer in front.layers] == first + [ProductMap] * count
    assert model.apply(encoder.encode(images)).shape == (20, 10)
    moved = images.copy()
    moved[:, 4, 21] += 1.0  # patch (1, 5) of 4 x 6; of those half as wide (2, 10) of 8 x 12
    before, after = (np.stack(front.apply(encoder.encode(x))) for x in (images, moved))
    origins = [(2, 10), (1, 10), (3, 10), (2, 9), (2, 11)] if merge else [(2, 10)]
    steps = [
        abs(np.arange(4) - row // 2)[:, None] + abs(np.arange(6) - column // 2)
        for row, column in origins
    ]
    changed = (before != after).reshape(24, -1).any(axis=1)
    np.testing.assert_array_equal(changed, (np.min(steps, axis=0) <= count).ravel())


@pytest.mark.parametrize("merge", [False, True])
def test_without_products_nothing_is_merged(merge):
    """`--products 0` alone builds the network of features, whether merge is left on or not."""
    experiment, images = get_experiment("fashion-mnist"), np.zeros((20, 28, 28))
    images[:, 7, 9] = np.arange(20)
    change = {"products": 0, "depth": 2, "merge": merge}
    options = replace_values(experiment.tuned_options(), change)
    experiment.check(options)
    data = Data(images, np.arange(20) % 10, *2 * (images, np.arange(20) % 10), ())
    encoder, model = experiment.build(options, data)
    assert encoder.phys_dims == (17,) * 49
    assert model.num_params() == 85_427


def test_patches_that_cannot_be_halved_are_named():
    experiment, images = get_experiment("images"), np.zeros((20, 15, 15))
    options = replace_values(experiment.tuned_options(), {"patch": 5, "products": 1, "merge": True})
    labels = np.arange(20) % 10
    data = Data(images, labels, images, labels, images, labels, tuple("0123456789"))
    with pytest.raises(ValueError, match="patch is 5, but merge needs an even one"):
        experiment.build(options, data)


@pytest.mark.parametrize("name", ["digits", "quantics", "burgers"])
def test_options_of_the_training_are_shown_where_they_are_used(name):
    experiment = get_experiment(name)
    options = replace_values(experiment.tuned_options(quick=True), {"limit": 40})
    data = experiment.load(options)
    module = TorchModule(experiment.build(options, data)[1])
    shown = good("train", name, "--help")
    assert ("--linear-lr" in shown) == bool(module.names_of(ftnn.Linear))
    assert ("--label-smoothing" in shown) == (data.score == ACCURACY)


# ---- ground states ------------------------------------------------------------------------------


def dense_hamiltonian(sites, h1, h2):
    total = np.zeros((2**sites, 2**sites))
    for k in range(sites):
        cluster = {k - 1: Z, k: X, k + 1: Z}  # what reaches beyond an end is left out
        total -= operator(sites, cluster) + h1 * operator(sites, {k: X})
        if k + 1 < sites:
            total -= h2 * operator(sites, {k: X, k + 1: X})
    return total


@pytest.mark.parametrize(("h1", "h2"), [(0.3, 0.2), (1.2, -0.4), (0.5, -1.4)])
def test_ground_states_against_exact_ones(h1, h2, tmp_path):
    sites = 9
    exact = dense_hamiltonian(sites, h1, h2)
    np.testing.assert_allclose(cluster_ising(sites, h1, h2).to_dense(), exact, atol=1e-12)
    energies, vectors = np.linalg.eigh(exact)
    assert energies[1] - energies[0] > 0.1  # no free spins at the ends
    cores, found = ground_states("one", sites, [(h1, h2)], 16, tmp_path, show=False)
    assert found[0] == pytest.approx(energies[0], abs=1e-6)
    overlap = ftnn.MPS(cores).to_dense()[0] @ vectors[:, 0]
    assert abs(overlap) == pytest.approx(1.0, abs=1e-5)
    assert [core.shape[1] for core in cores] == common_bonds(sites, 16)[:-1]
    first, last = 1, 7
    string = {first: Z, last: Z} | {k: X for k in range(first + 1, last, 2)}
    expected = vectors[:, 0] @ operator(sites, string) @ vectors[:, 0]
    assert string_order(cores, first, last)[0] == pytest.approx(expected, abs=1e-4)


def test_ground_states_are_kept(tmp_path, monkeypatch):
    from ftnn.experiments import cache
    from ftnn.experiments.quantum_phases import ground_states as module

    points = [(0.1 * k, 0.0) for k in range(3)]
    monkeypatch.setattr(cache, "PIECE", 2)
    made, _ = ground_states("few", 7, points, 4, tmp_path, show=False)
    paths = sorted(tmp_path.iterdir())
    assert [path.name[-15:] for path in paths] == ["000.safetensors", "001.safetensors"]
    monkeypatch.setattr(module, "ground_state", lambda *_: pytest.fail("made again"))
    again, _ = ground_states("few", 7, points, 4, tmp_path, show=False)
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))
    with pytest.raises(ValueError, match=r"000.safetensors: holds the ground states of other"):
        ground_states("few", 7, [(0.5, 0.0), *points[1:]], 4, tmp_path, show=False)
    whole = paths[1].read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 16
    paths[1].write_bytes(flipped)
    with pytest.raises(ValueError, match=r"001.safetensors: damaged; remove it"):
        ground_states("few", 7, points, 4, tmp_path, show=False)
    paths[1].write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"001.safetensors: damaged"):
        ground_states("few", 7, points, 4, tmp_path, show=False)


def test_ground_states_that_cannot_be_kept_are_used(tmp_path, monkeypatch):
    from ftnn.experiments import cache

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "PIECE", 1)
    points = [(0.1, 0.0), (0.2, 0.0)]
    kept, _ = ground_states("full", 5, points, 4, tmp_path / "kept", show=False)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.warns(UserWarning, match="not kept for the next time.* no space") as caught:
            cores, _ = ground_states("full", 5, points, 4, tmp_path / "none", show=False)
    assert len(caught) == 1
    assert not list((tmp_path / "none").iterdir())
    assert all(np.array_equal(a, b) for a, b in zip(cores, kept, strict=True))
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "inside"):
        with pytest.raises(ValueError, match=r"cannot be created .*; choose another"):
            ground_states("full", 5, points, 4, folder, show=False)


def slow_sample(path, job):
    (path / str(os.getpid())).touch()
    time.sleep(60.0)
    return {"x": np.array(job)}


def test_workers_end_with_a_killed_parent(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from functools import partial
from pathlib import Path
from ftnn.experiments import cache
from test_experiments import slow_sample
if __name__ == "__main__":
    cache._JOBS_WORTH_A_PROCESS = 1
    kept = cache.Cache(Path({str(tmp_path / "kept")!r}), "slow", "slow", show=False)
    kept.arrays(partial(slow_sample, Path({str(tmp_path)!r})), [(float(n),) for n in range(4)])
"""
    script = tmp_path / "main.py"
    script.write_text(code)
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a pool needs two cores")

    def workers():
        return [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]

    with subprocess.Popen([sys.executable, script]) as parent:
        assert happens(lambda: len(workers()) == 2)
        parent.kill()
    assert happens(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers()))


def happens(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def test_an_interrupted_generation_goes_on(tmp_path, monkeypatch):
    from ftnn.experiments import cache
    from ftnn.experiments.quantum_phases import ground_states as module

    points, plain = [(0.1 * k, 0.0) for k in range(4)], module.ground_state

    def interrupted(sites, h1, h2):
        if h1 > 0.25:
            raise KeyboardInterrupt
        return plain(sites, h1, h2)

    monkeypatch.setattr(cache, "PIECE", 2)
    monkeypatch.setattr(module, "ground_state", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ground_states("cut", 5, points, 4, tmp_path, show=False)
    assert len(list(tmp_path.iterdir())) == 1
    seen = []
    monkeypatch.setattr(module, "ground_state", lambda *a: seen.append(a[1]) or plain(*a))
    cores, _ = ground_states("cut", 5, points, 4, tmp_path, show=False)
    assert seen == [points[2][0], points[3][0]]
    assert len(cores[0]) == 4


def test_wrong_strings_and_chains():
    cores = tuple(np.ones((1, 1, 2, 1)) for _ in range(5))
    for first, last in ((0, 3), (3, 1), (0, 6)):
        with pytest.raises(ValueError, match="an even distance apart"):
            string_order(cores, first, last)
    with pytest.raises(ValueError, match="needs at least 3"):
        cluster_ising(2, 0.0, 0.0)


# ---- phases -------------------------------------------------------------------------------------


def test_boundaries():
    lower, upper = boundary(np.array(phases_module.BOUNDARY_H1))
    np.testing.assert_allclose(lower, phases_module.BOUNDARY_LOWER)
    np.testing.assert_allclose(upper, phases_module.BOUNDARY_UPPER)
    h1 = np.linspace(0, 1.6, 50)
    assert np.interp(0.0, -boundary(h1)[1], h1) == pytest.approx(1.0, abs=0.01)  # exact: h1 = J
    points = np.array([[0.5667, 0.3631 + d] for d in (-0.2, -0.04, 0.04, 0.2)])
    assert phases(points).tolist() == [1, 1, 0, 0]
    assert counted(points).tolist() == [True, False, False, True]
    line = phases(np.array(phases_module.line_points()))
    assert line.tolist() == [1] * 25 + [0] * 15
    assert len(grid_points(5)) == 25


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_dressing_is_what_it_says(backend):
    sites, batch = 5, 4
    rng = np.random.default_rng(0)
    x = ftnn.MPS.from_dense(rng.standard_normal((batch, 2**sites)), (2,) * sites)
    cores = tuple(ftnn.arrays.backend.convert(core, backend) for core in x.cores)
    found = ftnn.MPS(dress(cores, np.random.default_rng(1))).to_dense()
    drawn = np.random.default_rng(1)
    tau = drawn.normal(0.0, DRESSING, (2, batch))
    flipped = drawn.random((2, batch)) < 0.5
    assert 0 < flipped.sum() < 2 * batch
    for n in range(batch):
        generator = sum(tau[k % 2, n] * operator(sites, {k: X}) for k in range(sites))
        signs = operator(sites, {k: Z for k in range(sites) if flipped[k % 2, n]})
        expected = signs @ scipy.linalg.expm(generator) @ x.to_dense()[n]
        np.testing.assert_allclose(np.asarray(found[n]), expected, atol=1e-12)


def test_dressing_keeps_the_symmetry():
    """Dressings commute with both spin flips, up to a sign: symmetric operators stay symmetric."""
    sites = 4
    basis = ftnn.MPS.from_dense(np.eye(2**sites), (2,) * sites)
    signs = set()
    for seed in range(8):
        columns = [
            ftnn.MPS(
                dress(tuple(c[n : n + 1] for c in basis.cores), np.random.default_rng(seed))
            ).to_dense()[0]
            for n in range(2**sites)
        ]
        dressing = np.stack(columns, axis=1)
        assert np.abs(np.linalg.det(dressing)) > 1e-6
        for start in (0, 1):
            flip = operator(sites, {k: X for k in range(start, sites, 2)})
            one, other = dressing @ flip, flip @ dressing
            sign = np.sign(np.sum(one * other))
            np.testing.assert_allclose(one, sign * other, atol=1e-12)
            signs.add(sign)
    assert 1.0 in signs


# ---- equations ----------------------------------------------------------------------------------


def test_heat_against_a_solver():
    start, points = random_waves(3, 5, seed=0), 64
    x = np.arange(points) / points
    k = np.fft.fftfreq(points, 1 / points)

    def slope(_, flat):
        u = flat.reshape(3, points)
        return (0.01 * np.fft.ifft(-((2 * np.pi * k) ** 2) * np.fft.fft(u)).real).ravel()

    solved = scipy.integrate.solve_ivp(
        slope, (0, 0.1), start(x).ravel(), method="DOP853", rtol=1e-9, atol=1e-11
    )
    np.testing.assert_allclose(heat(start, 0.1)(x).ravel(), solved.y[:, -1], atol=1e-7)


def test_burgers_against_a_solver():
    start, points, time = random_waves(3, 4, seed=1), 256, 0.05
    x = np.arange(points) / points
    k = np.fft.rfftfreq(points, 1 / points)

    def slope(_, flat):
        u = flat.reshape(3, points)
        modes = np.fft.rfft(u)
        ux = np.fft.irfft(2j * np.pi * k * modes, points)
        uxx = np.fft.irfft(-((2 * np.pi * k) ** 2) * modes, points)
        return (VISCOSITY * uxx - u * ux).ravel()

    solved = scipy.integrate.solve_ivp(
        slope, (0, time), start(x).ravel(), method="DOP853", rtol=1e-9, atol=1e-11
    )
    found = burgers(start, time, VISCOSITY)(x).ravel()
    np.testing.assert_allclose(found, solved.y[:, -1], atol=1e-6)
    assert np.abs(found - start(x).ravel()).max() > 0.1


def test_burgers_by_averages_is_burgers_by_transforms(monkeypatch):
    """Where both are accurate; where only averages are, twice the points change nothing."""
    x = np.arange(1000) / 1000
    start = gaussian(4, seed=3)
    by_transforms = burgers(start, 1.0, 0.02)(x)
    monkeypatch.setattr(solution, "EXPONENT", 0.0)
    np.testing.assert_allclose(burgers(start, 1.0, 0.02)(x), by_transforms, atol=1e-12)
    sharp = burgers(gaussian(4, 5, centered=True), 1.0, 1e-3)
    monkeypatch.setattr(solution, "_POINTS", 4096)
    monkeypatch.setattr(solution, "_CENTERS", 256)
    finer = burgers(gaussian(4, 5, centered=True), 1.0, 1e-3)
    np.testing.assert_allclose(sharp(x), finer(x), atol=1e-12)
    assert np.abs(np.gradient(sharp(x), x, axis=1)).max() > 20.0  # there are shocks


def test_gaussian_functions_have_their_covariance():
    """That of 625 (25 - Laplace)^-2: 25 / (4 pi^2 k^2 + 25) for every normalized mode."""
    c = gaussian(20_000, seed=0).coefficients
    k = np.arange(4)
    expected = (25 / (4 * np.pi**2 * k**2 + 25)) ** 2 * np.array([1, 2, 2, 2])
    np.testing.assert_allclose((c[:, :4].real ** 2).mean(axis=0), expected, rtol=0.05)
    np.testing.assert_allclose((c[:, 1:4].imag ** 2).mean(axis=0), expected[1:], rtol=0.05)
    assert not gaussian(5, seed=0, centered=True).coefficients[:, 0].any()
    values = gaussian(3, seed=1)
    np.testing.assert_allclose(values.on_grid(1024), values(np.arange(1024) / 1024), atol=1e-12)


def test_a_prolonged_model_acts_alike_on_a_finer_grid(tmp_path):
    """Exactly so where the model commutes with shifts; here the identity and its square."""
    waves = random_waves(4, 3, seed=2)
    coarse, fine = (from_function(waves, sites, rtol=1e-10) for sites in (8, 11))
    dims = (2,) * 8
    gated = ftnn.nonlinear.Gated(dims, dims, 1, 40, seed=1)
    start_near_identity(gated, 0, noise=0.0)
    linear = ftnn.Linear(dims, dims, 2, 40, seed=3)
    start_near_identity(linear, 0, noise=0.0)
    linear.params |= {f"bias.{k}": np.ones((1, 1, 2, 1)) for k in range(8)}
    model = ftnn.Sequential(gated, linear)
    x = coarse.to_dense()
    np.testing.assert_allclose(model(coarse).to_dense(), (1 + 0.1 * x) * x + 1, atol=1e-8)
    y = fine.to_dense()
    longer = prolong(model, 11)
    np.testing.assert_allclose(longer(fine).to_dense(), (1 + 0.1 * y) * y + 1, atol=1e-8)
    ftnn.save(longer, tmp_path / "longer.safetensors")
    again = ftnn.load(tmp_path / "longer.safetensors")
    np.testing.assert_array_equal(again(fine).to_dense(), longer(fine).to_dense())
    each = ftnn.Linear(dims, dims, 2, [2, 4, 8, 8, 6, 4, 3], bias=False)
    (finer,) = prolong(ftnn.Sequential(each), 11).layers
    assert finer.max_bond == (2, 4, 8, 8, 6, 4, 3, 3, 3, 3)
    with pytest.raises(ValueError, match="sites is 7, but the model has 8"):
        prolong(model, 7)
    with pytest.raises(TypeError, match="has a RMSNorm"):
        prolong(ftnn.Sequential(ftnn.nonlinear.RMSNorm()), 9)


def test_waves():
    waves = Waves(np.array([[1.0, 0.5j]]))
    x = np.array([0.0, 0.25, 0.75])
    np.testing.assert_allclose(waves(x), [1.0 - 0.5 * np.sin(2 * np.pi * x)], atol=1e-12)
    first, second = (random_waves(3, 2, seed=5).coefficients for _ in range(2))
    np.testing.assert_array_equal(first, second)


# ---- from end to end ----------------------------------------------------------------------------

TINY = {
    "quantum-phases": ("--sites", 9, "--grid", 4, "--epochs", 2, "--max-bond", 4),
    "quantics": ("--sites", 9, "--limit", 40, "--epochs", 2),
    "burgers": ("--sites", 6, "--limit", 40, "--epochs", 1, "--depth", 1, "--channels", 2),
}


@pytest.mark.parametrize("name", TINY)
def test_end_to_end(name, tmp_path):
    data = ("--data", tmp_path / "states") if name == "quantum-phases" else ()
    folder = tmp_path / "run"
    printed = good("train", name, "--quick", "--out", folder, *TINY[name], *data)
    summary = json.loads((folder / "summary.json").read_text())
    score = ACCURACY if name == "quantum-phases" else ERROR
    assert f"test {score.name}" in printed
    assert format(summary[f"test_{score.name}"], score.spec) in printed
    for backend in ("numpy", "torch"):
        printed = good("evaluate", folder, "--backend", backend)
        value = float(printed.split(score.name)[1].split(",")[0].strip().rstrip("%"))
        value /= 100 if score.higher_is_better else 1
        assert value == pytest.approx(summary[f"test_{score.name}"], rel=1e-2, abs=1e-4)
    assert "parameters" in good("inspect", folder)
    drawn = good("plot", folder)
    picture = {"quantum-phases": "phases.png"}.get(name, "solutions.png")
    assert (folder / picture).stat().st_size > 10_000
    assert "curves.png" in drawn
    again = good("train", "--resume", folder, "--quiet")
    assert format(summary[f"test_{score.name}"], score.spec) in again


def read(folder):
    return json.loads((folder / "summary.json").read_text())


STILL = ("--epochs", 1, "--lr", 1e-12, "--quiet")


def test_a_run_starts_with_the_weights_of_another(tmp_path):
    """With no learning rate to speak of it ends as it starts: where the other one ended."""
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--quick", "--epochs", 2, "--ema-decay", 0.0)
    good("train", "digits", *options, "--out", first, "--quiet")
    good("train", "digits", *options, *STILL, "--start", first, "--out", second)
    assert read(second)["test_accuracy"] == read(first)["test_accuracy"]
    assert read(second)["test_loss"] == pytest.approx(read(first)["test_loss"], rel=1e-5)
    for start, words in (
        ((first, "--max-bond", 2), "whose network does not fit: array"),
        ((first, "--depth", 3), "whose network does not fit: it has no array"),
        ((tmp_path / "none",), "but there is no model"),
        ((tmp_path,), "but there is no model"),
        ((first / "config.json",), "config.json is not a readable safetensors file"),
    ):
        third = tmp_path / "third"
        command = map(str, ("train", "digits", *options, "--out", third, "--start", *start))
        result = CliRunner().invoke(app, list(command))
        assert result.exit_code == 2
        assert words in result.stderr.splitlines()[-1]
        assert not third.exists()


@pytest.mark.parametrize("name", ["quantics", "burgers"])
def test_a_run_starts_with_weights_from_a_coarser_grid(name, tmp_path):
    """Identities on the new sites leave the error what it was, but for what the grid resolves."""
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--quick", "--limit", 40)
    small = {"quantics": (), "burgers": ("--channels", 2, "--depth", 1, "--max-bond", 8)}[name]
    options, (coarse, fine) = (*options, *small), {"quantics": (9, 12), "burgers": (6, 8)}[name]
    good("train", name, *options, "--sites", coarse, "--epochs", 2, "--out", first, "--quiet")
    good("train", name, *options, *STILL, "--sites", fine, "--start", first, "--out", second)
    assert read(second)["test_error"] == pytest.approx(read(first)["test_error"], rel=0.02)
    first.rename(tmp_path / "elsewhere")  # a run has all that it needs to go on
    again = good("train", "--resume", second, "--quiet")
    (tmp_path / "elsewhere").rename(first)
    assert format(read(second)["test_error"], ERROR.spec) in again
    other = {"quantics": "its layers are", "burgers": "array '0.layer.0.weight.0' has shape"}[name]
    for start, words in (
        (("--start", first, "--bond-dim", 3), other),
        (
            ("--start", second, "--sites", coarse),
            f"its grid has 2^{fine} points, and training begins on 2^{coarse}",
        ),
    ):
        command = ("train", name, *options, "--out", tmp_path / "third", *start)
        result = CliRunner().invoke(app, list(map(str, command)))
        assert result.exit_code == 2
        assert words in result.stderr.splitlines()[-1]


STAGED = ("burgers", "--quick", "--limit", 40, "--sites", 8, "--depth", 1, "--epochs", 2)
STAGED += ("--channels", 2, "--max-bond", 8)
FINE = ("--fine-epochs", 2, "--fine-lr", 2e-3, "--quiet")


def same_models(first, second):
    first, second = (
        ftnn.load(path / "model.safetensors").named_arrays() for path in (first, second)
    )
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """A run in two stages."""
    folder = tmp_path_factory.mktemp("staged") / "run"
    good("train", *STAGED, *FINE, "--out", folder)
    return folder


def test_two_stages_are_two_runs(staged, tmp_path):
    """One on 2^6 points, and one that starts with it."""
    first, second = tmp_path / "first", tmp_path / "second"
    good("train", *STAGED, "--sites", 6, "--out", first, "--quiet")
    assert same_models(first, staged / "stage-1")
    more = ("--epochs", 2, "--lr", 2e-3, "--start", first, "--quiet")
    good("train", *STAGED, *more, "--out", second)
    assert same_models(second, staged)
    assert read(second)["test_error"] == read(staged)["test_error"]
    assert not same_models(staged, staged / "stage-1")
    assert "test_error" not in read(staged / "stage-1")  # the test set is read once
    assert read(staged)["earlier_seconds"] == read(staged / "stage-1")["train_seconds"]
    config = json.loads((staged / "config.json").read_text())["options"]
    assert (config["sites"], config["epochs"], config["fine_epochs"]) == (8, 2, 2)
    command = ("train", *STAGED, *FINE, "--sites", 6, "--out", tmp_path / "coarse")
    refused = CliRunner().invoke(app, [*map(str, command)])  # on a coarse grid there is one stage
    assert "but experiment burgers does not use it with sites 6 and fine_epochs 2" in refused.stderr


@pytest.mark.parametrize("where", ["first", "between", "second"])
def test_two_stages_go_on_where_they_stopped(where, staged, tmp_path, monkeypatch):
    cut = tmp_path / "run"
    begun = {"first": cut / "stage-1" / "checkpoint.json", "second": cut / "checkpoint.json"}
    measure, begin = StateRegression.measure, trainer.begin

    def strike(*args):
        if where in begun and begun[where].is_file():
            os.kill(os.getpid(), signal.SIGINT)
        return measure(*args)

    def strike_at_begin(fit, overwrite):
        if where == "between" and fit.folder == cut:
            raise KeyboardInterrupt
        begin(fit, overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(StateRegression, "measure", strike)
        patch.setattr(trainer, "begin", strike_at_begin)
        result = CliRunner().invoke(app, [*map(str, ("train", *STAGED, *FINE, "--out", cut))])
    assert result.exit_code == 130
    assert f"resume with `ftnn train --resume {cut}`" in result.stderr
    assert begun["second"].is_file() == (where == "second")
    refused = CliRunner().invoke(app, [*map(str, ("train", *STAGED, "--out", cut))])
    assert refused.exit_code == 2
    assert "holds a run already" in refused.stderr
    moved = tmp_path / "moved"
    cut.rename(moved)
    for option, words in (
        (("--lr", 0.5), "it was trained with lr 0.003 (now 0.5)"),
        (("--fine-epochs", 3), "it was trained with fine_epochs 2 (now 3)"),
        (("--start", staged), "it was trained with start None"),
    ):
        refused = CliRunner().invoke(app, [*map(str, ("train", "--resume", moved, *option))])
        assert refused.exit_code == 2
        assert words in refused.stderr
    good("train", "--resume", moved, "--quiet")
    assert same_models(moved, staged)
    assert read(moved)["test_error"] == read(staged)["test_error"]
    assert (moved / "config.json").read_bytes() == (staged / "config.json").read_bytes()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("quantics", "--sites", 1), "sites is 1, expected an integer >= 2"),
        (("quantum-phases", "--sites", 2), "sites is 2, expected an integer >= 3"),
        (("quantum-phases", "--data", "/proc/none"), "--data /proc/none: cannot be created"),
        (("digits", "--fine-epochs", 3), "No such option: --fine-epochs"),
        (
            ("burgers", "--fine-epochs", 1, "--sites", 12, "--blocks", 0),
            "blocks is 0, expected an integer >= 1",
        ),
        (("burgers", "--fine-epochs", 1, "--sites", 12, "--start", "x"), "there is no model"),
        (
            ("burgers", "--fine-lr", 0.1, "--sites", 12),
            "fine_lr is 0.1, but experiment burgers does not use it with",
        ),
        (("digits", "--seed", 2**32), "expected an integer >= 0 and < 4294967296"),
        (("digits", "--sites", 3), "No such option: --sites"),
        (("digits", "--data", "x"), "No such option: --data"),
        (("quantum-phases", "--limit", 9), "No such option: --limit"),
        (
            ("quantics", "--label-smoothing", 0.1),
            "but experiment quantics does not use it as its targets are functions; leave it out",
        ),
        (("quantics", "--depth", 3), "No such option: --depth"),
        (("burgers", "--viscosity", 1e-4), "viscosity is 0.0001, expected a number >= 0.001"),
        (("burgers", "--depth", -1, "--sites", 4), "depth is -1, expected an integer >= 0"),
    ],
)
def test_wrong_options_are_told_in_one_line(args, words, tmp_path):
    command = ["train", *map(str, args), "--quick", "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert words in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()
