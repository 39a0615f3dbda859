"""Images to MPS."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import assert_close, dense

import ftnn
from ftnn.encoding import AmplitudeEncoder, ProductEncoder, site_order


def images(n, height, width, seed=0, dtype="float64"):
    return np.random.default_rng(seed).random((n, height, width)).astype(dtype)


@given(st.sampled_from([(1, 1), (3, 4), (8, 8), (4, 4)]), st.sampled_from(["row-major", "snake"]))
def test_orders_are_permutations(shape, order):
    assert sorted(site_order(*shape, order)) == list(range(shape[0] * shape[1]))


def test_quantics_sites_are_blocks_of_one_scale():
    order = site_order(8, 8, "quantics").reshape(4, 4, 4)
    rows, cols = order // 8, order % 8
    for coarse in range(4):  # the slowest site chooses a quadrant
        assert set((rows[coarse] // 4).ravel()) == {coarse // 2}
        assert set((cols[coarse] // 4).ravel()) == {coarse % 2}
    assert (rows[..., :] % 2 == [0, 0, 1, 1]).all()  # the fastest, a pixel of a 2 x 2 block
    assert (cols[..., :] % 2 == [0, 1, 0, 1]).all()


def test_snake_neighbours_are_neighbouring_pixels():
    order = site_order(5, 7, "snake")
    step = np.abs(np.diff(order // 7)) + np.abs(np.diff(order % 7))
    assert (step == 1).all()


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["quantics", "row-major", "snake"]))
def test_amplitude_encoding_is_exact(height, width, order):
    x = images(3, height, width)
    encoder = AmplitudeEncoder((height, width), order)
    side = encoder.padded
    padded = np.zeros((3, *side))
    top, left = (side[0] - height) // 2, (side[1] - width) // 2
    padded[:, top : top + height, left : left + width] = x
    expected = padded.reshape(3, -1)[:, site_order(*side, order)]
    assert_close(dense(encoder(x)), expected, condition=1e4)
    assert int(np.prod(encoder.phys_dims)) == side[0] * side[1]


def test_amplitude_encoding_truncates_to_the_tolerance():
    x = images(4, 16, 16)
    full, cut = (dense(AmplitudeEncoder((16, 16), rtol=r)(x)) for r in (0.0, 0.2))
    assert (np.linalg.norm(full - cut, axis=1) <= 0.2 * np.linalg.norm(full, axis=1)).all()
    assert max(AmplitudeEncoder((16, 16), max_bond=3)(x).bond_dims) == 3


@given(
    st.sampled_from([(1, 1), (2, 2), (2, 4)]),
    st.sampled_from([None, (1, 1), (2, 1)]),
    st.sampled_from(["row-major", "snake"]),
)
def test_patches_are_sites(patch, stride, order):
    down, right = stride or patch
    height, width = patch[0] + 2 * down, patch[1] + 4 * right
    x = images(3, height, width)
    encoder = ProductEncoder((height, width), patch, order, standardize="none", stride=stride)
    assert encoder.grid == (3, 5)
    cores = encoder.encode(x)
    sites = site_order(*encoder.grid, order)
    scale = 1 / np.sqrt(patch[0] * patch[1])
    for core, site in zip(cores, sites, strict=True):
        row, col = divmod(site, encoder.grid[1])
        block = x[:, row * down :, col * right :][:, : patch[0], : patch[1]]
        assert (core[:, 0, 0, 0] == 1).all()
        assert_close(core[:, 0, 1:, 0], scale * block.reshape(3, -1))


def test_trigonometric_features_have_norm_one():
    x = ProductEncoder((3, 3), features="trig", standardize="none")(images(2, 3, 3))
    assert_close(x.norm(), np.ones(2))


@pytest.mark.parametrize("standardize", ["pixel", "global"])
def test_standardization_comes_from_the_training_images_and_is_saved(standardize, tmp_path):
    train, test = 3 + 2 * images(50, 4, 4), images(5, 4, 4, seed=1)
    encoder = ProductEncoder((4, 4), (2, 2), standardize=standardize).fit(train)
    cores = encoder.encode(train)
    pixels = np.concatenate([core[:, 0, 1:, 0] for core in cores], axis=1) * 2  # scale 1/sqrt(4)
    assert abs(pixels.mean()) < 1e-10
    assert 0.8 < pixels.std() < 1.01
    model = ftnn.Readout((5,) * 4, 2, 2)
    ftnn.save(model, tmp_path / "model.safetensors", encoder)
    again = ftnn.load_encoder(tmp_path / "model.safetensors")
    for a, b in zip(encoder.encode(test), again.encode(test), strict=True):
        assert (a == b).all()


def test_blank_and_constant_images_are_encoded():
    blank = np.zeros((3, 4, 4))
    for encoder in (AmplitudeEncoder((4, 4)), ProductEncoder((4, 4)).fit(blank)):
        for core in encoder.encode(blank):
            assert np.isfinite(core).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: ProductEncoder((4, 4), (3, 3)), ValueError, "do not end where an image"),
        (lambda: ProductEncoder((4, 4), (5, 5)), ValueError, "do not end where an image"),
        (lambda: ProductEncoder((4, 4), (1, 1), stride=(2, 1)), ValueError, "do not end where"),
        (lambda: ProductEncoder((4, 4), (2, 2, 2)), ValueError, "expected .height, width. each"),
        (lambda: ProductEncoder((4, 4), features="cubic"), ValueError, "choose one of"),
        (lambda: ProductEncoder((4, 4), (2, 2), features="trig"), ValueError, "patch=.1, 1."),
        (lambda: ProductEncoder((4, 4), scale=0.0), ValueError, "scale is 0.0"),
        (lambda: ProductEncoder((3, 4), order="quantics"), ValueError, "power of two"),
        (lambda: AmplitudeEncoder((4, 4), dims=(4, 5)), ValueError, "multiply to 20"),
        (lambda: AmplitudeEncoder((4, 4), "spiral"), ValueError, "order is 'spiral'"),
        (lambda: AmplitudeEncoder((4,)), ValueError, "height, width"),
        (lambda: AmplitudeEncoder((4, 4), standardize="z"), ValueError, "standardize is 'z'"),
        (lambda: AmplitudeEncoder((4, 4))(np.ones((2, 4, 5))), ValueError, "expected .batch, 4, 4"),
        (lambda: AmplitudeEncoder((4, 4))(np.ones((0, 4, 4))), ValueError, "at least one image"),
        (lambda: AmplitudeEncoder((4, 4))(np.ones((2, 4, 4), "uint8")), TypeError, "uint8"),
        (lambda: AmplitudeEncoder((4, 4))(np.full((1, 4, 4), np.nan)), ValueError, "NaN"),
    ],
)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()
