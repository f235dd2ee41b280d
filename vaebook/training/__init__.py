"""Training: the loop, what listens to it, and what it leaves."""

from vaebook.training.checkpoints import load_model, save
from vaebook.training.devices import pick_device, provenance
from vaebook.training.history import History
from vaebook.training.listeners import EarlyStopping, Listener, Run
from vaebook.training.loop import evaluate, fit
from vaebook.training.schedules import OneCycle

__all__ = [
    "EarlyStopping", "History", "Listener", "OneCycle", "Run", "evaluate", "fit", "load_model",
    "pick_device", "provenance", "save",
]  # fmt: skip
