"""The plugin with processes: geoseg where it is found, made or missing, and stopped."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from tests.qgis.plugin import Feedback, environment, process

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="the programs of these tests are shell scripts"),
]


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def never() -> bool:
    return False


def test_both_streams_are_read_to_their_ends(tmp_path: Path) -> None:
    talking = program(tmp_path / "a b ä'" / "talk", "echo out; echo one >&2; seq 20000; echo two >&2; exit 1")
    lines: list[str] = []
    code, printed = process.run([str(talking)], lines.append, never)
    assert code == 1
    assert printed.splitlines() == ["out", *map(str, range(1, 20001))]
    assert lines == ["one\n", "two\n"]


def test_a_process_that_is_stopped_ends_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself where it heeds an interrupt, and killed where it does not."""
    polite = program(
        tmp_path / "polite", "trap 'echo bye >&2; exit 130' INT; echo hi >&2; while :; do sleep 0.05; done"
    )
    deaf = program(tmp_path / "deaf", "trap '' INT; echo hi >&2; exec sleep 600")
    lines: list[str] = []
    monkeypatch.setattr(process, "PATIENCE", 60)
    assert process.run([str(polite)], lines.append, lambda: bool(lines))[0] == 130
    assert lines == ["hi\n", "bye\n"]
    monkeypatch.setattr(process, "PATIENCE", 0.5)
    assert process.run([str(deaf)], lines.append, lambda: len(lines) == 3)[0] == -9


def test_geoseg_is_found_in_a_named_folder_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path, named = program(tmp_path / "path/geoseg", ":"), program(tmp_path / "env/bin/geoseg", ":")
    monkeypatch.setenv("PATH", f"{on_path.parent}:{os.environ['PATH']}")
    assert environment.find("", tmp_path / "home", None, "", Feedback()) == str(on_path)
    for folder in (named.parent, named.parent.parent):
        assert environment.find(str(folder), tmp_path / "home", None, "", Feedback()) == str(named)
    with pytest.raises(environment.NoGeoseg, match=r"no geoseg in .*other: correct the folder"):
        environment.find(str(tmp_path / "other"), tmp_path / "home", None, "", Feedback())


UV = """
case $1 in
venv) mkdir -p "$5/bin";;
pip) echo "Downloading numpy" >&2; echo "Downloaded numpy" >&2
     printf '#!/bin/sh\\necho geoseg, version 9.0.0\\n' > "$4/bin/geoseg"; chmod +x "$4/bin/geoseg";;
esac
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder for environments on a machine without geoseg and uv, beside a wheel."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(environment, "USUAL", ())
    (tmp_path / "geoseg.whl").write_bytes(b"wheel")
    return tmp_path / "pröfile of 'me'" / "geoseg"


def test_geoseg_is_installed_once(tmp_path: Path, home: Path) -> None:
    uv, wheel, feedback = program(tmp_path / "uv", UV), tmp_path / "geoseg.whl", Feedback()
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(environment.find("", home, wheel, str(uv), feedback)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == environment.find("", home, wheel, "", feedback)
    assert len(list(home.glob("env-*"))) == len(feedback.told) == 1
    wheel.write_bytes(b"a newer wheel")
    os.utime(Path(found[0]).parents[1], (0, 0))
    newer = environment.find("", home, wheel, str(uv), feedback)
    assert newer != found[0]
    assert [str(one) for one in home.glob("env-*")] == [str(Path(newer).parents[1])]


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (
            "echo 'error: Failed to fetch' >&2; echo '  Caused by: dns error' >&2; exit 2",
            "there is no network",
        ),
        ("echo 'error: No space left on device' >&2; exit 2", "as the disk is full"),
        ("echo 'error: no such wheel' >&2; exit 2", "installed: no such wheel"),
        (None, "nor is uv, which would install it: install uv"),
    ],
)
def test_what_hinders_the_installation_is_told_in_a_line(
    tmp_path: Path, home: Path, script: str | None, line: str
) -> None:
    uv = str(program(tmp_path / "uv", script)) if script else ""
    with pytest.raises(environment.NoGeoseg, match=line) as caught:
        environment.find("", home, tmp_path / "geoseg.whl", uv, Feedback())
    assert "\n" not in str(caught.value)
    assert not home.exists() or not list(home.iterdir())


def test_an_installation_that_is_stopped_leaves_nothing(tmp_path: Path, home: Path) -> None:
    feedback = Feedback()
    feedback.canceled = True
    with pytest.raises(environment.NoGeoseg, match="canceled"):
        environment.find(
            "", home, tmp_path / "geoseg.whl", str(program(tmp_path / "uv", "exec sleep 60")), feedback
        )
    assert not list(home.iterdir())
