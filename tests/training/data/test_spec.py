"""What a recipe may say about data."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from geoseg.training.data.spec import ChipsSpec, DataSpec, Draws, Place, SceneSpec, ValidationSpec


@pytest.mark.parametrize(
    ("section", "content", "message"),
    [
        (ChipsSpec, {}, "either an index, or the folders"),
        (ChipsSpec, {"index": "i.csv", "images": "a", "masks": "b"}, "either an index, or the folders"),
        (ChipsSpec, {"images": "a"}, "either an index, or the folders"),
        (DataSpec, {}, "at least one scene"),
        (
            DataSpec,
            {"scenes": [{"scene": name, "labels": "l"} for name in ("x/a.tif", "a.jp2")]},
            "'a'",
        ),
        (
            DataSpec,
            {
                "chips": [{"index": "i.csv"}],
                "classes": [{"id": i, "name": "Road", "color": (0, 0, 0)} for i in (1, 2)],
            },
            "same id or name",
        ),
        (ValidationSpec, {}, "hold out"),
        (ValidationSpec, {"scenes": ["a"], "places": [{"name": "a", "source": "s"}]}, "same name"),
        (Draws, {"smallest_m": 0.5}, "smallest_m <= resolution_m"),
        (SceneSpec, {"scene": "a", "labels": "b", "layr": "c"}, "Extra inputs"),
    ],
)
def test_contradictions_are_refused(section, content, message):
    with pytest.raises(ValidationError, match=message):
        section.model_validate(content)


def test_titles_and_places():
    assert SceneSpec(scene="s3://bucket/deep/a.b.tif", labels=None).title == "a.b"
    place = Place(name="x", source="in*", stems=("a*", "b"))
    assert place.holds("inria", "austin")
    assert not place.holds("inria", "bc")
    assert not place.holds("whu", "b")


@pytest.mark.slow
def test_the_sections_load_nothing_heavy():
    script = (
        "import sys, geoseg.training.data.spec\n"
        "heavy = {'torch', 'rasterio', 'shapely', 'pyproj', 'pandas', 'lightning'}\n"
        "assert not heavy & {name.split('.')[0] for name in sys.modules}, heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
