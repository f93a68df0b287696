"""What is refused before a run over an archive begins, and which scenes it is to do."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import pytest

import geoseg
from geoseg.archive.cluster import KEPT
from geoseg.archive.coordinator import Progressed
from geoseg.archive.entries import Entry
from geoseg.archive.facts import Looked
from geoseg.archive.lease import LeaseHeld
from geoseg.archive.manifest import Manifest, Result
from geoseg.archive.options import BatchOptions
from geoseg.archive.places import Outcome, Places, left_behind, move_into_place, remove_runs
from geoseg.archive.preview import Preview, ScenePreview
from geoseg.archive.run import Summary, check_shards, run_batch
from geoseg.archive.selection import ELSEWHERE, GONE, why_do
from geoseg.cli import cli, run
from geoseg.cli.batch import BatchDisplay, preview_lines
from geoseg.errors import GeosegError, InvalidOption
from geoseg.options import named_as_in_python
from geoseg.prediction.options import PredictOptions
from geoseg.prediction.session import Session
from geoseg.testing import make_scene
from tests.runs import bright_model, least_memory

Shard = tuple[int, int] | None


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (None, (1, 2), "is done in one piece, not in 2 shards; go on without --shard, or give another --out"),
        ((1, 2), None, "is done in 2 shards, not in one piece; go on with --shard I/2"),
        ((3, 4), (1, 2), "is done in 4 shards, not in 2 shards; go on with --shard I/4"),
    ],
)
@pytest.mark.parametrize("redo", [False, True])
def test_an_archive_stays_divided_as_it_was(
    tmp_path: Path, before: Shard, now: Shard, told: str, redo: bool
) -> None:
    scene, out = make_scene(tmp_path / "a.tif"), tmp_path / "out"
    out.mkdir()
    with Manifest(out, before):
        pass
    with pytest.raises(InvalidOption) as refused:
        refuse(scene, out, BatchOptions(shard=now, redo=redo))
    assert told in str(refused.value)
    assert {path.name for path in out.iterdir()} == {next(out.glob("manifest*")).name}


def test_so_it_does_where_the_other_has_only_begun(tmp_path: Path) -> None:
    (tmp_path / "lease-1-of-2.json").write_text("{}")
    (tmp_path / "lease-merge.json").write_text("{}")
    check_shards(tmp_path, (2, 2))
    with pytest.raises(InvalidOption, match="in 2 shards"):
        check_shards(tmp_path, None)


def refuse(source: Path, out: Path, batch: BatchOptions | None = None, **options: object) -> None:
    run_batch([str(source)], out, PredictOptions(model=str(bright_model()), workers=1, **options), batch)  # type: ignore[arg-type]


def test_bands_that_do_not_fit_the_model_are_told_once(tmp_path: Path) -> None:
    scene = make_scene(tmp_path / "a.tif")
    with pytest.raises(InvalidOption, match="--bands 7,8: must name 3 bands"):
        refuse(scene, tmp_path / "out", bands=(7, 8))


@pytest.mark.parametrize("there", [False, True])
def test_a_result_where_a_folder_is_or_is_to_be_is_told_once(tmp_path: Path, there: bool) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    scenes.mkdir()
    make_scene(scenes / "a.tif")
    if there:
        (out / "a.parquet").mkdir(parents=True)
    else:
        (scenes / "a.parquet").mkdir()
        make_scene(scenes / "a.parquet" / "b.tif")
    with pytest.raises(InvalidOption, match=r"out/a\.parquet: is a folder, and .*scenes/a\.tif would"):
        refuse(scenes, out)


def test_a_folder_where_a_file_is_is_told_once(tmp_path: Path) -> None:
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    (scenes / "a.parquet").mkdir(parents=True)
    make_scene(scenes / "a.parquet" / "b.tif")
    out.mkdir()
    (out / "a.parquet").touch()
    with pytest.raises(InvalidOption, match=r"out/a\.parquet: is a file, and .*b\.tif needs a folder"):
        refuse(scenes, out)


def test_a_url_for_results_is_named_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(GeosegError, match=r"^s3://bucket/x: results need a folder"):
        refuse(make_scene(tmp_path / "a.tif"), Path("s3://bucket/x"))


def test_a_raster_that_is_wanted_elsewhere_is_made_again(tmp_path: Path) -> None:
    places = Places(tmp_path / "out", tmp_path / "r", "", ".parquet")
    for target in places.targets("a"):
        target.parent.mkdir()
        target.touch()
    known = Result("a", "/a.tif", "done", identity="i", digest="d", files=places.files("a"))
    assert why_do(known, known, "d", places, retried=False) == ""
    other = replace(places, raster=tmp_path / "r2")
    assert why_do(known, known, "d", other, retried=False) == ELSEWHERE
    os.remove(tmp_path / "r" / "a.tif")
    assert why_do(known, known, "d", places, retried=False) == GONE


def test_a_dashboard_that_cannot_be_drawn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.archive.cluster.find_spec", lambda _: None)
    with pytest.raises(GeosegError, match=r"^--dashboard needs geoseg\[dashboard\]: pip install"):
        refuse(make_scene(tmp_path / "a.tif"), tmp_path / "out", BatchOptions(dashboard=True))


@pytest.mark.slow
def test_what_was_inferred_is_kept_until_the_result_is_in_place(tmp_path: Path) -> None:
    """A worker may finish a scene while the run that asked for it ends: the next run puts it in place."""
    scene = make_scene(tmp_path / "a.tif", size=(300, 300))
    places = Places(tmp_path, None, ".run-1", ".parquet")
    places.token.parent.mkdir()
    chosen: dict[str, Any] = {"model": str(bright_model()), "tile": 64, "overlap": 16, "batch": 1}
    options = PredictOptions(**chosen, max_memory=least_memory(scene, **chosen))
    with Session(options) as session:
        session.predict(scene, places.targets("a")[0], staging=places.staged)
    assert list(tmp_path.glob(".a.parquet.geoseg/*.npz"))
    outcome = Outcome("a", "done", run=places.run)
    places.report("a").write_text(json.dumps(asdict(outcome)))
    remove_runs(places, own=True)
    again = replace(places, run=".run-2")
    assert list(left_behind(again)) == [outcome]
    assert move_into_place(again, outcome)
    remove_runs(again)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tif", "a.parquet"}


def test_in_python_a_refusal_asks_for_arguments(tmp_path: Path) -> None:
    scene, out = make_scene(tmp_path / "a.tif"), tmp_path / "out"
    out.mkdir()
    (out / "lease.json").write_text('{"host": "other", "pid": 1, "started": 1.0, "id": "a"}')
    with pytest.raises(LeaseHeld, match=r"if that run is no more, give take_over=True$"):
        geoseg.batch(scene, out, model=str(bright_model()))
    (out / "lease.json").unlink()
    with Manifest(out, (1, 2)):
        pass
    with pytest.raises(InvalidOption, match=r"with shard I/2, or give another out$"):
        geoseg.batch(scene, out, model=str(bright_model()), redo=True)
    with pytest.raises(InvalidOption) as refused, named_as_in_python(["redo"]):
        raise InvalidOption("give --redo")
    assert str(refused.value) == "give redo=True"


def test_whoever_interrupts_is_told_that_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for told, words in ((Looked(1, 2), ""), (Progressed(1, 2, 0, 0, 1.0), f"geoseg: {KEPT}\n")):
        with pytest.raises(KeyboardInterrupt), BatchDisplay() as display:
            display(told)
            raise KeyboardInterrupt
        assert capsys.readouterr().err == words


def test_a_quiet_run_tells_of_scenes_without_a_whole_result(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = "1 of 2 scenes have no whole result; geoseg batch --status"
    for state, words in (("done", ""), ("failed", told)):
        results = tuple(Result(name, f"{name}.tif", state=one) for name, one in (("a", "done"), ("b", state)))
        monkeypatch.setattr("geoseg.archive.run.run_batch", lambda *_, done=results, **__: Summary(done, 0))
        code = run(["batch", str(tmp_path), "--out", str(tmp_path / "out"), "--quiet"])
        said = capsys.readouterr().err
        assert (code == 1) == bool(words)
        assert words in said
        assert len(said.splitlines()) == bool(words)


def test_an_interruption_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> click.Command:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(cli), "get_command", interrupted)
    assert run(["batch"]) == 130
    assert capsys.readouterr().err == "geoseg: interrupted\n"


def test_little_room_is_not_none() -> None:
    scene = ScenePreview(Entry("a", "/a.tif"), None, "todo", "new")
    lines = preview_lines(Preview((scene,), {}, "", None, 5e4))
    assert "disk       less than 0.1 MB" in lines
