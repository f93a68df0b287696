import dataclasses

import pytest

from geoseg.errors import InvalidOption
from geoseg.prediction.options import PredictOptions, parse_bands, parse_memory, parse_stretch


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("512MiB", 512 * 2**20), ("1.5 gb", 1_500_000_000), ("4096", 4096), ("1kB", 1000)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "GB", "2 XB", "-1GB", "2GB2"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="2GB"):
        parse_memory(text)


def test_bands_and_stretch_are_read() -> None:
    assert parse_bands("4,3,2") == (4, 3, 2)
    assert parse_stretch("0,3000") == (0.0, 3000.0)
    assert parse_stretch("none") == "none"


@pytest.mark.parametrize("text", ["a", "1", "1,2,3", "5,5", "9,1", "nan,1"])
def test_a_stretch_needs_two_ascending_numbers(text: str) -> None:
    with pytest.raises(InvalidOption, match="--stretch"):
        parse_stretch(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"threshold": 0.0},
        {"threshold": 1.5},
        {"simplify": -1.0},
        {"min_area": -1.0},
        {"batch": 0},
        {"overlap": -1},
        {"workers": 0},
        {"workers": 2, "scheduler": "tcp://localhost:1"},
        {"bands": (0, 1)},
        {"precision": "int4"},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidOption, match="--"):
        PredictOptions(**wrong)  # type: ignore[arg-type]


def test_every_option_says_what_it_does() -> None:
    for field in dataclasses.fields(PredictOptions):
        assert field.metadata["help"].endswith("."), field.name
