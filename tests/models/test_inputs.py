import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoseg.models.inputs import InputSpec, fill_invalid
from geoseg.values import Patch

RGB = InputSpec(("red", "green", "blue"), "uint8", 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def plain(bands: int) -> InputSpec:
    return InputSpec(tuple(f"b{i}" for i in range(bands)), "float32", 1.0, (0.0,) * bands, (1.0,) * bands)


@st.composite
def patches(draw: st.DrawFn) -> Patch:
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 33), st.integers(1, 33)))
    dtype = draw(st.sampled_from(["uint8", "uint16", "int16", "float32"]))
    finite = {"allow_nan": False, "allow_infinity": False, "width": 16} if dtype == "float32" else None
    elements = st.floats(**finite) if finite else hnp.from_dtype(np.dtype(dtype))
    pixels = draw(hnp.arrays(dtype, shape, elements=elements))
    return Patch(pixels, draw(hnp.arrays(bool, shape[1:])))


@given(patches(), st.sampled_from([np.nan, np.inf, -np.inf, 1e300]))
def test_what_invalid_pixels_hold_changes_nothing(patch: Patch, poison: float) -> None:
    pixels = patch.pixels.astype(np.float64)
    poisoned = np.where(patch.valid, pixels, poison)
    spec = plain(len(pixels))
    clean = spec.prepare(Patch(pixels, patch.valid))
    assert np.isfinite(clean).all()
    np.testing.assert_array_equal(spec.prepare(Patch(poisoned, patch.valid)), clean)


@given(patches())
def test_valid_pixels_keep_their_values_and_filled_ones_stay_between_them(patch: Patch) -> None:
    if not patch.valid.any():
        return
    out = fill_invalid(patch.pixels, patch.valid)
    assert out.dtype == np.float32
    for band, before in zip(out, patch.pixels.astype(np.float32), strict=True):
        known = before[patch.valid]
        np.testing.assert_array_equal(band[patch.valid], known)
        assert known.min() <= band.min()
        assert band.max() <= known.max()


@given(patches(), st.floats(-1e6, 1e6, width=32))
def test_a_constant_scene_stays_constant(patch: Patch, value: float) -> None:
    if not patch.valid.any():
        return
    constant = np.full(patch.pixels.shape, value, np.float32)
    assert np.unique(fill_invalid(constant, patch.valid)).tolist() == [np.float32(value)]


def test_a_hole_takes_the_values_around_it_and_not_those_far_away() -> None:
    pixels = np.zeros((1, 64, 64), np.uint8)
    pixels[:, :, 32:] = 200
    valid = np.ones((64, 64), bool)
    valid[20:24, 50:54] = False
    assert np.unique(fill_invalid(pixels, valid)[0, 20:24, 50:54]).tolist() == [200]


def test_normalization_is_the_formula() -> None:
    pixels = np.array([0, 51, 255], np.uint8).repeat(2).reshape(3, 1, 2)
    out = RGB.prepare(Patch(pixels, np.ones((1, 2), bool)))
    np.testing.assert_allclose(out[:, 0, 0], [-1, -0.6, 1], atol=1e-6)
    assert out.dtype == np.float32


def test_a_patch_without_valid_pixels_is_the_mean() -> None:
    out = RGB.prepare(Patch(np.full((3, 4, 5), 7, np.uint8), np.zeros((4, 5), bool)))
    assert not out.any()


def test_the_patch_is_left_as_it_was() -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(1, 3, 4)
    before = pixels.copy()
    InputSpec(("gray",), "float32", 2.0, (1.0,), (3.0,)).prepare(Patch(pixels, np.ones((3, 4), bool)))
    np.testing.assert_array_equal(pixels, before)


def test_another_number_of_bands_is_an_error() -> None:
    with pytest.raises(ValueError, match="4 bands for a model of 3"):
        RGB.prepare(Patch(np.zeros((4, 2, 2), np.uint8), np.ones((2, 2), bool)))


@pytest.mark.parametrize(
    ("bands", "scale", "mean", "std"),
    [
        ((), 1.0, (), ()),
        (("a",), 1.0, (0.0, 0.0), (1.0,)),
        (("a",), 1.0, (0.0,), (0.0,)),
        (("a",), 0.0, (0.0,), (1.0,)),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(bands, scale, mean, std) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=r"need|must"):
        InputSpec(bands, "uint8", scale, mean, std)
