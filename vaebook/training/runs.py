"""The folder of a run: one process at a time has it, and it holds what the run began with."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from vaebook.checks import wrong
from vaebook.training.checkpoints import read, write_file
from vaebook.training.history import rows_in
from vaebook.training.listeners import Listener, Run

CHECKPOINT, CONFIG, TABLE = "model.safetensors", "config.json", "history.csv"
LOCK = ".lock"


class Terminated(BaseException):
    """The process has been asked to end, by SIGTERM."""


@contextmanager
def terminable(wanted: bool) -> Iterator[None]:
    """Raise `Terminated` in a block when the process is asked to end."""
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


@contextmanager
def claimed(out: Path, wanted: bool) -> Iterator[None]:
    """Hold a folder for this process, and leave none behind that is new and empty.

    Raises a ValueError where another process holds it or nothing can be written.
    """
    if not wanted:
        yield
        return
    new = [folder for folder in (out, *out.parents) if not folder.exists()]
    with ExitStack() as last:
        for folder in reversed(new):
            last.callback(_remove_empty, folder)
        try:
            out.mkdir(parents=True, exist_ok=True)
            handle = _lock(out / LOCK)
        except BlockingIOError:
            raise wrong("--out", "a folder of its own", f"{out}, where a run is going on") from None
        except OSError as error:
            got = f"{out} ({error.strerror})"
            raise wrong("--out", "a folder that can be written", got) from None
        try:
            # Nobody else writes here now: these are of writers that were killed.
            for name in (CHECKPOINT, CONFIG, TABLE, "*.png"):
                for part in out.glob(f".{name}.{'[0-9a-f]' * 8}"):
                    part.unlink(missing_ok=True)
            yield
        finally:
            with suppress(OSError):  # Windows removes no open file
                (out / LOCK).unlink()
            os.close(handle)


def _lock(path: Path) -> int:
    """Open and lock a file; the system lets go of it when the process ends, however it does."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(handle)
            raise BlockingIOError from None
        except OSError:
            return handle  # a file system without locks
        # Whoever had it may have removed the file after it was opened here.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


class Begun(Listener):
    """Leave the settings of a run in its folder as soon as it begins."""

    def __init__(self, out: Path, config: dict[str, Any]) -> None:
        self.path, self.config = out / CONFIG, config

    def on_start(self, run: Run) -> None:
        """Write them: all arguments have been found to fit."""
        if run.team.rank == 0:
            config = self.config | {"provenance": run.history.provenance}
            text = json.dumps(config, indent=2, ensure_ascii=False)
            write_file(self.path, text.encode("utf-8"))


def settings_in(out: Path) -> dict[str, Any]:
    """Return the settings with which the run in a folder began, as they would be typed.

    Raises a ValueError if there is none.
    """
    path = out / CONFIG
    if not path.is_file():
        if (out / CHECKPOINT).is_file():
            return {}
        raise wrong("--resume", "a run in the folder --out", f"{out}, which holds none")
    try:
        settings = json.loads(path.read_text("utf-8"))["settings"]
        sides = {name: "x".join(map(str, v)) for name, v in settings.items() if type(v) is list}
        typed = {name: None if v is None else str(v) for name, v in settings.items()} | sides
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it has no settings ({error})") from None
    return typed


def kept_in(out: Path) -> str:
    """Say what of a run that was stopped is in its folder."""
    try:
        epoch = rows_in(*read(out / CHECKPOINT))[-1]["epoch"]
        return f"epoch {epoch} is kept; train --resume --out {out} goes on from it"
    except (ValueError, OSError):
        return f"no epoch of it is in {out}"
