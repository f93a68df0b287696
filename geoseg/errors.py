"""The errors that geoseg raises for foreseeable failures.

One root to catch, and still the builtin that a caller expects::

    GeosegError                     exit code 2
    ├── UnreadableScene             (OSError)     a scene or window that GDAL cannot read
    ├── InvalidModel                (ValueError)  a model folder, card or file that is wrong or unsafe
    ├── InvalidOption               (ValueError)  options that contradict each other or the input
    ├── UnwritableOutput            (OSError)     an output that exists, or that cannot be written
    │   └── NoSpaceLeft                           the disk is full, or a quota or limit is reached
    ├── MissingExtra                (ImportError) what comes with an extra that is not installed
    ├── BackendUnavailable          (RuntimeError) a backend or device that this machine lacks
    └── OutOfDeviceMemory           (MemoryError) a batch that did not fit on the device

Every message is one line that names the thing and says what to do about it.
"""

from __future__ import annotations

import contextlib
import difflib
import threading
import warnings
from collections.abc import Iterable, Iterator

_silence = threading.Lock()


class GeosegError(Exception):
    """Root of all errors that geoseg raises on purpose.

    Attributes
    ----------
    exit_code : int
        What the command line exits with: 2, bad input or usage.
    """

    exit_code = 2


class UnreadableScene(GeosegError, OSError):
    """A scene, or a window of it, that cannot be read."""


class InvalidModel(GeosegError, ValueError):
    """A model folder, card or weights file that is wrong, incomplete or unsafe."""


class InvalidOption(GeosegError, ValueError):
    """Options that contradict each other or do not fit the input."""


class UnwritableOutput(GeosegError, OSError):
    """An output that exists already, has no known format, or cannot be written."""


class NoSpaceLeft(UnwritableOutput):
    """A file that had no room to grow: the disk is full, or a quota or limit is reached."""


class BackendUnavailable(GeosegError, RuntimeError):
    """A backend or device that is not available on this machine."""


class MissingExtra(GeosegError, ImportError):
    """Something that needs an extra of geoseg's.

    Parameters
    ----------
    what : str
        What was asked for: the subject of "needs".
    extra : str
        Name of the extra.

    Examples
    --------
    >>> print(MissingExtra("device cuda", "torch"))
    device cuda needs geoseg[torch]: pip install 'geoseg[torch]'
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, extra)  # what a pickle is made of again, as workers of a cluster send errors

    def __str__(self) -> str:
        what, extra = self.args
        return f"{what} needs geoseg[{extra}]: pip install 'geoseg[{extra}]'"


class OutOfDeviceMemory(MemoryError, GeosegError):  # the other way round dask could not unpickle it
    """A batch that did not fit into the device's memory; a smaller one may."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return what a misspelt word may have meant, or what there is, to end a message with.

    Examples
    --------
    >>> suggest("raod", ["building", "Road"])
    "did you mean 'Road'?"
    >>> suggest("x", ["building", "Road"])
    'there are building, Road'
    """
    names = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), names, 1)
    if near:
        return f"did you mean {names[near[0]]!r}?"
    return (
        f"there {'is' if len(names) == 1 else 'are'} {', '.join(names.values())}"
        if names
        else "there is none"
    )


@contextlib.contextmanager
def silenced(kind: type[Warning], message: str = "") -> Iterator[None]:
    """Silence a kind of Python's warnings, which geoseg tells in its own words.

    `warnings.catch_warnings` is process-global, so entering and leaving are serialized.

    Parameters
    ----------
    kind : type
        Category of the warning.
    message : str
        Regular expression that its text begins with.
    """
    with _silence, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, kind)
        yield
