"""What a network takes is counted once, and a damaged note of it is not believed."""

import json
from pathlib import Path

import pytest

from geoseg.backends import footprint as module
from geoseg.backends.footprint import footprint
from geoseg.backends.select import load_predictor
from geoseg.models.bundle import Bundle


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "geoseg" / "activations"


@pytest.mark.slow
def test_activations_are_counted_once(binary: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = load_predictor(binary, device="cpu", precision="f32")
    first = footprint(binary, predictor, 2)
    assert (first.pixel > 0, first.requests) == (True, 2)

    def again(*_: object) -> int:
        raise AssertionError("it is known")

    monkeypatch.setattr(module, "alive_at_once", again)
    assert footprint(binary, predictor, 2) == first


@pytest.mark.parametrize(
    "noted", [None, "many", [], {}, True, -1.0, float("nan"), float("inf"), 10**400, {"activations": 1.0}]
)
def test_a_note_that_is_no_number_of_bytes_is_not_believed(
    binary: Bundle, folder: Path, noted: object
) -> None:
    predictor = load_predictor(binary, device="cpu", precision="f32")
    first = footprint(binary, predictor, 2)
    (path,) = folder.iterdir()
    content = path.read_text()
    path.write_text(json.dumps(noted))
    assert footprint(binary, predictor, 2) == first
    assert path.read_text() == content
