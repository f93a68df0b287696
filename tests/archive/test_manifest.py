"""The manifest keeps what it is told, all or nothing; the status says the same to everybody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.archive.lease import Holder, Lease
from geoseg.archive.manifest import Manifest, Result, read_status, stem
from geoseg.errors import InvalidOption

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RESULTS = st.builds(
    Result,
    name=TEXT,
    location=TEXT,
    state=st.sampled_from(["pending", "running", "done", "partial", "failed", "quarantined"]),
    reason=TEXT,
    seconds=st.none() | st.floats(0, 1e6),
    features=st.none() | st.integers(0, 2**40),
    coverage=st.none() | st.floats(0, 1),
    tries=st.integers(0, 9),
    files=st.lists(TEXT, max_size=2).map(tuple),
    properties=st.dictionaries(TEXT, TEXT | st.floats(allow_nan=False) | st.none(), max_size=3),
    bbox=st.none() | st.tuples(*[st.floats(-180, 180)] * 4),
    bands=st.none() | st.lists(st.integers(1, 9), min_size=1).map(tuple),
)


@settings(max_examples=30)
@given(st.lists(RESULTS, max_size=5, unique_by=lambda one: one.name))
def test_what_is_put_comes_back_after_closing(
    tmp_path_factory: pytest.TempPathFactory, results: list[Result]
) -> None:
    folder = tmp_path_factory.mktemp("archive")
    with Manifest(folder) as manifest:
        manifest.put(results)
        manifest.write_status({"number": 7}, now=True)
    with Manifest(folder) as manifest:
        assert list(manifest.results()) == sorted(results, key=lambda one: one.name.encode())
        assert all(manifest.get(one.name) == one for one in results)
    (status,) = read_status(folder)
    assert status["number"] == 7
    shown = [json.loads(json.dumps(one.as_json())) for one in sorted(results, key=lambda r: r.name.encode())]
    assert status["scenes"] == shown


def test_a_text_that_is_no_utf8_is_escaped(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        manifest.put([Result("a", "/a.tif", reason="caf\udce9")])
        manifest.write_status({}, now=True)
    assert read_status(tmp_path)[0]["scenes"][0]["reason"] == "caf\\udce9"


@pytest.mark.parametrize("shard", [None, (2, 3)])
def test_a_run_whose_process_has_ended_is_not_running(tmp_path: Path, shard: tuple[int, int] | None) -> None:
    with Manifest(tmp_path, shard) as manifest:
        manifest.write_status({"running": True}, now=True)
    lease = tmp_path / f"{stem('lease', shard)}.json"
    assert read_status(tmp_path)[0]["running"] is False, "nobody holds it"
    with Lease(lease):
        assert read_status(tmp_path)[0]["running"] is True
    for host, running in ((Holder.here().host, False), ("elsewhere", True)):
        lease.write_text(json.dumps(asdict(replace(Holder.here(), host=host, started=1.0))))
        assert read_status(tmp_path)[0]["running"] is running


def test_a_put_that_fails_changes_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[Result]:
        yield Result("b", "/b.tif")
        raise RuntimeError

    with Manifest(tmp_path) as manifest:
        manifest.put([Result("a", "/a.tif")])
        with pytest.raises(RuntimeError):
            manifest.put(broken())
        assert [one.name for one in manifest.results()] == ["a"]


def test_shards_have_a_manifest_each_and_a_status_for_all(tmp_path: Path) -> None:
    for number in (1, 2):
        with Manifest(tmp_path, (number, 2)) as manifest:
            manifest.put([Result(f"scene{number}", "/a.tif", state="done")])
            manifest.write_status({}, now=True)
    assert [status["scenes"][0]["name"] for status in read_status(tmp_path)] == ["scene1", "scene2"]


def test_a_folder_that_is_no_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="no archive"):
        read_status(tmp_path)
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(InvalidOption, match="cannot be read"):
        read_status(tmp_path)


def test_a_status_is_not_written_too_often(tmp_path: Path) -> None:
    with Manifest(tmp_path) as manifest:
        manifest.write_status({"number": 1})
        manifest.write_status({"number": 2})
        assert read_status(tmp_path)[0]["number"] == 1
        manifest.write_status({"number": 3}, now=True)
    assert read_status(tmp_path)[0]["number"] == 3
