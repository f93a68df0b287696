"""A process that is listened to and can be stopped; knows nothing of QGIS."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time

PATIENCE = 10.0
"""Seconds that a process has to end by itself once it is asked to."""

FOREIGN = ("PYTHONHOME", "PYTHONPATH", "GDAL_DATA", "GDAL_DRIVER_PATH", "PROJ_LIB", "PROJ_DATA", "LD_PRELOAD")
"""Variables that QGIS sets for its own libraries; geoseg would load the wrong ones by them."""


def run(command, on_line, stopped):
    """Run a command to its end.

    Parameters
    ----------
    command : list of str
    on_line : callable
        Called with each line of stderr, in this thread.
    stopped : callable
        Asked ten times a second; once it says so, the process is interrupted, as by Ctrl-C.

    Returns
    -------
    tuple of int and str
        The exit code, and what was printed on stdout.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    hidden = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean(os.environ),
        encoding="utf-8",
        errors="replace",
        **hidden,
    )
    lines, printed = queue.Queue(), []
    threads = [
        threading.Thread(target=_read, args=(process.stderr, lines.put), daemon=True),
        threading.Thread(target=_read, args=(process.stdout, printed.append), daemon=True),
    ]
    for thread in threads:
        thread.start()
    asked = None
    while threads[0].is_alive() or not lines.empty():
        with contextlib.suppress(queue.Empty):
            on_line(lines.get(timeout=0.1))
        if asked is None and stopped():
            asked = time.monotonic()
            _interrupt(process)
        elif asked is not None and time.monotonic() - asked > PATIENCE:
            process.kill()
            break
    code = process.wait()
    threads[1].join(1)
    return code, "".join(printed)


def clean(environment):
    """Return the variables without those that QGIS sets for its own Python, GDAL and PROJ.

    >>> clean({"PATH": "/bin", "PYTHONHOME": "/qgis", "GDAL_DATA": "/qgis/gdal"})
    {'PATH': '/bin'}
    """
    kept = {key: value for key, value in environment.items() if key not in FOREIGN}
    return {**kept, "PYTHONUTF8": "1"} if os.name == "nt" else kept


def _read(stream, take):
    with stream:
        for line in stream:
            take(line)


def _interrupt(process):
    if os.name == "nt":  # no Ctrl-C without a console; what was inferred is kept all the same
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], check=False, capture_output=True)
    else:
        process.send_signal(signal.SIGINT)
