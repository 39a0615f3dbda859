"""Laws of the analysis: dense references, quimb's own numbers, and states known by heart."""

import math

import numpy as np
import pytest
import torch
from autoray import infer_backend
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import KINDS, OTHERS, Chain, assert_close, chains, dense, dense_operator, mps

import ftnn
from ftnn.arrays.backend import convert, to_numpy
from ftnn.arrays.sketches import test_matrices as make_omegas
from ftnn.chains.terms import Apply, Hadamard, State, Term
from ftnn.interpret.report import entanglement_report, layer_report, log10_compression
from ftnn.interpret.trace import (
    bond_spectra,
    entanglement_entropies,
    flops_per_sample,
    mutual_information,
    operator_cores,
    trace,
    truncation_error,
    truncation_errors,
)
from ftnn.truncation.src import compress_src


def random_state(dims, batch=3, max_bond=None, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((batch, math.prod(dims)))
    if dtype == "complex128":
        dense = dense + 1j * rng.standard_normal(dense.shape)
    return ftnn.MPS.from_dense(dense, dims, max_bond=max_bond)


def ghz(L, phys=2):
    cores = [np.zeros((1, phys, phys, phys)) for _ in range(L)]
    for core in cores:
        for p in range(phys):
            core[0, p, p, p] = 1.0
    cores[0] = cores[0].sum(axis=1, keepdims=True)
    cores[-1] = cores[-1].sum(axis=3, keepdims=True)
    return tuple(cores)


def product(L, phys=3, bond=1, seed=0):
    """Product states, with bonds padded by zeros."""
    rng = np.random.default_rng(seed)
    cores = []
    for k in range(L):
        core = np.zeros((4, 1 if k == 0 else bond, phys, 1 if k == L - 1 else bond))
        core[:, 0, :, 0] = rng.standard_normal((4, phys))
        cores.append(core)
    return tuple(cores)


def small_model(in_dims=(3, 2, 4, 2), hidden=(3, 3, 3, 3), max_bond=3):
    inner = ftnn.Linear(hidden, hidden, bond_dim=2, max_bond=max_bond, seed=1)
    return ftnn.Sequential(
        ftnn.Linear(in_dims, hidden, bond_dim=3, max_bond=max_bond, seed=0),
        ftnn.nonlinear.KAN(hidden, seed=2),
        ftnn.Residual(inner, max_bond=max_bond, seed=3),
        ftnn.nonlinear.RMSNorm(),
        ftnn.Readout(hidden, num_outputs=5, bond_dim=3, seed=4),
    )


@pytest.mark.parametrize("bond", [1, 3])
def test_product_states_are_not_entangled(bond):
    entropies = entanglement_entropies(product(6, bond=bond))
    assert entropies.shape == (4, 5)
    np.testing.assert_allclose(entropies, 0.0, atol=1e-12)


@pytest.mark.parametrize(("L", "phys"), [(2, 2), (7, 2), (60, 3)])
def test_ghz_states_have_one_cat_of_entanglement(L, phys):
    np.testing.assert_allclose(entanglement_entropies(ghz(L, phys)), math.log(phys), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_entropies_and_spectra_agree_with_quimb(dtype):
    x = random_state((2, 3, 2, 4, 2), dtype=dtype)
    entropies, spectra = entanglement_entropies(x.cores), bond_spectra(x.cores)
    for i in range(x.batch_size):
        state = x[i]
        state /= state.norm()
        for k in range(x.L - 1):
            assert math.isclose(
                entropies[i, k] / math.log(2), state.copy().entropy(k + 1), rel_tol=1e-9
            )
            values = state.copy().schmidt_values(k + 1)  # squares, sorted
            np.testing.assert_allclose(spectra[k][i] ** 2, values, atol=1e-12)


def entropy(rho):
    p = np.linalg.eigvalsh(rho)
    p = p[p > 1e-15]
    return -np.sum(p * np.log(p))


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("dims", [(2, 3, 4, 2), (3,), (1, 2, 5), (6, 2, 6), (2, 9, 2)])
def test_mutual_information_is_that_of_dense_density_matrices(dims, dtype):
    x = random_state(dims, batch=2, max_bond=3, seed=1, dtype=dtype)
    found = mutual_information((7.0 * x.cores[0], *x.cores[1:]))  # of a vector of any norm
    dense = ftnn.arrays.backend.to_numpy(x.to_dense()).reshape(2, *dims)
    L = len(dims)
    expected = np.zeros((2, L, L))
    for n, psi in enumerate(dense):
        psi = psi / np.linalg.norm(psi)

        def of(*sites, psi=psi):
            matrix = np.moveaxis(psi, sites, range(len(sites)))
            matrix = matrix.reshape(math.prod(dims[k] for k in sites), -1)
            return entropy(matrix @ matrix.conj().T)

        for i in range(L):
            for j in range(L):
                if i != j:
                    expected[n, i, j] = of(i) + of(j) - of(i, j)
    assert np.allclose(found, expected, atol=1e-10)


def test_mutual_information_of_states_known_by_heart():
    assert np.allclose(mutual_information(product(5, bond=3)), 0.0, atol=1e-12)
    assert np.allclose(mutual_information(tuple(0.0 * c for c in product(4))), 0.0)
    cat = mutual_information(ghz(6, phys=3))[0]  # any two sites: S_i = S_ij = log 3
    assert np.allclose(cat, math.log(3) * (1 - np.eye(6)))


def test_mutual_information_in_parts_is_that_of_the_whole(monkeypatch):
    from ftnn.chains import entanglement

    x = random_state((2, 3, 2), batch=5)
    whole = mutual_information(x.cores)
    monkeypatch.setattr(entanglement, "_LARGEST", 2 * 3**4)
    assert np.allclose(mutual_information(x.cores), whole)


def test_entanglement_by_class_is_the_mean_over_its_samples():
    model, x = small_model(), random_state((3, 2, 4, 2), batch=7)
    labels = np.array([0, 2, 2, 0, 2, 0, 0])
    rows = entanglement_report(model, x.cores, labels, 3)
    # a norm leaves the entropies as they are; the Linear inside the Residual has its own
    names = [row.name for row in rows]
    assert names == ["input", "0 Linear", "1 KAN", "2.layer Linear", "2 Residual"]
    states = {step.path: step.output for step in trace(model, x.cores)}
    for row in rows:
        state = x.cores if row.name == "input" else states[row.name.split()[0]]
        entropies = entanglement_entropies(state)
        for number in (0, 2):
            assert np.allclose(row.entropies[number], entropies[labels == number].mean(axis=0))
        assert np.isnan(row.entropies[1]).all()
        assert np.allclose(row.mutual_information, mutual_information(state).mean(axis=0))


def test_spectra_have_the_shape_of_the_bonds_and_unit_norm():
    cores = product(5, bond=4)
    for s, core in zip(bond_spectra(cores), cores, strict=False):
        assert s.shape == (4, core.shape[3])
        np.testing.assert_allclose(np.linalg.norm(s, axis=1), 1.0)
    dead = tuple(0.0 * core for core in cores)
    assert all(not s.any() for s in bond_spectra(dead))
    assert not entanglement_entropies(dead).any()


def test_spectra_do_not_depend_on_gauge_or_scale():
    x = random_state((2, 3, 2, 3), seed=4)
    cores = list(x.cores)
    gauge = np.random.default_rng(1).standard_normal((cores[1].shape[3],) * 2)
    cores[1] = cores[1] @ gauge * 1e100
    cores[2] = np.einsum("lm,bmpr->blpr", np.linalg.inv(gauge), cores[2]) * 1e-90
    for s, t in zip(bond_spectra(cores), bond_spectra(x.cores), strict=True):
        np.testing.assert_allclose(s, t, atol=1e-10)


def test_operator_entropies_agree_with_the_dense_operator():
    W = ftnn.MPO.random((2, 3, 2), (3, 2, 2), bond_dim=4, seed=0)
    dense = W.to_dense().reshape(2, 3, 2, 3, 2, 2).transpose(0, 3, 1, 4, 2, 5)
    found = bond_spectra(operator_cores(W.cores))
    for k, shape in enumerate([(6, -1), (36, -1)]):
        s = np.linalg.svd(dense.reshape(shape), compute_uv=False)
        s = s[: found[k].shape[1]] / np.linalg.norm(s)
        np.testing.assert_allclose(found[k][0][: len(s)], s, atol=1e-10)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_truncation_error_is_the_dense_error(backend):
    if backend == "torch":
        pytest.importorskip("torch")
    model, x = small_model(), random_state((3, 2, 4, 2), batch=4)
    errors = truncation_errors(model.to(backend), x.cores)
    assert list(errors) == ["0", "2.layer", "2"]
    model.to("numpy")
    for step in trace(model, x.cores):
        if step.path not in errors:
            continue
        given, got = ftnn.MPS(step.inputs).to_dense(), ftnn.MPS(step.output).to_dense()
        if step.path == "2":
            exact = given + ftnn.MPS(step.layer.children["layer"].apply(step.inputs)).to_dense()
        else:
            W = ftnn.MPO([step.layer.params[f"weight.{k}"] for k in range(4)]).to_dense()
            bias = ftnn.MPS([step.layer.params[f"bias.{k}"] for k in range(4)]).to_dense()
            exact = given @ W.T + bias
        relative = np.linalg.norm(exact - got, axis=1) / np.linalg.norm(exact, axis=1)
        assert relative.min() > 1e-3  # the case truncates
        np.testing.assert_allclose(errors[step.path], relative, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_error_of_any_sum_of_terms_is_the_dense_error(dtype):
    dims = (2, 3, 2, 3)
    x, y = (random_state(dims, seed=seed, dtype=dtype) for seed in (1, 2))
    one = random_state(dims, batch=1, seed=3, dtype=dtype)  # broadcasts
    W = ftnn.MPO.random(dims, dims, bond_dim=2, seed=4)
    terms = (
        Term(Apply(W.cores, State(x.cores)), 0.7),
        Term(Hadamard(State(x.cores), State(y.cores)), -1.3),
        Term(State(one.cores), 0.4j if dtype == "complex128" else 0.4),
    )
    omegas = make_omegas(dims, 3, seed=0)
    if dtype == "complex128":
        omegas = tuple(omega.astype(dtype) for omega in omegas)
    output = compress_src(terms, omegas, 3)
    dense = 0.7 * x.to_dense() @ W.to_dense().T - 1.3 * x.to_dense() * y.to_dense()
    dense = dense + terms[2].scale * one.to_dense()
    error = np.linalg.norm(dense - ftnn.MPS(output).to_dense(), axis=1)
    expected = error / np.linalg.norm(dense, axis=1)
    assert expected.min() > 1e-3
    np.testing.assert_allclose(truncation_error(terms, output), expected, rtol=1e-6)


def mapped(layer, name, x):
    return x @ dense_operator(layer.operators()[name]).T


def normalized(layer, x):
    z = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    if not layer.affine:
        return z
    gain, shift = (
        dense([layer.params[f"{name}.{k}"] for k in range(len(layer.in_dims))])
        for name in ("gain", "shift")
    )
    return gain * z + shift


# a layer for dims, a bond and a seed; and its exact dense output, of the input x
TRUNCATING = {
    "Linear": (
        lambda dims, bond, seed: ftnn.Linear(dims, dims, 3, bond, bias=False, seed=seed),
        lambda layer, x: mapped(layer, "weight", x),
    ),
    "Linear, direct": (
        lambda dims, bond, seed: ftnn.Linear(dims, dims, 2, bond, False, "direct", seed),
        lambda layer, x: mapped(layer, "weight", x),
    ),
    "Gated": (
        lambda dims, bond, seed: ftnn.nonlinear.Gated(dims, dims, 2, bond, seed=seed),
        lambda layer, x: (1 + mapped(layer, "A", x)) * mapped(layer, "B", x),
    ),
    "bilinear, inner bond 1": (
        lambda dims, bond, seed: ftnn.nonlinear.Gated(dims, dims, 2, bond, 1, False, seed),
        lambda layer, x: mapped(layer, "A", x) * mapped(layer, "B", x),
    ),
    "Polynomial": (
        lambda dims, bond, seed: ftnn.nonlinear.Polynomial(dims, [0.5, 0.0, -2.0, 1.0], bond),
        lambda layer, x: 0.5 - 2.0 * x**2 + x**3,
    ),
    "LayerNorm": (
        lambda dims, bond, seed: ftnn.nonlinear.LayerNorm(dims, bond, bond_dim=2, seed=seed),
        normalized,
    ),
    "LayerNorm, plain": (
        lambda dims, bond, seed: ftnn.nonlinear.LayerNorm(dims, bond, affine=False),
        normalized,
    ),
    "SketchGauge": (
        lambda dims, bond, seed: ftnn.nonlinear.SketchGauge(dims, bond, seed),
        lambda layer, x: x,
    ),
    "SVDGauge": (lambda dims, bond, seed: ftnn.nonlinear.SVDGauge(), lambda layer, x: x),
}


@pytest.mark.parametrize("name", TRUNCATING)
@settings(max_examples=15)
@given(
    chains(2, 6, kinds=("generic", "deficient", "padded"), max_batch=3),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_reported_errors_are_those_of_the_dense_computation(name, chain, bond, seed):
    make, exact = TRUNCATING[name]
    layer, cores = make(chain.dims, bond, seed), tuple(chain.cores())
    x = dense(cores)
    if name.startswith("LayerNorm") and (x.std(axis=1) < 1e-6 * np.abs(x).max()).any():
        return  # constant vectors, by convention zero
    expected = exact(layer, x)
    difference = np.linalg.norm(dense(layer.apply(cores)) - expected, axis=1)
    error = truncation_errors(layer, cores)[""]
    np.testing.assert_allclose(error * np.linalg.norm(expected, axis=1), difference, atol=3e-6)


@settings(max_examples=10)
@given(chains(2, 5, kinds=("generic",), max_batch=3), st.integers(1, 3))
def test_errors_inside_a_network_are_those_of_each_layer(chain, bond):
    dims = chain.dims
    inner = ftnn.Sequential(
        ftnn.nonlinear.Gated(dims, dims, 2, bond), ftnn.nonlinear.SketchGauge(dims, bond)
    )
    model, cores = ftnn.Sequential(ftnn.Residual(inner, bond)), tuple(chain.cores())
    errors = truncation_errors(model, cores)
    assert list(errors) == ["0.layer.0", "0.layer.1", "0"]
    x, y = dense(cores), dense(inner.apply(cores))
    expected = np.linalg.norm(dense(model.apply(cores)) - x - y, axis=1)
    np.testing.assert_allclose(errors["0"] * np.linalg.norm(x + y, axis=1), expected, atol=3e-6)


def test_the_effort_for_an_error_is_bounded():
    x = random_state((2, 3, 2, 3), batch=6)
    layer = ftnn.nonlinear.Gated(x.phys_dims, x.phys_dims, 2, 2)
    terms, output = layer.terms(x.cores), layer.apply(x.cores)
    whole = truncation_error(terms, output)
    counts = set()
    for work in np.geomspace(1.0, 1e8, 50):
        few = truncation_error(terms, output, work)
        known = ~np.isnan(few)
        np.testing.assert_allclose(few[known], whole[known], rtol=1e-9)
        counts.add(int(known.sum()))
    assert {0, 1, 6} <= counts
    wide = tuple(np.broadcast_to(0.0, (1, l, 2, r)) for l, r in ((1, 2**15), (2**15, 1)))
    assert np.isnan(truncation_error((Term(State(wide)),), wide)).all()


def test_what_is_missing_altogether_is_an_infinite_error():
    x = random_state((2, 2), batch=2)
    none = tuple(0.0 * core for core in x.cores)
    assert np.isinf(truncation_error((Term(State(none)),), x.cores)).all()
    assert not truncation_error((Term(State(none)),), none).any()
    np.testing.assert_allclose(truncation_error((Term(State(x.cores)),), none), 1.0)


def test_no_truncation_no_error():
    layer = ftnn.Linear((2, 2, 2), (2, 2, 2), bond_dim=2, max_bond=64)
    x = random_state((2, 2, 2))
    assert truncation_errors(layer, x.cores)[""].max() < 1e-7
    dead = tuple(0.0 * core for core in x.cores)
    assert not truncation_errors(layer, dead)[""].any()


def test_long_chains_do_not_overflow():
    dims = (4,) * 300
    layer = ftnn.Linear(dims, dims, bond_dim=3, max_bond=2)
    errors = truncation_errors(layer, product(300, phys=4, bond=2))[""]
    assert np.all(np.isfinite(errors))
    assert np.all((errors > 0) & (errors <= 1))


def test_tracing_leaves_the_model_alone():
    model, x = small_model(), random_state((3, 2, 4, 2))
    before = {name: array.copy() for name, array in model.named_arrays().items()}
    steps = trace(model, x.cores)
    assert [step.path for step in steps] == ["0", "1", "2.layer", "2", "3", "4", ""]
    np.testing.assert_array_equal(steps[-1].output, model.apply(x.cores))
    assert all("apply" not in vars(layer) for _, layer in model.walk())
    for name, array in model.named_arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_report_counts_what_the_model_counts():
    model, x = small_model(), random_state((3, 2, 4, 2))
    rows = layer_report(model, x.cores)
    assert [row.type for row in rows] == [
        "MPS",
        "Linear",
        "KAN",
        "Linear",
        "Residual",
        "RMSNorm",
        "Readout",
    ]
    assert sum(row.params for row in rows) == model.num_params()
    given, first, readout = rows[0], rows[1], rows[-1]
    assert given.bonds == x.bond_dims
    assert first.dense_params == 81 * 48 + 81
    assert readout.dense_params == 5 * 81
    assert (readout.out_dims, readout.bonds) == ((5,), ())
    assert first.bonds == (3, 3, 3)
    assert math.isclose(
        first.truncation_error,
        np.sqrt(np.mean(truncation_errors(model, x.cores)["0"] ** 2)),
    )
    dense = sum(row.params if row.dense_params is None else row.dense_params for row in rows)
    assert math.isclose(log10_compression(rows), math.log10(dense / model.num_params()))


def test_compression_of_astronomic_layers_is_finite():
    dims = (4,) * 600  # 4**1200 is beyond every float
    layer = ftnn.Linear(dims, dims, bond_dim=1, max_bond=1)
    _, row = layer_report(layer, product(600, phys=4))
    expected = 1200 * math.log10(4) - math.log10(layer.num_params())
    assert math.isclose(row.log10_compression, expected, rel_tol=1e-12)


def test_flops_are_those_of_the_matrix_products():
    pytest.importorskip("torch")
    # one site: nothing to truncate, y = W x + b; W is applied as (batch, 3) @ (3, 7)
    layer = ftnn.Linear((3,), (7,), bond_dim=1, max_bond=1, bias=False)
    flops = flops_per_sample(layer, (np.ones((5, 1, 3, 1)),))
    assert flops >= 2 * 3 * 7
    assert flops <= 2 * 3 * 7 + 2 * (3 + 7)  # the edges of the chain are bonds of size 1
    cost = {
        L: flops_per_sample(
            ftnn.Linear((4,) * L, (4,) * L, bond_dim=3, max_bond=4), product(L, 4, bond=4)
        )
        for L in (10, 20, 40)
    }
    assert math.isclose(cost[40] - cost[20], 2 * (cost[20] - cost[10]), rel_tol=1e-9)


def test_every_operator_counts_as_the_dense_matrix_it_stands_for():
    dims, out = (2, 3, 2), (3, 2, 2)
    model = ftnn.Sequential(
        ftnn.nonlinear.Gated(dims, out, 2, 4), ftnn.Expectation(out, 5, bond_dim=2)
    )
    x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((3, 12)), dims)
    _, gated, head = layer_report(model, x.cores)
    assert gated.dense_params == 2 * 12 * 12
    assert head.dense_params == 5 * 12 * 12
    assert gated.log10_compression == pytest.approx(np.log10(288 / gated.params))


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_entanglement_is_that_of_numpy_on_every_backend(backend, dtype):
    dims = (2, 3, 2, 3)
    cores = Chain(3, dims, (2, 4, 3), "generic", 0).cores(dtype)
    other = tuple(convert(core, backend) for core in cores)
    for function in (entanglement_entropies, mutual_information):
        found = function(other)
        assert infer_backend(found) == backend
        assert_close(found, function(cores), condition=1e4)
        single = [function(tuple(core[n : n + 1] for core in other)) for n in range(3)]
        assert_close(found, np.concatenate([to_numpy(s) for s in single]), condition=1e4)
    for s, t in zip(bond_spectra(other), bond_spectra(cores), strict=True):
        assert_close(s, t, condition=1e4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_gradients_of_entropies(kind, dtype):
    cores = mps(Chain(2, (2, 3, 2), (2, 2), kind, 0).cores(dtype), "torch").cores
    leaves = [core.clone().requires_grad_() for core in cores]
    found = torch.autograd.grad(entanglement_entropies(tuple(leaves)).sum(), leaves)
    assert all(np.isfinite(to_numpy(g)).all() for g in found)
    if kind not in ("generic", "repeated"):
        return

    def dense_entropies(*cores):
        vector, total = ftnn.MPS(cores).to_dense(), 0.0
        for rows in (2, 6):
            values = torch.linalg.svdvals(vector.reshape(2, rows, -1)) ** 2
            p = values / values.sum(1, keepdim=True)
            p = p[:, :2]  # the bonds; the others are null
            total = total - (p * p.log()).sum()
        return total

    expected = torch.autograd.grad(dense_entropies(*leaves), leaves)
    scale = max(float(g.abs().max()) for g in expected)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, condition=1e5, scale=scale)
