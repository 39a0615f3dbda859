"""Sequences and quantum states to MPS, against vectors written out."""

import numpy as np
import pytest
import quimb as qu
import quimb.tensor as qtn
from hypothesis import given
from hypothesis import strategies as st
from laws import assert_close, dense

import ftnn
from ftnn.encoding import (
    Encoder,
    SequenceEncoder,
    TokenEncoder,
    basis_states,
    bloch_angles,
    bloch_states,
    from_statevectors,
)
from ftnn.encoding.features import FEATURES


def series(seed, n=6, steps=4, channels=1):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, steps, channels)) * [2.0, 50.0, 0.1][:channels] + 7.0
    return values[..., 0] if channels == 1 else values


@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 3))
def test_states_are_products_over_the_steps(seed, steps, channels):
    data = series(seed, steps=steps, channels=channels)
    encoder = SequenceEncoder(steps, channels, clip=2.0, scale=0.4).fit(data)
    flat = data.reshape(-1, channels)
    z = np.clip((flat - flat.mean(axis=0)) / flat.std(axis=0), -2, 2).reshape(6, steps, channels)
    expected = np.ones((6, 1))
    for k in range(steps):
        site = np.concatenate([np.ones((6, 1)), 0.4 / np.sqrt(channels) * z[:, k]], axis=1)
        expected = np.einsum("bi,bj->bij", expected, site).reshape(6, -1)
    assert_close(dense(encoder(data)), expected, condition=1e4)


@given(
    st.integers(0, 99),
    st.sampled_from(list(FEATURES)),
    st.sampled_from(["standard", "quantile", "none"]),
    st.integers(1, 3),
    st.sampled_from([0.0, 0.3]),
)
def test_the_inverse_gives_the_sequence_back(seed, features, normalize, channels, gaps):
    channels = 1 if features == "trig" else channels
    data = series(seed, channels=channels)
    if gaps and features != "trig":
        data[np.random.default_rng(seed).random(data.shape) < gaps] = np.nan
    missing = "channel" if np.isnan(data).any() else "error"
    encoder = SequenceEncoder(
        4, channels, features, normalize=normalize, clip=1000.0, missing=missing
    ).fit(data)
    state = encoder(data)
    assert state.phys_dims == encoder.phys_dims
    np.testing.assert_allclose(encoder.reconstruct(state), data, rtol=1e-6, atol=1e-6)
    assert encoder.reconstruction_error(data).max() < 1e-6
    again = Encoder.named("SequenceEncoder")(**encoder.config())
    again.set_buffers(encoder.buffers)
    for a, b in zip(encoder.encode(data), again.encode(data), strict=True):
        np.testing.assert_array_equal(a, b)


def test_sequences_keep_their_precision():
    data = series(0).astype(np.float32)
    assert SequenceEncoder(4).fit(data).encode(data)[0].dtype == np.float32


@given(st.integers(1, 5), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_tokens_are_one_hot_and_come_back(steps, tokens, constant, seed):
    rng = np.random.default_rng(seed)
    data = rng.integers(-1 if constant else 0, tokens, (7, steps))
    encoder = TokenEncoder(steps, tokens, constant)
    state = encoder(data)
    assert state.phys_dims == (tokens + constant,) * steps
    np.testing.assert_array_equal(encoder.reconstruct(state), data)
    if not constant:
        places = np.ravel_multi_index(tuple(data.T), (tokens,) * steps)
        np.testing.assert_array_equal(dense(state), np.eye(tokens**steps)[places])


def test_a_token_encoder_is_saved(tmp_path):
    encoder = TokenEncoder(3, 2, scale=0.5)
    ftnn.save(ftnn.Readout(encoder.phys_dims, 2, 2), tmp_path / "model", encoder)
    assert repr(ftnn.load_encoder(tmp_path / "model")) == repr(encoder)


# ---- quantum states ------------------------------------------------------------------------------


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_basis_states_are_unit_vectors(sites, dim, seed):
    digits = np.random.default_rng(seed).integers(0, dim, (5, sites))
    expected = np.eye(dim**sites)[np.ravel_multi_index(tuple(digits.T), (dim,) * sites)]
    np.testing.assert_array_equal(dense(basis_states(digits, dim)), expected)
    strings = ["".join(map(str, row)) for row in digits]
    np.testing.assert_array_equal(dense(basis_states(strings, dim)), expected)


def test_basis_states_are_those_of_quimb():
    strings = ["0110", "1011"]
    states = [qtn.MPS_computational_state(bits) for bits in strings]
    assert_close(dense(basis_states(strings)), dense(ftnn.MPS.from_quimb(states)))
    assert len(basis_states("0110", dtype="complex64")) == 1


@given(st.integers(1, 5), st.booleans(), st.integers(0, 99))
def test_bloch_angles_are_those_of_quimb(sites, is_complex, seed):
    rng = np.random.default_rng(seed)
    theta = rng.uniform(0.1, np.pi - 0.1, (3, sites))
    phi = rng.uniform(-3, 3, (3, sites)) if is_complex else None
    x = bloch_states(theta, phi)
    zero = np.zeros_like(theta)
    for n in range(3):
        qubits = [
            qu.bloch_state(np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t))
            for t, p in zip(theta[n], (zero if phi is None else phi)[n], strict=True)
        ]
        projector = np.outer(dense(x)[n], dense(x)[n].conj())
        assert_close(projector, np.asarray(qu.kron(*qubits)), condition=1e5)
    back = bloch_angles(x)
    np.testing.assert_allclose(back[0], theta, atol=1e-9)
    np.testing.assert_allclose(back[1], zero if phi is None else phi, atol=1e-9)
    assert_close(x.norm(), np.ones(3))


@given(st.integers(1, 6), st.integers(0, 99), st.sampled_from(["float64", "complex128"]))
def test_statevectors_of_every_form(sites, seed, dtype):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((3, 2**sites)).astype(dtype)
    if dtype == "complex128":
        vectors = vectors + 1j * rng.standard_normal(vectors.shape)
    for form in (vectors, list(vectors), [qu.ket(vector) for vector in vectors]):
        x = from_statevectors(form)
        assert x.phys_dims == (2,) * sites
        assert_close(dense(x), vectors, condition=1e4)
    assert from_statevectors(np.eye(6), (2, 3)).phys_dims == (2, 3)
    assert max(from_statevectors(vectors, max_bond=1).bond_dims, default=1) == 1


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: SequenceEncoder(0), ValueError, "steps is 0"),
        (lambda: SequenceEncoder(3, 2, "trig"), ValueError, "'trig' fill a site"),
        (lambda: SequenceEncoder(3, missing="drop"), ValueError, "missing is 'drop'"),
        (lambda: SequenceEncoder(3, clip=-1), ValueError, "clip is -1"),
        (lambda: SequenceEncoder(3)(np.ones((2, 4))), ValueError, r"expected \(batch, 3\)"),
        (lambda: SequenceEncoder(3, 2)(np.ones((2, 3))), ValueError, r"expected \(batch, 3, 2\)"),
        (lambda: SequenceEncoder(3)(np.ones((0, 3))), ValueError, "at least one sequence"),
        (lambda: SequenceEncoder(3)(np.ones((2, 3), int)), TypeError, "dtype int64"),
        (lambda: SequenceEncoder(3)(np.ones((2, 3), complex)), TypeError, "data is complex"),
        (lambda: SequenceEncoder(3)(np.full((2, 3), np.nan)), ValueError, "missing='channel'"),
        (lambda: SequenceEncoder(3)(np.full((2, 3), np.inf)), ValueError, "holds infinite"),
        (lambda: TokenEncoder(3, 0), ValueError, "tokens is 0"),
        (lambda: TokenEncoder(3, 2, scale=0.0), ValueError, "scale is 0.0"),
        (lambda: TokenEncoder(3, 2, False, 0.5), ValueError, "without a constant channel"),
        (lambda: TokenEncoder(3, 2)(np.ones((2, 3))), TypeError, "dtype float64, expected int"),
        (lambda: TokenEncoder(3, 2)(np.ones((2, 4), int)), ValueError, r"expected \(batch, 3\)"),
        (
            lambda: TokenEncoder(3, 2)(np.array([[0, 1, 1], [0, 2, 1]])),
            ValueError,
            r"data\[1, 1\] is 2, expected -1 ... 1",
        ),
        (
            lambda: TokenEncoder(3, 2, False)(np.array([[0, 1, -1]])),
            ValueError,
            "padding, -1, takes constant=True",
        ),
        (lambda: basis_states(["01", "011"]), ValueError, r"lengths \[2, 3\]"),
        (lambda: basis_states([]), ValueError, "at least one string"),
        (lambda: basis_states(["0x"]), ValueError, "expected digits 0 ... 1"),
        (lambda: basis_states(["02"]), ValueError, "digits go from 0 to 2, expected 0 ... 1"),
        (lambda: basis_states(np.array([0, 1])), ValueError, r"expected integers \(n, L\)"),
        (lambda: bloch_states(np.ones(3)), ValueError, r"theta has shape \(3,\)"),
        (lambda: bloch_states(np.ones((1, 3)), np.ones((1, 2))), ValueError, "phi has shape"),
        (lambda: bloch_states(np.full((1, 2), np.nan)), ValueError, "theta holds NaN"),
        (lambda: from_statevectors(np.eye(6)), ValueError, "not a power of two; give phys_dims"),
        (lambda: from_statevectors([np.ones(4), np.ones(8)]), ValueError, "of the same size"),
        (lambda: from_statevectors([np.ones((4, 4))]), ValueError, "expected .dim,. or .dim, 1."),
    ],
)
def test_bad_sequences_and_states_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
