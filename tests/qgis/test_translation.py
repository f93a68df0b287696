"""What the plugin types for parameters, and tells of geoseg's lines; QGIS is not needed."""

from __future__ import annotations

import ast
import configparser
import doctest
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.cli import cli
from tests.qgis.plugin import FOLDER, Feedback, arguments, environment, messages, package, process
from tests.runs import REPOSITORY

ALGORITHMS: dict[str, dict[str, Any]] = {
    one["name"]: one for one in json.loads(package.PARAMETERS.read_text("utf-8"))
}
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="*/"), min_size=1).filter(
    str.strip
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "extent": st.tuples(*[st.floats(-1e7, 1e7)] * 4),
    "several": st.just("a.org b.org"),
    "sources": st.lists(TEXTS, min_size=1),
    "number": st.floats(-1e9, 1e9),
    "integer": st.integers(-9, 10**9),
    "flag": st.booleans(),
}


def test_parameters_are_those_of_the_command_line() -> None:
    assert package.PARAMETERS.read_text("utf-8") == package.written(), (
        "run python qgis/package.py --parameters"
    )


def test_the_plugin_is_as_old_as_geoseg() -> None:
    about = configparser.ConfigParser()
    about.read(FOLDER / "geoseg/metadata.txt", encoding="utf-8")
    assert f'\nversion = "{about["general"]["version"]}"\n' in (REPOSITORY / "pyproject.toml").read_text(
        "utf-8"
    )


def test_modules_are_python_of_the_oldest_qgis() -> None:
    modules = [*(FOLDER / "geoseg").glob("*.py")]
    assert modules
    for path in modules:
        ast.parse(path.read_text("utf-8"), path.name, feature_version=(3, 9))


@pytest.mark.parametrize("module", [arguments, messages, process], ids=lambda one: one.__name__)
def test_examples(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def values_of(parameter: dict[str, Any]) -> st.SearchStrategy[Any]:
    if parameter["kind"] == "choice":
        return st.sampled_from(parameter["choices"])
    if "layer" in parameter:
        return st.tuples(TEXTS, TEXTS | st.none())
    return VALUES.get(parameter["kind"], TEXTS)


@given(st.data(), st.sampled_from(sorted(ALGORITHMS)))
def test_the_command_line_takes_what_is_typed(data: st.DataObject, name: str) -> None:
    algorithm = ALGORITHMS[name]
    values = {
        one["name"]: data.draw(values_of(one) | st.none() if one["optional"] else values_of(one))
        for one in algorithm["parameters"]
    }
    typed = arguments.arguments(algorithm, values)
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    taken = command.make_context(name, list(typed[1:])).params
    for one in algorithm["parameters"]:
        value = values[one["name"]]
        if value is None:
            continue
        path, *layer = value if "layer" in one else [value]
        if layer and layer[0] is not None:
            assert taken[one["layer"].removeprefix("--").replace("-", "_")] == layer[0]
        assert plain(taken[one["name"]], one) == plain(path, one)


def plain(value: Any, parameter: dict[str, Any]) -> Any:
    """Return a value as the plugin and the command line both have it."""
    kind = parameter["kind"]
    if kind == "several":
        return tuple(value.split()) if isinstance(value, str) else value
    if kind in {"extent", "sources"}:
        return tuple(float(one) if kind == "extent" else one for one in value)
    return float(value) if kind in {"number", "integer"} else value if kind == "flag" else str(value)


def test_what_is_the_default_is_not_typed() -> None:
    """With a prediction, `geoseg evaluate` refuses options of a run, be they the defaults."""
    for name, algorithm in ALGORITHMS.items():
        values = {one["name"]: one["default"] for one in algorithm["parameters"]}
        assert len(arguments.arguments(algorithm, values)) <= 4, name


def heard(name: str, *lines: object) -> tuple[Any, Feedback]:
    feedback = Feedback()
    listener = messages.Listener(ALGORITHMS[name], feedback)
    for line in lines:
        listener(line if isinstance(line, str) else json.dumps(line))
    return listener, feedback


def test_progress_and_warnings_are_told() -> None:
    _, feedback = heard(
        "predict",
        {"event": "began", "total": 12, "unit": "blocks", "known": 3, "warnings": ["no CRS"]},
        {"event": "progress", "done": 6, "total": 12, "unit": "blocks", "left": 61.0},
        {"event": "of a newer geoseg"},
        "geoseg: note: attributes are left out",
        "3",
        '{"half',
    )
    assert feedback.told == ["12 blocks to do, 3 of them done before.", "3", '{"half']
    assert feedback.warned == ["no CRS", "attributes are left out"]
    assert (feedback.share, feedback.text) == (50.0, "6 of 12 blocks, about 1 min 1 s left")


def test_an_error_names_options_as_the_dialog_does() -> None:
    listener, feedback = heard(
        "predict", "geoseg: error: --min-area must be 0 or more, not -1; see --no-thing"
    )
    assert listener.error == "“Smallest area” must be 0 or more, not -1; see “--no-thing”"
    assert not feedback.told


def test_a_version_that_is_too_old_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "run", lambda *_: (0, "geoseg, version 0.9.2\n"))
    environment.check_version("geoseg", "0.9.2")
    with pytest.raises(
        environment.NoGeoseg, match=r"geoseg 0\.9\.2 is older than this plugin, which needs 0\.10\.0"
    ):
        environment.check_version("geoseg", "0.10.0")


def test_parts_of_a_work_are_told_together() -> None:
    """Each prints a summary: the run of a model before it is evaluated, an archive before it is merged."""
    listener, feedback = heard(
        "batch",
        {"event": "started", "command": "batch", "elapsed": 0.0},
        {"event": "done", "states": {"done": 2}, "before": 1, "left_out": {}, "exit_code": 0, "elapsed": 1.0},
        {
            "event": "done",
            "dataset": "out/all.parquet",
            "features": 1200,
            "states": {"done": 2},
            "exit_code": 0,
        },
    )
    assert not feedback.told
    listener.end("")
    assert feedback.told == [
        "Scenes: 2 done (1 of them before).",
        "1,200 polygons in all.",
        "Wrote out/all.parquet.",
    ]
