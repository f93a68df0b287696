"""Where geoseg is: in a folder that the user names, on the PATH, or in an environment that uv makes."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path

from .process import run

PYTHON = ">=3.11,<3.15"
USUAL = ("~/.local/bin", "~/.cargo/bin")
"""Where programs of a user lie that a desktop does not have on its PATH."""

SETTINGS = "Settings → Options → Processing → Providers → geoseg"
DAY = 86400

_installing = threading.Lock()


class NoGeoseg(Exception):
    """There is no geoseg to run; the text says what to do."""


def find(named, home, wheel, uv, feedback):
    """Return the path of a geoseg that is not older than this plugin; install it where there is none.

    Parameters
    ----------
    named : str
        Folder that the user named, or an empty text.
    home : Path
        Folder for environments of geoseg's own.
    wheel : Path or None
        What the plugin carries.
    uv : str
        Path of uv, or an empty text.
    feedback : QgsProcessingFeedback

    Raises
    ------
    NoGeoseg
    """
    if named:
        found = _program("geoseg", named, f"{named}/bin", f"{named}/Scripts")
        if found is None:
            raise NoGeoseg(f"no geoseg in {named}: correct the folder in {SETTINGS}")
        return found
    found = _program("geoseg", os.environ.get("PATH", ""), *USUAL)
    if found is not None:
        return found
    if wheel is None:
        raise NoGeoseg(f"no geoseg on the PATH: install it, or name its folder in {SETTINGS}")
    with _installing:
        return _installed(home, wheel) or _install(home, wheel, uv, feedback)


def check_version(program, needed):
    """Refuse a geoseg that is older than the plugin, by one line.

    Raises
    ------
    NoGeoseg
    """
    try:
        code, printed = run([program, "--version"], lambda line: None, lambda: False)
    except OSError as error:
        raise NoGeoseg(f"{program}: does not start ({error.strerror}); see {SETTINGS}") from error
    found = re.search(r"\d+(\.\d+)+", printed)
    if code or not found:
        raise NoGeoseg(f"{program}: does not tell its version; see {SETTINGS}")
    if _numbers(found[0]) < _numbers(needed):
        raise NoGeoseg(
            f"{program}: geoseg {found[0]} is older than this plugin, which needs {needed}: update it, "
            f"or name the folder of another one in {SETTINGS}"
        )


def _numbers(version):
    return [int(part) for part in version.split(".")]


def _program(name, *folders):
    path = os.pathsep.join(os.path.expanduser(folder) for folder in folders)
    return shutil.which(name, path=path)


def _installed(home, wheel):
    """Return geoseg of the environment that was made of this wheel."""
    pointer = home / f"{_digest(wheel)}.txt"
    try:
        folder = pointer.read_text(encoding="utf-8")
    except OSError:
        return None
    return _program("geoseg", f"{folder}/bin", f"{folder}/Scripts")


def _digest(wheel):
    return hashlib.sha256(wheel.read_bytes()).hexdigest()[:16]


def _install(home, wheel, uv, feedback):
    """Make an environment; what points to it is written last, so that none is used in part."""
    uv = uv or _program("uv", os.environ.get("PATH", ""), *USUAL)
    if uv is None:
        raise NoGeoseg(
            "geoseg is not installed, nor is uv, which would install it: install uv (docs.astral.sh/uv), "
            f"or name the folder of geoseg in {SETTINGS}"
        )
    home.mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="env-", dir=home)
    feedback.pushInfo(f"Installing geoseg into {folder}, once: this loads some 300 MB.")
    said = []

    def listen(line):
        said.append(line.strip())
        if line[:1].isalpha():  # not the list of what was installed
            feedback.setProgressText(line.strip())
        loaded, all_of_them = (
            sum(one.startswith(word) for one in said) for word in ("Downloaded", "Downloading")
        )
        feedback.setProgress(90 * loaded / max(all_of_them, 1))

    steps = (
        [uv, "venv", "--clear", "--python", PYTHON, folder],
        [uv, "pip", "install", "--python", folder, str(wheel)],
    )
    for step in steps:
        try:
            code, _ = run(step, listen, feedback.isCanceled)
        except OSError as error:
            code = 1
            said.append(f"{uv}: {error.strerror}")
        if code:
            shutil.rmtree(folder, ignore_errors=True)
            if feedback.isCanceled():
                raise NoGeoseg("canceled: geoseg is not installed")
            raise NoGeoseg(_reason(said))
    waiting = Path(folder, "pointer")
    waiting.write_text(folder, encoding="utf-8")
    pointer = home / f"{_digest(wheel)}.txt"
    os.replace(waiting, pointer)
    _remove_old(home, pointer)
    feedback.setProgress(0)
    return _installed(home, wheel)


def _reason(said):
    """Say in one line why uv failed."""
    text = " ".join(said)
    for sign in ("dns error", "connect", "network", "timed out", "resolve host"):
        if sign in text.lower():
            return (
                "geoseg could not be installed, as there is no network: connect, or install geoseg elsewhere "
                f"and name its folder in {SETTINGS}"
            )
    if "no space left" in text.lower():
        return "geoseg could not be installed, as the disk is full: it takes 900 MB in the profile of QGIS"
    last = next((one for one in reversed(said) if one), "uv said nothing")
    last = re.sub("^[^a-z]*((error|cause): )?", "", last, flags=re.IGNORECASE)
    return f"geoseg could not be installed: {last}"


def _remove_old(home, pointer):
    """Remove environments of other wheels, and those left unfinished, unless they may be in the making."""
    used = pointer.read_text(encoding="utf-8")
    for path in home.glob("*.txt"):
        if path != pointer:
            path.unlink()
    for path in home.glob("env-*"):
        if str(path) != used and time.time() - path.stat().st_mtime > DAY:
            shutil.rmtree(path, ignore_errors=True)
