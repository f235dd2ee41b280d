"""What hears of a training as it goes on: the bar, snapshots, the checkpoint, early stops."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaebook.checks import at_least_0, one_of, positive, user_path, wrong
from vaebook.data.images import Images, to_pixels
from vaebook.models.networks import eval_mode
from vaebook.models.vae import VAE
from vaebook.objectives import Objective
from vaebook.training.checkpoints import check_writable, load_weights, read, require_config, write
from vaebook.training.devices import seeded
from vaebook.training.history import COLUMNS, LARGEST, History, Row, Score, Table, line, rows_in
from vaebook.training.optimizers import Optimizers
from vaebook.training.progress import Progress
from vaebook.training.teams import Team

Callback = Callable[[VAE, list[Row]], Any]
STEPS_PER_NOTE = 50  # reading a loss makes the CPU wait for the device: not at every step


@dataclass
class Run:
    """A training: what it is to do, how far it is, and what it has measured."""

    model: VAE  #: on its device, and not what torch.compile wraps around it
    images: Any  #: to train on, as `Images` or as a DataLoader
    validation: Any  #: held out, in the same form, or None
    epochs: int  #: to be trained in all
    steps: int  #: in an epoch
    batch_size: int  #: images per step
    objective: Objective  #: what is minimized
    rate_at: Callable[[float], float | None]  #: learning rate by the fraction of steps done
    clip: float | None  #: the largest norm of a step's gradients
    dtype: torch.dtype  #: that the networks compute in
    seed: int  #: decides the order of the images and the noise
    team: Team  #: of the processes that train together
    optimizers: Optimizers  #: that take the steps
    recorded: bool  #: whether a step is a CUDA graph
    history: History  #: that `fit` will return
    epoch: int = 0  #: the one under way, from 1, or just finished
    step: int = 0  #: those behind, over all epochs
    rows: list[Row] = field(default_factory=list)  #: of the epoch just finished
    score: Score = field(default_factory=Score)  #: sums over the epoch under way

    @property
    def done(self) -> float:
        """The fraction of all steps that are behind."""
        return self.step / (self.epochs * self.steps)

    def begin_epoch(self) -> None:
        """Count an epoch, of which nothing is measured yet."""
        self.step, self.epoch, self.score = self.epoch * self.steps, self.epoch + 1, Score()


class Listener:
    """What `fit` tells how a training goes; a subclass has those of the methods that it needs.

    Each of several processes has them, with the same rows. A true answer to `on_start` or
    `on_epoch` ends the training. Other threads use no model before the epoch ends: wait for none.

    >>> import vaebook as vb
    >>> class Halfway(Listener):
    ...     def on_epoch(self, run):
    ...         return run.done >= 0.5
    >>> model, x = vb.dense_vae((1, 8, 8), latent_dim=2), torch.rand(9, 1, 8, 8)
    >>> len(vb.fit(model, x, epochs=4, callbacks=[Halfway()], progress=False).rows)
    2
    """

    def on_start(self, run: Run) -> Any:
        """Hear that a training begins, or goes on: `run.epoch` tells."""

    def on_step(self, run: Run) -> None:
        """Hear that a step has been taken."""

    def on_epoch(self, run: Run) -> Any:
        """Hear that an epoch is over."""

    def on_end(self, run: Run) -> None:
        """Hear that the training is over, however it ended."""


class Function(Listener):
    """A function of the model and the epoch's rows, which the first process calls."""

    def __init__(self, function: Callback) -> None:
        self.function = function

    def on_epoch(self, run: Run) -> bool:
        answer = self.function(run.model, run.rows) if run.team.rank == 0 else None
        return run.team.any(bool(answer))


class NotFinite(Listener):
    """Raise a FloatingPointError when losses or weights are beyond all bounds."""

    def on_epoch(self, run: Run) -> None:
        found = {f"{row['split']} loss": row["loss"] for row in run.rows}
        state = [value for value in run.model.state_dict().values() if value.is_floating_point()]
        found["sum of weights"] = float(sum(value.sum() for value in state))
        for name, value in found.items():
            if not abs(value) <= LARGEST:  # not true of NaN
                rate = run.rate_at((run.epoch - 0.5) / run.epochs)  # in the middle of this epoch
                rate = run.optimizers.groups[0]["lr"] if rate is None else rate
                hint = f"a smaller lr than {rate:.3g} may help"
                hint += f", going on from epoch {run.epoch - 1}" * (run.epoch > 1)
                raise FloatingPointError(f"the {name} became {value} in epoch {run.epoch}; {hint}")


class Bar(Listener):
    """A progress bar over all steps, and a line for each row."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    def on_start(self, run: Run) -> None:
        steps = run.epochs * run.steps - run.step
        self.bar = Progress(steps, enabled=self.enabled and run.team.rank == 0)
        if run.epoch:
            self.bar.line(f"resumed after epoch {run.epoch} of {run.epochs}")

    def on_step(self, run: Run) -> None:
        note = None
        if self.enabled and run.step % STEPS_PER_NOTE == 1:
            row = run.score.row(run.epoch, "train")
            note = f"epoch {run.epoch}: {row['reconstruction']:.1f} + KL {row['kl']:.1f} nats"
        self.bar.step(note)

    def on_epoch(self, run: Run) -> None:
        for row in run.rows:
            self.bar.line(line(row))

    def on_end(self, run: Run) -> None:
        if run.history.interrupted:
            self.bar.line("stopped by the keyboard: the history has the epochs that finished")
        self.bar.close()


class Snapshots(Listener):
    """Decode fixed draws from the prior and encode the first images, `count` times in a run."""

    def __init__(self, count: int, run: Run) -> None:
        steps, labels = run.epochs * run.steps, getattr(run.images, "labels", None)
        self.shots = {round(i * steps / max(count - 1, 1)) for i in range(count)}
        # A conditional model draws images of the labels that come first.
        self.labels = None if labels is None else labels[torch.arange(64) % len(labels)]
        self.watched = run.validation[:128] if isinstance(run.validation, Images) else None

    def on_start(self, run: Run) -> None:
        self.shots -= {step for step, _ in run.history.snapshots}
        self.on_step(run)

    @torch.no_grad()
    def on_step(self, run: Run) -> None:
        if run.step not in self.shots:
            return
        model, history = run.model, run.history
        z = model.draw_prior(64, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
        with eval_mode(model), seeded(model.device, 0, run.step):
            pixels = model.likelihood.mean(model.given(self.labels).decode(z.to(model.device)))
            history.snapshots.append((run.step, pixels.float().cpu()))
            if self.watched is not None:
                x = to_pixels(self.watched.pixels, model.device)
                mean, log_var = model.given(self.watched.labels).encode(x)
                history.posteriors.append((run.step, mean.cpu(), (0.5 * log_var).exp().cpu()))


class Checkpoint(Listener):
    """The state of a training in a file, rewritten after each epoch or each that is the best."""

    def __init__(self, path: str | Path, keep: str, settings: dict[str, Any]) -> None:
        self.path, self.keep, self.settings = user_path("checkpoint", path), keep, settings
        self.table = Table()

    def on_epoch(self, run: Run) -> None:
        history = run.history
        losses = validation_losses(history) if self.keep == "best" else [0.0]
        if run.team.rank > 0 or losses[-1] > min(losses):
            return
        extra = run.optimizers.state()
        extra |= {f"snapshot.{step}": picture for step, picture in history.snapshots}
        extra |= {f"posterior.{step}": torch.stack(both) for step, *both in history.posteriors}
        header = {"columns": COLUMNS, "settings": self.settings}
        rates = [float(group["lr"]) for group in run.optimizers.groups]
        header["optimizers"] = {"names": [*run.optimizers.parts], "rates": rates}
        write(self.path, run.model, extra | {"history": self.table.of(history.rows)}, header)

    def restore(self, run: Run) -> None:
        """Take up the training that the file holds; a ValueError if it was another one."""
        header, tensors = read(self.path)
        held = all(isinstance(header.get(key), dict) for key in ("settings", "optimizers"))
        if not held or header["config"] != json.loads(json.dumps(run.model.config)):
            found = f"{'one' if held else 'the weights alone'} of {header['config']!r}"[:300]
            wanted = f"a training state of {run.model.config}"
            raise wrong("checkpoint", wanted, f"{self.path} with {found}")
        for name, value in self.settings.items():
            if (before := header["settings"].get(name)) != value:
                raise wrong(name, f"{before!r}, with which the run in {self.path} began", value)
        try:
            self.take_up(run, header, tensors)
        except (ValueError, LookupError, TypeError, RuntimeError, ArithmeticError) as error:
            reason = f"{self.path} holds none to go on from: {error}".partition("\n")[0]
            raise ValueError(f"checkpoint: {reason:.400}") from None

    def take_up(self, run: Run, header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Set a run to what a file holds of it."""
        run.history.rows += rows_in(header, tensors)
        run.optimizers.restore(tensors, **header["optimizers"])
        for step, key in sorted((int(k.split(".")[1]), k) for k in tensors if k.startswith("snap")):
            run.history.snapshots.append((step, tensors[key]))
            if (both := tensors.get(f"posterior.{step}")) is not None:
                mean, std = both
                run.history.posteriors.append((step, mean, std))
        load_weights(run.model, tensors, self.path)
        run.epoch = run.history.rows[-1]["epoch"]
        run.step = run.epoch * run.steps


class EarlyStopping(Listener):
    """End a training when the validation loss has not improved for so many epochs.

    For the `callbacks` of `fit`: `patience` epochs without an improvement end the training. A loss
    that is more than `least` nats per image below the best one is an improvement. When the training
    is over, for whatever reason, the model gets back the weights of its best epoch since this
    process began. Raises a ValueError for other numbers, and without validation images.

    >>> import vaebook as vb
    >>> data, stop = vb.load("digits"), EarlyStopping(patience=1, least=1000)
    >>> model = vb.dense_vae(data.image_shape, latent_dim=2, hidden=(20,))
    >>> options = {"validation": data.test, "callbacks": [stop], "progress": False}
    >>> len(vb.fit(model, data.train[:100], epochs=9, **options).rows)
    4
    """

    def __init__(self, patience: int = 5, least: float = 0.0) -> None:
        positive(patience=patience)
        at_least_0(least=least)
        self.patience, self.least = patience, least
        self.weights: dict[str, Tensor] | None = None

    def on_start(self, run: Run) -> bool:
        if run.validation is None:
            raise wrong("validation", "images, by which EarlyStopping judges", None)
        self.best, self.waited, self.weights = math.inf, 0, None
        for loss in validation_losses(run.history):
            self.improves(loss)
        return self.waited >= self.patience

    def on_epoch(self, run: Run) -> bool:
        if self.improves(run.rows[-1]["loss"]):
            state = run.model.state_dict()
            self.weights = {name: value.detach().clone() for name, value in state.items()}
        return self.waited >= self.patience

    def on_end(self, run: Run) -> None:
        if self.weights is not None:
            run.model.load_state_dict(self.weights)

    def improves(self, loss: float) -> bool:
        """Count an epoch; tell whether its loss is the best so far."""
        better = loss < self.best - self.least
        self.best, self.waited = (loss, 0) if better else (self.best, self.waited + 1)
        return better


def validation_losses(history: History) -> list[float]:
    """Return the validation loss of each epoch."""
    return [row["loss"] for row in history.rows if row["split"] == "validation"]


def check(
    model: VAE, checkpoint: Any, resume: bool, keep: str, validation: Any, callbacks: Any
) -> None:
    """Raise a ValueError that names the argument about listeners which does not fit."""
    one_of("keep", keep, "last", "best")
    if checkpoint is not None:
        require_config(model)
        path = user_path("checkpoint", checkpoint)
        if path.is_dir():
            raise wrong("checkpoint", "a file", f"the folder {path}")
        if path.exists() and not resume:
            wanted = "a new file, or resume=True to go on from the one that is there"
            raise wrong("checkpoint", wanted, path)
        check_writable(path)
    elif resume or keep == "best":
        raise wrong("resume" if resume else "keep", "a checkpoint, too", "checkpoint=None")
    if keep == "best" and validation is None:
        raise wrong("keep", "validation images, by which an epoch is the best", "validation=None")
    for each in callbacks if isinstance(callbacks, list | tuple) else [None]:
        if not isinstance(each, Listener) and (not callable(each) or isinstance(each, type)):
            got = repr(callbacks if each is None else each)
            raise wrong("callbacks", "a list of functions and Listeners, such as [f]", f"{got:.80}")
