"""What the architecture promises about imports, checked by reading and by running."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "geoseg"

# From top to bottom; rooms on one line do not know each other.
LAYERS = (
    {"__main__"},
    {"cli"},
    {"serve"},
    {"recipes"},
    {"archive"},
    {"training", "review"},
    {"evaluation"},
    {"assessment"},
    {"prediction"},
    {"labels"},
    {"backends"},
    {"models"},
    {"vector", "raster"},
    {"vectorfiles"},
    {"metrics", "grid"},
    {"options", "recipefiles"},
    {"files", "values"},
    {"errors"},
)
ANYWHERE = {"testing", "__init__"}


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def level(name: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if name in layer)


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


IMPORTED = {path: imports(path) for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {
    path: {name for name in names if name.split(".")[0] == "geoseg"} for path, names in IMPORTED.items()
}


def test_a_room_imports_only_from_rooms_below() -> None:
    wrong = []
    for path, names in MODULES.items():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own not in ANYWHERE:
            rooms = {(room(name), name) for name in names if room(name) != own}
            wrong += [f"{path}: {name}" for other, name in sorted(rooms) if level(other) <= level(own)]
    assert not wrong


def test_every_room_has_its_place() -> None:
    rooms = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in MODULES}
    assert rooms - ANYWHERE == set.union(*LAYERS)


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {dotted(path): path for path in MODULES}
    below = {
        name: {other if other in modules else other.rpartition(".")[0] for other in MODULES[path]} - {name}
        for name, path in modules.items()
    }
    while leaves := {name for name, others in below.items() if not others & below.keys()}:
        below = {name: others for name, others in below.items() if name not in leaves}
    assert not below, sorted(below)


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def test_dask_is_known_to_the_schedulers_alone() -> None:
    knowing = {
        path.relative_to(PACKAGE).as_posix()
        for path, names in IMPORTED.items()
        if {name.split(".")[0] for name in names} & {"dask", "distributed"}
    }
    assert "prediction/schedulers.py" in knowing
    assert {name for name in knowing if not name.startswith("archive/")} == {
        "prediction/schedulers.py",
        "prediction/cluster.py",
    }


def test_the_quick_tests_import_no_pytorch() -> None:
    wrong = [
        path.name
        for path in Path(__file__).parent.rglob("test_*.py")
        if "\npytestmark = pytest.mark.slow" not in (text := path.read_text(encoding="utf-8"))
        and re.search(
            r"^(import|from) (torch|torchvision|lightning|segmentation_models_pytorch)\b", text, re.M
        )
    ]
    assert not wrong


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from geoseg.cli import main\n"
        "heavy = {'torch', 'openvino', 'onnxruntime', 'rasterio', 'geopandas', 'pandas', 'shapely', 'dask'}\n"
        "for command in '--help', 'predict --help', 'evaluate --help', '--version':\n"
        "    sys.argv = ['geoseg', *command.split()]\n"
        "    try:\n        main()\n    except SystemExit as stop:\n        assert not stop.code, stop.code\n"
        "    loaded = heavy & {name.split('.')[0] for name in sys.modules}\n"
        "    assert not loaded, (command, loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
