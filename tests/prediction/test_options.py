"""The options of a prediction: what is taken, what is refused and how."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import geoseg
from geoseg.errors import GeosegError, InvalidOption
from geoseg.evaluation import EvaluateOptions
from geoseg.options import flag
from geoseg.prediction.options import PredictOptions, parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("512MiB", 512 * 2**20), ("1.5 gb", 1_500_000_000), ("4096", 4096), ("1kB", 1000)],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_memory(text) == PredictOptions(max_memory=text).max_memory == size


@pytest.mark.parametrize("text", ["", "GB", "2 XB", "-1GB", "2GB2"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match=r"--max-memory must be a size .* such as 2GB"):
        PredictOptions(max_memory=text)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"bands": "4,3,2"}, (4, 3, 2)),
        ({"bands": [4, 3, 2]}, (4, 3, 2)),
        ({"bands": "4"}, (4,)),
        ({"bands": 4}, (4,)),
        ({"stretch": "0,3000"}, (0.0, 3000.0)),
        ({"stretch": "none"}, "none"),
        ({"stretch": (1, 2)}, (1.0, 2.0)),
        ({"threshold": "0.4"}, 0.4),
        ({"threshold": np.float32(0.5)}, 0.5),
        ({"tile": np.int64(512)}, 512),
        ({"tile": 512.0}, 512),
        ({"bbox": np.array([1, 2, 3, 4.5])}, (1.0, 2.0, 3.0, 4.5)),
        ({"bbox": "1,2,3,4"}, (1.0, 2.0, 3.0, 4.0)),
        ({"aoi": "area.gpkg"}, Path("area.gpkg")),
        ({"model": Path("models/mine")}, "models/mine"),
        ({"crs": 4326}, "EPSG:4326"),
        ({"overwrite": "true"}, True),
    ],
)
def test_what_means_the_same_is_taken(given: dict[str, Any], taken: object) -> None:
    (name,) = given
    assert getattr(PredictOptions(**given), name) == taken


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"threshold": 0.0}, "--threshold must be more than 0 or auto, not 0.0"),
        ({"threshold": 1.5}, "--threshold must be less than 1 or auto, not 1.5"),
        ({"threshold": "high"}, "--threshold must be a number or auto, not 'high'"),
        ({"simplify": -1.0}, "--simplify must be 0 or more or auto, not -1.0"),
        ({"min_area": "inf"}, "--min-area must be a finite number or auto, not 'inf'"),
        ({"tile": 512.5}, "--tile must be a whole number or auto, not 512.5"),
        ({"batch": 0}, "--batch must be 1 or more or auto, not 0"),
        ({"overlap": -1}, "--overlap must be 0 or more or auto, not -1"),
        ({"workers": 0}, "--workers must be 1 or more, not 0"),
        ({"bands": (0, 1)}, "--bands must be 1 or more, not 0"),
        ({"bands": "4,x"}, "--bands must be a whole number, not 'x'"),
        ({"bands": ()}, "--bands must be a list of 1 or more, not ()"),
        ({"bbox": (1, 2, 3)}, "--bbox takes the four numbers W S E N, not (1, 2, 3)"),
        ({"stretch": "5,5"}, "--stretch needs LOW below HIGH, not 5,5"),
        ({"stretch": "nan,1"}, "--stretch needs LOW below HIGH, not nan,1"),
        ({"stretch": "1,2,3"}, "--stretch takes auto, none or LOW,HIGH, not '1,2,3'"),
        ({"stretch": "a"}, "--stretch must be a list of values, auto or none, not 'a'"),
        ({"precision": "int4"}, "--precision must be auto, f32, bf16 or int8, not 'int4'"),
        ({"model": 5}, "--model must be text, not 5"),
        ({"treshold": 0.5}, "--treshold: no such option; did you mean --threshold?"),
        ({"workers": 2, "scheduler": "tcp://a:1"}, "--workers and --scheduler exclude each other"),
        ({"aoi": "a.gpkg", "bbox": (1, 2, 3, 4)}, "--aoi and --bbox exclude each other"),
    ],
)
def test_what_is_wrong_is_one_line(wrong: dict[str, Any], line: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        PredictOptions(**wrong)
    assert str(caught.value) == line
    with pytest.raises(InvalidOption) as caught:
        geoseg.predict("no_such_scene.tif", **wrong)
    assert str(caught.value) == re.sub("--([a-z-]+)", lambda name: name[1].replace("-", "_"), line)


anything = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.floats() | st.text())
)
names = st.sampled_from([*PredictOptions.model_fields, *EvaluateOptions.model_fields]) | st.text()


@given(st.dictionaries(names, anything, max_size=4), st.sampled_from([PredictOptions, EvaluateOptions]))
def test_anything_gives_options_or_one_line(values: dict[str, Any], kind: type[PredictOptions]) -> None:
    try:
        options = kind(**values)
    except GeosegError as error:
        line = str(error)
        assert line.splitlines() == [line]
        return
    assert kind(**options.model_dump()) == options
    assert pickle.loads(pickle.dumps(options)) == options
    assert hash(options) == hash(kind(**values))


def test_options_are_frozen() -> None:
    options = PredictOptions()
    with pytest.raises(ValueError, match="frozen"):
        options.tile = 512  # type: ignore[misc]


@pytest.mark.parametrize("kind", [PredictOptions, EvaluateOptions])
def test_every_option_says_what_it_does(kind: type[PredictOptions]) -> None:
    described = kind.model_json_schema()["properties"]
    for name in kind.model_fields:
        assert described[name]["description"].endswith("."), flag(name)
