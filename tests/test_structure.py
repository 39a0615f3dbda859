"""Order of sites and bonds from data: optima against all permutations, shuffled chains, budgets."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import ftnn
from ftnn.chains.bonds import cut_bonds
from ftnn.chains.entanglement import bond_spectra, entanglement_entropies
from ftnn.cli import app
from ftnn.encoding import AmplitudeEncoder, TableEncoder
from ftnn.experiments import get_experiment
from ftnn.experiments.splits import Data
from ftnn.structure import (
    arrangement_cost,
    bond_profile,
    code_information,
    inverse_order,
    mean_state,
    num_params,
    optimal_order,
    permute_sites,
    set_costs,
    sifted,
    site_information,
    site_order,
    spectral_order,
    weight_costs,
)
from ftnn.structure.arrangement import refined
from ftnn.structure.bonds import _carried
from ftnn.structure.mean_state import mean_spectra
from ftnn.training.options import replace_values


def random_weights(rng, sites):
    weights = rng.random((sites, sites)) ** 3
    return (weights + weights.T) * (1 - np.eye(sites))


def random_states(rng, dims, batch=2):
    return ftnn.MPS.from_dense(rng.standard_normal((batch, int(np.prod(dims)))), dims)


def along(costs, order):
    """Cost of an order: the sum over its cuts."""
    sets = np.cumsum([1 << int(i) for i in order])[:-1]
    return float(sum(costs[index] for index in sets))


def bell_pairs(pairs, sites):
    """State whose sites are in pairs of full entanglement, each with its own weight."""
    dense = np.ones(1)
    axes = []
    for n, pair in enumerate(pairs):
        dense = np.multiply.outer(dense, np.diag([1.0, 0.9 - 0.1 * n]))
        axes += pair
    dense = dense[0].transpose(np.argsort(axes))
    return ftnn.MPS.from_dense(dense.reshape(1, -1), (2,) * sites)


def spin_chain(sites, field=0.8):
    """Ground state (2,) * sites of the Ising chain in a transverse field, open."""
    x, z = np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1.0])
    h = np.zeros((2**sites, 2**sites))

    def add(factor, *operators):
        whole = np.ones((1, 1))
        for k in range(sites):
            whole = np.kron(whole, dict(operators).get(k, np.eye(2)))
        h[...] += factor * whole

    for k in range(sites):
        add(-field, (k, x))
        if k:
            add(-1.0, (k - 1, z), (k, z))
    return np.linalg.eigh(h)[1][:, 0].reshape((2,) * sites)


def same_line(order, truth):
    """Whether an order is another one, or its reverse."""
    return list(order) in (list(truth), list(truth)[::-1])


# ---- the optimum -----------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_the_optimum_costs_no_more_than_any_permutation(sites, seed):
    costs = np.random.default_rng(seed).random(2**sites)
    best = optimal_order(costs)
    assert sorted(best) == list(range(sites))
    least = min(along(costs, order) for order in itertools.permutations(range(sites)))
    assert np.isclose(along(costs, best), least)


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_costs_of_sets_of_weights_are_those_of_the_arrangement(sites, seed):
    rng = np.random.default_rng(seed)
    weights, order = random_weights(rng, sites), rng.permutation(sites)
    assert np.isclose(along(weight_costs(weights), order), arrangement_cost(weights, order))


def test_costs_of_sets_of_states_are_those_across_the_cuts():
    rng = np.random.default_rng(0)
    x = random_states(rng, (2, 3, 2, 2, 3))
    entropies, lost = set_costs(x), set_costs(x, max_bond=2)
    for order in ([0, 1, 2, 3, 4], [3, 1, 4, 0, 2]):
        y = permute_sites(x, order)
        sets = np.cumsum([1 << i for i in order])[:-1]
        assert np.allclose(entropies[sets], entanglement_entropies(y.cores).mean(0))
        discarded = [(s[:, 2:] ** 2).sum(1).mean() for s in bond_spectra(y.cores)]
        assert np.allclose(lost[sets], discarded)


def test_the_exact_order_needs_the_least_bonds_of_all_orders():
    x = bell_pairs([(0, 3), (1, 4), (2, 5)], 6)
    order = site_order(x, "exact")
    assert max(permute_sites(x, order).bond_dims) == 2
    assert {frozenset(order[k : k + 2].tolist()) for k in (0, 2, 4)} == {
        frozenset(pair) for pair in [(0, 3), (1, 4), (2, 5)]
    }


# ---- the spectral order ----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sifting", "spectral", "exact"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_shuffled_chain_of_spins_is_put_back_in_order(method, seed):
    state, shuffle = spin_chain(8), np.random.default_rng(seed).permutation(8)
    x = ftnn.MPS.from_dense(state.transpose(shuffle).reshape(1, -1), (2,) * 8)
    assert same_line(shuffle[site_order(x, method)], range(8))


@pytest.mark.parametrize("method", ["sifting", "spectral", "exact"])
def test_shuffled_columns_of_a_walk_are_put_back_in_order(method):
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((3000, 10)), axis=1)
    shuffle = rng.permutation(10)
    assert same_line(shuffle[site_order(walk[:, shuffle], method)], range(10))


@given(st.integers(2, 9), st.integers(0, 10**6))
def test_the_spectral_order_is_that_of_the_sites_whatever_their_numbers(sites, seed):
    rng = np.random.default_rng(seed)
    weights, shuffle = random_weights(rng, sites), rng.permutation(sites)
    found = shuffle[spectral_order(weights[np.ix_(shuffle, shuffle)])]
    assert same_line(found, spectral_order(weights))


@given(st.integers(2, 7), st.integers(0, 10**6))
def test_no_move_of_one_site_lowers_the_cost_of_a_refined_order(sites, seed):
    rng = np.random.default_rng(seed)
    weights, start = random_weights(rng, sites), rng.permutation(sites)
    order = refined(weights, start)
    cost = arrangement_cost(weights, order)
    assert cost <= arrangement_cost(weights, start) + 1e-12
    for site, place in itertools.product(range(sites), repeat=2):
        rest = [k for k in order if k != site]
        rest.insert(place, site)
        assert arrangement_cost(weights, rest) >= cost - 1e-9


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_sifting_ends_where_no_move_of_one_site_helps(sites, seed):
    rng = np.random.default_rng(seed)
    costs, start = rng.random(2**sites), rng.permutation(sites)
    order = sifted(start, lambda left: costs[sum(1 << i for i in left)])
    assert sorted(order) == list(range(sites))
    assert along(costs, order) <= along(costs, start)
    for site, place in itertools.product(range(sites), repeat=2):
        rest = [k for k in order if k != site]
        rest.insert(place, site)
        assert along(costs, rest) >= along(costs, order) - 1e-9


@pytest.mark.parametrize("bond", [None, 2])
def test_sifting_is_between_the_spectral_and_the_exact_order(bond):
    gains = []
    for seed in range(5):
        x = random_states(np.random.default_rng(seed), (2, 2, 3, 2, 2, 3), batch=1)
        costs = set_costs(x, bond)
        exact, sifting = (along(costs, site_order(x, name, bond)) for name in ("exact", "sifting"))
        spectral = along(costs, site_order(x, "spectral"))
        assert exact <= sifting + 1e-12 <= spectral + 2e-12
        gains.append(spectral - sifting)
    assert max(gains) > 1e-3


def test_long_chains_are_left_in_the_spectral_order():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((1000, 30)), axis=1)
    shuffle = rng.permutation(30)
    order = site_order(walk[:, shuffle])
    assert (order == site_order(walk[:, shuffle], "spectral")).all()
    assert same_line(shuffle[order], range(30))
    cores = [np.ones((1, 1, 2, 1))] * 60
    assert site_order(ftnn.MPS(cores)).tolist() == list(range(60))


def test_what_weights_leave_open_stays_as_given():
    assert spectral_order(np.ones((7, 7))).tolist() == list(range(7))
    assert spectral_order(np.zeros((7, 7))).tolist() == list(range(7))
    assert spectral_order(np.zeros((1, 1))).tolist() == [0]
    star = np.zeros((5, 5))
    star[2] = star[:, 2] = 1.0
    assert arrangement_cost(star, spectral_order(star)) == 6.0


def test_groups_without_connection_follow_by_their_first_site():
    weights = np.zeros((7, 7))
    for i, j in [(1, 6), (6, 3), (0, 5)]:
        weights[i, j] = weights[j, i] = 1.0
    order = spectral_order(weights).tolist()
    assert order in ([0, 5, 1, 6, 3, 2, 4], [0, 5, 3, 6, 1, 2, 4])


def test_constant_sites_depend_on_nothing():
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((2000, 4)), axis=1)[:, [2, 0, 3, 1]]
    data = np.insert(walk, 1, 7.0, axis=1)
    assert (site_information(data)[1] == 0.0).all()
    order = site_order(data)
    assert same_line([k for k in order if k != 1], [2, 4, 0, 3])


def test_all_constant_and_product_data_keep_their_order():
    assert site_order(np.ones((5, 4))).tolist() == [0, 1, 2, 3]
    cores = np.random.default_rng(0).standard_normal((4, 3, 1, 2, 1))
    for x in (ftnn.MPS(tuple(cores)), ftnn.MPS(tuple(0.0 * cores))):
        assert site_order(x).tolist() == site_order(x, "exact").tolist() == [0, 1, 2, 3]


def test_independent_columns_share_little_and_copies_their_entropy():
    codes = np.random.default_rng(0).integers(0, 4, (5000, 3))
    found = code_information(np.column_stack([codes, codes[:, 0]]))
    assert found[:3, :3].max() < 2e-3
    assert np.isclose(found[0, 3], np.log(4), atol=5e-3)


# ---- sites in another order ------------------------------------------------------------------


@given(st.integers(2, 5), st.integers(0, 10**6), st.sampled_from(["float64", "complex128"]))
def test_permuted_states_are_those_of_permuted_axes_and_back(sites, seed, dtype):
    rng = np.random.default_rng(seed)
    dims, order = tuple(rng.integers(1, 4, sites)), rng.permutation(sites)
    dense = rng.standard_normal((3, *dims)).astype(dtype)
    if dtype == "complex128":
        dense = dense + 1j * rng.standard_normal(dense.shape)
    dense[0] = 0.0
    x = ftnn.MPS.from_dense(dense.reshape(3, -1), dims)
    y = permute_sites(x, order)
    assert y.phys_dims == tuple(dims[k] for k in order)
    assert np.allclose(y.to_dense(), dense.transpose(0, *(order + 1)).reshape(3, -1))
    back = permute_sites(y, inverse_order(order))
    assert np.allclose(back.to_dense(), x.to_dense())


def test_truncation_while_sites_are_permuted_is_within_the_tolerance():
    rng = np.random.default_rng(0)
    x = random_states(rng, (2,) * 8, batch=4)
    order = rng.permutation(8)
    exact, near = permute_sites(x, order), permute_sites(x, order, rtol=0.3)
    error = np.linalg.norm(exact.to_dense() - near.to_dense(), axis=1) / exact.norm()
    assert 0.01 < error.max() <= 0.3
    assert sum(near.bond_dims) < sum(exact.bond_dims)


def test_product_states_and_arrays_are_permuted_as_they_are():
    cores = tuple(np.random.default_rng(0).standard_normal((4, 3, 1, 2, 1)))
    y = permute_sites(ftnn.MPS(cores), [2, 0, 3, 1])
    assert all((y.cores[n] == cores[k]).all() for n, k in enumerate((2, 0, 3, 1)))
    rows = np.arange(12).reshape(3, 4)
    assert (permute_sites(permute_sites(rows, [2, 0, 3, 1]), [1, 3, 0, 2]) == rows).all()


def test_states_of_torch_stay_there():
    import torch

    x = random_states(np.random.default_rng(0), (2, 3, 2)).to("torch", "float32")
    y = permute_sites(x, [2, 0, 1])
    assert y.cores[0].dtype == torch.float32
    expected = x.to_dense().reshape(2, 2, 3, 2).permute(0, 3, 1, 2).reshape(2, -1)
    assert torch.allclose(y.to_dense(), expected, atol=1e-5)
    assert site_order(x).tolist() == site_order(x.to("numpy", "float64")).tolist()


# ---- encoders and experiments ------------------------------------------------------------------


def test_encoders_put_columns_and_sites_in_order_and_back(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.empty((20, 5), dtype=object)
    rows[:, :4], rows[:, 4] = rng.standard_normal((20, 4)), rng.choice(["red", "blue"], 20)
    plain, order = TableEncoder().fit(rows), [3, 0, 4, 2, 1]
    other = TableEncoder(order=order).fit(rows)
    for k, core in enumerate(other.encode(rows)):
        assert (core == plain.encode(rows)[order[k]]).all()
    grouped = TableEncoder(order=order, group=2).fit(rows)
    for encoder in (other, grouped):
        back = encoder.reconstruct(encoder(rows))
        assert np.allclose(back[:, :4].astype(float), rows[:, :4].astype(float))
        assert (back[:, 4] == rows[:, 4]).all()
    images = rng.random((3, 6, 4))
    chained = AmplitudeEncoder((6, 4), "row-major", chain=[3, 1, 0, 2])
    x = AmplitudeEncoder((6, 4), "row-major")(images)
    assert chained(images).phys_dims == tuple(x.phys_dims[k] for k in (3, 1, 0, 2))
    expected = permute_sites(x, [3, 1, 0, 2]).to_dense()
    assert np.allclose(chained(images).to_dense(), expected)
    assert np.allclose(chained.reconstruct(chained(images)), images)
    for encoder, data in ((grouped, rows), (chained, images)):
        ftnn.save(ftnn.Readout(encoder.phys_dims, 2, 2), tmp_path / "model.safetensors", encoder)
        loaded = ftnn.load_encoder(tmp_path / "model.safetensors")
        assert all(map(np.array_equal, loaded.encode(data), encoder.encode(data)))
    with pytest.raises(ValueError, match="order is of 5 columns, but data has 4"):
        TableEncoder(order=order).fit(rows[:, :4])
    with pytest.raises(ValueError, match="each of the sites 0 to 4 once"):
        AmplitudeEncoder((8, 4), "row-major", chain=[0, 1])


def test_a_table_is_trained_in_the_order_of_its_columns(tmp_path):
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.standard_normal((300, 5)), axis=1)
    shuffle = [2, 0, 4, 1, 3]
    lines = ["a,b,c,d,e,kind"]
    for n, row in enumerate(walk):
        cells = ["" if n == 7 and k == 2 else f"{row[k]:.4f}" for k in shuffle]
        lines.append(",".join([*cells, "up" if row[4] > row[0] else "down"]))
    path, run = tmp_path / "walk.csv", tmp_path / "run"
    path.write_text("\n".join(lines))
    brief = ["--order", "mutual-information", "--no-cautious", "--epochs", "1", "--quiet"]
    command = ["train", "table", "--data", str(path), "--target", "kind", "--out", str(run)]
    done = CliRunner().invoke(app, [*command, *brief, "--threads", "1"])
    assert done.exit_code == 0, done.output
    encoder = ftnn.load_encoder(run / "model.safetensors")
    assert same_line([shuffle[k] for k in encoder.order], range(5))
    done = CliRunner().invoke(app, ["evaluate", str(run), "--data", str(path)])
    assert done.exit_code == 0, done.output
    x = encoder(_cells(lines)).to("numpy", "float32")
    outputs = ftnn.load(run / "model.safetensors")(x)
    right = (outputs.argmax(1) == [line.endswith("up") for line in lines[1:]]).mean()
    assert f"accuracy {right:.2%}" in done.output


def test_quantics_images_are_trained_in_an_order_and_with_bonds_from_data():
    rng = np.random.default_rng(0)
    images = rng.random((40, 28, 1)) * np.ones(28) + 0.01 * rng.random((40, 28, 28))
    labels = np.arange(40) % 10
    data = Data(*[images.astype(np.float32), labels] * 3, tuple("0123456789"))
    experiment, found = get_experiment("fashion-mnist-quantics"), {}
    ordered = {"order": "mutual-information"}
    for by in ("uniform", "spectra", "entropy"):
        change = {} if by == "uniform" else ordered | {"bonds": by}
        options = replace_values(experiment.tuned_options(), change)
        found[by] = experiment.build(options, data)
    (plain, uniform), (encoder, model), (_, other) = found.values()
    assert other.num_params() <= uniform.num_params()
    assert plain.chain is None
    states = plain(images.astype(np.float32).astype(float))
    assert encoder.chain == tuple(site_order(states))
    assert model.num_params() <= uniform.num_params()
    bonds = next(layer for _, layer in model.walk() if isinstance(layer, ftnn.Linear)).max_bond
    assert isinstance(bonds, tuple)
    assert model(encoder(images)).shape == (40, 10)


def _cells(lines):
    return np.array([line.split(",")[:-1] for line in lines[1:]], dtype=object)


# ---- bonds -----------------------------------------------------------------------------------


def lost_at(x, bonds):
    """Squared norm lost at the cuts, mean over the samples, for bonds of every cut."""
    spectra = bond_spectra(x.cores)
    return sum(float((s[:, b:] ** 2).sum(1).mean()) for s, b in zip(spectra, bonds, strict=True))


def decaying_states(rng, dims, batch=3):
    """States whose Schmidt coefficients decay, at some cuts faster."""
    bonds = cut_bonds(dims, 16)
    cores = [
        rng.standard_normal((batch, left, dim, right)) * rng.uniform(0.4, 0.9) ** np.arange(right)
        for dim, left, right in zip(dims, bonds[:-1], bonds[1:], strict=True)
    ]
    return ftnn.MPS(cores)


@given(st.integers(2, 6), st.integers(0, 10**6), st.floats(1.0, 12.0))
def test_bonds_use_the_budget_and_lose_no_more_than_uniform_ones(sites, seed, factor):
    rng = np.random.default_rng(seed)
    dims = tuple(int(d) for d in rng.integers(1, 4, sites))
    x, params = decaying_states(rng, dims), int(factor * sum(dims))
    for by in ("spectra", "entropy"):
        bonds = bond_profile(x, params, by=by)
        assert len(bonds) == sites - 1
        assert num_params(dims, bonds) <= params
        assert num_params(dims, bonds) == sum(c.size for c in MPO_like(dims, bonds))
        assert cut_bonds(dims, bonds)[1:-1] == bonds  # the sites can carry them
        for k in range(sites - 1):  # none can be raised
            more = tuple(bond + (n == k) for n, bond in enumerate(bonds))
            assert num_params(dims, more) > params or _carried(list(more), dims) != list(more)
    uniform = max(
        (cut_bonds(dims, n)[1:-1] for n in range(1, 28)),
        key=lambda bonds: (num_params(dims, bonds) <= params, sum(bonds)),
    )
    assert lost_at(x, bond_profile(x, params)) <= lost_at(x, uniform) + 1e-12


def MPO_like(dims, bonds):
    bonds = (1, *bonds, 1)
    return [np.ones((a, d, b)) for a, d, b in zip(bonds[:-1], dims, bonds[1:], strict=True)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("params", [30, 45, 60])
def test_bonds_lose_the_least_of_all_with_as_many_parameters(seed, params):
    dims = (2, 3, 2, 3, 2)
    x = decaying_states(np.random.default_rng(seed), dims)
    bonds = itertools.product(range(1, 3), range(1, 7), range(1, 7), range(1, 3))
    fitting = [b for b in bonds if num_params(dims, b) <= params and _carried([*b], dims) == [*b]]
    least = min(lost_at(x, b) for b in fitting)
    assert lost_at(x, bond_profile(x, params)) <= 1.001 * least + 1e-12


def test_bonds_of_one_entangled_pair_are_where_the_pair_is():
    pair = np.zeros((2, 2, 2, 2))
    pair[0, :, :, 0], pair[1, :, :, 1] = 1.0, 0.5
    x = ftnn.MPS.from_dense(np.kron(pair.reshape(1, -1), np.ones((1, 4))), (2,) * 6)
    assert bond_profile(x, 28) == (2, 2, 2, 1, 1)
    assert bond_profile(x, 27) != (2, 2, 2, 1, 1)


def test_entropies_give_bonds_in_proportion():
    x = bell_pairs([(0, 1), (2, 5), (3, 4)], 6)
    bonds = bond_profile(x, 40, by="entropy")
    assert bonds[3] == max(bonds)
    assert bonds[1] == min(bonds)


def test_bonds_of_an_array_are_those_of_its_mean_state():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((200, 6)) @ rng.standard_normal((6, 6))
    rows[:, 4] = 3.0
    ranks = rows.argsort(0).argsort(0) - 99.5
    z = ranks / ranks.std(0) / np.sqrt(6)
    z[:, 4] = 0.0
    dense = np.zeros(2**6)
    for row in z:
        product = np.ones(1)
        for entry in row:
            product = np.kron(product, [1.0, entry])
        dense += product / 200
    assert np.allclose(mean_state(rows).ravel(), dense)
    x = ftnn.MPS.from_dense(dense[None], (2,) * 6)
    for a, s in zip(mean_spectra(rows), bond_spectra(x.cores), strict=True):
        b = s[0] ** 2
        size = min(len(a), len(b))
        assert np.allclose(a[:size], b[:size], atol=1e-10)
        assert np.allclose([*a[size:], *b[size:]], 0.0, atol=1e-10)
    assert bond_profile(rows, 60) == bond_profile(x, 60)
    assert np.allclose(set_costs(rows, 2), set_costs(x, 2))


def test_bonds_of_product_states_and_of_weights():
    x = ftnn.MPS([np.ones((2, 1, 2, 1))] * 5)
    assert bond_profile(x, 10) == (1, 1, 1, 1)
    assert bond_profile(x, 10**6) == (2, 4, 4, 2)  # all that the sites carry
    assert bond_profile(x, 10**6, dims=(6,) * 5) == (6, 36, 36, 6)
    layer = ftnn.Linear(
        (2,) * 5, (3,) * 5, bond_dim=bond_profile(x, 200, (6,) * 5), max_bond=4, bias=False
    )
    assert 180 <= layer.num_params() <= 200


def test_bad_budgets_are_refused():
    x = random_states(np.random.default_rng(0), (2, 3, 2))
    with pytest.raises(ValueError, match=r"params is 6, .* has 7 parameters with bonds of 1"):
        bond_profile(x, 6)
    assert bond_profile(x, 7) == (1, 1)
    for params in (0, -1, 2.5, "many", True):
        with pytest.raises(ValueError, match="params"):
            bond_profile(x, params)
    with pytest.raises(ValueError, match="dims has 2 entries, but data has 3 sites"):
        bond_profile(x, 50, dims=(2, 2))
    with pytest.raises(ValueError, match="choose one of spectra, entropy"):
        bond_profile(x, 50, by="norm")
    for data in (np.full((5, 3), np.nan), np.ones((0, 3)), np.ones((5, 1))):
        with pytest.raises(ValueError, match="data"):
            bond_profile(data, 50)


# ---- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.full((5, 3), np.nan), ValueError, "data"),
        (np.ones((5, 1)), ValueError, "1 sites, expected two or more"),
        (np.ones((0, 3)), ValueError, "0 samples, expected two or more"),
        (np.ones((2, 3, 4)), ValueError, r"shape \(2, 3, 4\), expected \(samples, sites\)"),
        (np.array([["a", "b"]] * 3), TypeError, "categories as codes"),
        ("rows", TypeError, "expected an MPS"),
        (ftnn.MPS([np.ones((2, 1, 2, 1))]), ValueError, "1 sites, expected two or more"),
        (ftnn.MPS([np.full((2, 1, 2, 1), np.inf)] * 2), ValueError, "core 0 of data"),
    ],
)
@pytest.mark.parametrize("method", ["sifting", "spectral", "exact"])
def test_bad_data_is_refused(data, error, message, method):
    with pytest.raises(error, match=message):
        site_order(data, method)


def test_bad_arguments_are_refused():
    rows = np.random.default_rng(0).standard_normal((50, 13))
    states = ftnn.MPS([np.ones((1, 1, 2, 1))] * 13)
    with pytest.raises(ValueError, match="choose one of sifting, spectral, exact"):
        site_order(rows, "greedy")
    for data in (rows, states):
        with pytest.raises(ValueError, match="at most 12"):
            site_order(data, "exact")
        with pytest.raises(ValueError, match="knows no bonds"):
            site_order(data, "spectral", max_bond=2)
    with pytest.raises(ValueError, match="max_bond is 0"):
        site_order(states, "exact", max_bond=0)
    for weights in (
        np.ones((2, 3)),
        -np.ones((2, 2)),
        np.full((2, 2), np.nan),
        np.eye(3)[[1, 2, 0]],
    ):
        with pytest.raises(ValueError, match="weights"):
            spectral_order(weights)
    for costs in (np.ones(3), np.ones((2, 2)), np.full(4, np.nan), np.ones(1)):
        with pytest.raises(ValueError, match="costs"):
            optimal_order(costs)


@pytest.mark.parametrize("order", [[0, 0, 1], [0, 1], [0, 1, 3], [0.0, 1.0, 2.0], [[0, 1, 2]]])
def test_bad_orders_are_refused(order):
    for data in (np.ones((2, 3)), ftnn.MPS([np.ones((1, 1, 2, 1))] * 3)):
        with pytest.raises(ValueError, match="each of the sites 0 to 2 once"):
            permute_sites(data, order)
    with pytest.raises(TypeError, match="expected an MPS"):
        permute_sites([1, 2, 3], [0, 1, 2])
    with pytest.raises(ValueError, match="shape"):
        permute_sites(np.ones(3), [0, 1, 2])
