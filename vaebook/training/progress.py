"""Progress of long work: a bar where something can move, plain lines where nothing can."""

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """A bar over `total` steps above which finished lines stay.

    On a terminal this is tqdm. In Jupyter the same bar is text in one display that is updated in
    place: it needs no widgets, and what remains on the page at the end are the lines. Elsewhere
    (logs, pipes) only the lines are printed. ``enabled=False`` shows nothing.
    """

    def __init__(self, total: int, *, enabled: bool = True) -> None:
        shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        jupyter = type(shell).__name__ == "ZMQInteractiveShell"  # IPython has shells without it
        self.enabled, self.cell = enabled, _Cell() if enabled and jupyter else None
        # tqdm's disable=None shows the bar unless its file says that it is no terminal.
        shown = enabled and (jupyter or sys.stderr is not None)  # which it is without a console
        self.bar = tqdm(
            total=total, file=self.cell, leave=False, disable=None if shown else True,
            mininterval=0.5, ncols=self.cell and 88, dynamic_ncols=self.cell is None,
        )  # fmt: skip

    def step(self, note: str | None = None) -> None:
        """Count one step, and show `note` beside the bar from now on."""
        if note is not None:
            self.bar.set_postfix_str(note, refresh=False)
        try:
            self.bar.update()
        except (OSError, ValueError):  # a terminal that is gone must not end the work
            self.bar.disable = True

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if self.cell is not None:
            self.cell.lines.append(text)
            self.cell.show()
        elif self.enabled:
            try:
                with tqdm.external_write_mode():
                    print(text, flush=True)
            except (OSError, ValueError):  # a closed pipe or file must not end the work
                self.enabled = False

    def close(self) -> None:
        """Remove the bar and leave the lines."""
        self.bar.close()
        if self.cell is not None:
            self.cell.write("")


class _Cell:
    """A file for tqdm to write to, shown as one updatable output of a Jupyter cell."""

    def __init__(self) -> None:
        from IPython.display import display

        self.lines: list[str] = []
        self.bar = ""
        self.handle: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def write(self, text: str) -> None:
        self.bar = text.strip("\r\n ")
        self.show()

    def show(self) -> None:
        text = "\n".join(filter(None, [*self.lines, self.bar]))
        self.handle.update({"text/plain": text}, raw=True)

    def flush(self) -> None: ...
