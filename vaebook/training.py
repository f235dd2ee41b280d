"""Training: one loop for every kind of model, and the history it leaves."""

import json
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaebook.checkpoints import load_weights, read, require_config, write
from vaebook.conditional import batches
from vaebook.data.images import Images, as_images, batch_bounds, to_pixels
from vaebook.devices import fastest, keep_memory, pick_device, provenance, seeded
from vaebook.distributed import ALONE, Team, join, shared_loss
from vaebook.engine import Recorded, Step, can_record
from vaebook.networks import eval_mode
from vaebook.objectives import NegativeELBO, Terms
from vaebook.optimizers import NAMES, Optimizers
from vaebook.progress import Progress
from vaebook.vae import VAE, check_positive, choose

if TYPE_CHECKING:
    import pandas as pd

Objective = Callable[[VAE, Tensor], Terms]
Rate = float | Callable[[float], float]
ELBO = NegativeELBO()
COLUMNS = ["epoch", "split", *Terms._fields, "beta", "seconds", "images_per_second"]
PRECISIONS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
BATCHES_PER_NOTE = 50  # reading a loss makes the CPU wait for the device: not at every batch


@dataclass
class History:
    """What `fit` measured.

    `rows` has a dict per epoch and split. Losses are in nats per image: for ``train`` averaged
    over the batches as the model learned from them, for ``validation`` after the epoch.
    `snapshots` are pairs of a step and what the model then made of 64 fixed draws from the
    prior, ``[64, channels, height, width]`` in [0, 1]; `posteriors`, taken at the same steps, are
    triples of a step and q(z|x)'s means and standard deviations, ``[128, latent]``, for the first
    128 validation images. `provenance` tells device, precision, threads, processes, seed and
    versions, `interrupted` whether Ctrl-C ended the run.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    snapshots: list[tuple[int, Tensor]] = field(default_factory=list)
    posteriors: list[tuple[int, Tensor, Tensor]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def frame(self) -> "pd.DataFrame":
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=COLUMNS)

    def last(self, split: str = "validation") -> dict[str, Any]:
        """Return the newest row of a split; a ValueError where there is none."""
        rows = [row for row in self.rows if row["split"] == split]
        if not rows:
            raise ValueError(f"split: expected one that was measured, got {split!r}")
        return rows[-1]

    def __repr__(self) -> str:
        state = "interrupted" if self.interrupted else "complete"
        return "\n".join([f"History, {state}", *(_line(row) for row in self.rows)])


def fit(
    model: VAE, images: Any, *, epochs: int, batch_size: int = 128, lr: Rate = 1e-3,
    validation: Any = None, objective: Objective = ELBO, device: str | torch.device = "auto",
    precision: str = "auto", optimizer: str = "adam", seed: int = 0, progress: bool = True,
    snapshots: int = 0, checkpoint: str | Path | None = None, resume: bool = False,
) -> History:  # fmt: skip
    """Train a model on shuffled minibatches; afterwards it is in eval mode.

    Ctrl-C ends the training with the history of the epochs which finished. Raises a ValueError
    that names the argument which does not fit, and a FloatingPointError when the loss is no
    longer finite; `checkpoint` then still holds the epoch before.

    Several processes, started by ``torchrun``, train one model: each takes its share of every
    batch, all return the same history, and the first alone prints and writes the checkpoint,
    which all of them must be able to read.

    Parameters
    ----------
    images, validation
        `Images`, an array or a tensor (see `as_images`), or a DataLoader; the second for
        `evaluate` after each epoch.
    epochs, batch_size, lr, objective
        Passes over the images, images per step, the learning rate, and a function of a
        model and a batch that returns `Terms`. What changes in the course of the training goes
        by the fraction of steps that are done, 0 to 1: `lr` may be a function of it, such as
        ``lambda done: 1e-3 * (1 - done)``, and an objective may have a method ``at``, which
        returns the objective for a step.
    device, precision
        As for `pick_device`; ``"float32"``, ``"bfloat16"`` (in the networks, by autocast), or
        ``"auto"``: the second on processors with instructions for it, the first elsewhere. In
        bfloat16 a step that is always the same is recorded once and repeated: on CUDA that of
        `NegativeELBO` or `ImportanceWeighted`, on a CPU that of `NegativeELBO` with small batches
        and the package's own networks. In float32 it is the plain loop.
    optimizer
        ``"adam"`` (Kingma & Ba 2015), or ``"muon"`` (Jordan et al. 2024), which gives the steps
        of dense layers' weight matrices equal size in all directions and leaves what is no
        matrix to Adam: a longer step, and far fewer of them where dense networks train long.
    seed
        Decides the order of the images and the noise, so that a run repeats bit for bit on one
        CPU in one precision. The first weights are yours: `torch.manual_seed` before the model.
    progress, snapshots
        Whether to show a bar (on a terminal and in Jupyter) and a line per epoch; how many
        times, evenly over the training, to decode 64 fixed draws from the prior and to encode
        the first validation images.
    checkpoint, resume
        A file rewritten after each epoch; whether to go on from it as if without a break.

    Examples
    --------
    >>> import vaebook as vb
    >>> data = vb.load("digits")
    >>> model = vb.conv_vae(data.image_shape, latent_dim=2, width=4)
    >>> history = vb.fit(model, data.train, epochs=1, validation=data.test, progress=False)
    >>> list(history.frame["split"])
    ['train', 'validation']
    """
    check_positive(epochs=epochs, batch_size=batch_size)
    lr_at = lr if callable(lr) else lambda done: lr
    if not (first := lr_at(0.0)) > 0:
        raise ValueError(f"lr: expected a number above 0 to begin with, got {first!r}")
    dtype = choose("precision", precision, PRECISIONS)
    choose("optimizer", optimizer, NAMES)
    if checkpoint is not None:
        require_config(model)
    elif resume:
        raise ValueError("resume: expected a checkpoint to resume from, got checkpoint=None")
    team = join()
    device = pick_device(device)
    dtype = dtype or fastest(device)
    keep_memory()
    images = prepare(images, "images", model, device)
    if validation is not None:
        validation = prepare(validation, "validation", model, device)
    if team.size > 1:
        _check_shares(images, validation, batch_size, team.size)
    if isinstance(images, Images) and len(images) == 1:
        raise ValueError("images: expected at least 2 images to train on, got 1")

    model.to(device)
    settings = batch_size, objective, optimizer, device, dtype
    records = team.size == 1 and can_record(model, images, *settings)
    optimizers = Optimizers(optimizer, model, first, device, recorded=records)
    history = History(provenance=provenance(device, dtype, seed) | {"processes": team.size})
    if resume and Path(str(checkpoint)).exists():
        _restore(str(checkpoint), model, optimizers, history)
    done = history.rows[-1]["epoch"] if history.rows else 0
    norms = nn.modules.batchnorm._BatchNorm
    normalizes = any(isinstance(module, norms) for module in model.modules())
    bounds = batch_bounds(len(images), batch_size, team.size) if isinstance(images, Images) else []
    steps = len(bounds) or len(images)
    shots = {round(i * epochs * steps / max(snapshots - 1, 1)) for i in range(snapshots)}
    shots -= {step for step, _ in history.snapshots}  # a longer run resumes at its old end
    watched = to_pixels(validation.pixels[:128], device) if isinstance(validation, Images) else None
    objective_at = getattr(objective, "at", lambda done: objective)
    bar = Progress((epochs - done) * steps, enabled=progress and team.rank == 0)
    stack = ExitStack()
    loss_of = stack.enter_context(shared_loss(model, team))

    def take_step(now: Objective, given: VAE, x: Tensor, count: int) -> Tensor:
        # Per step: autocast keeps its copies of the weights until it is left.
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            terms = loss_of(now, given, x)
        optimizers.zero_grad()
        # The mean over the batch. The gradients of a team are averaged, whatever their shares.
        terms.loss.backward(torch.full_like(terms.loss, team.size / count))
        optimizers.step()
        return _sums(terms)

    advance: Step = Recorded(take_step) if records else take_step
    try:
        for epoch in range(done + 1, epochs + 1):
            score = _Score(epoch, "train")
            # A seed per epoch, not per run, so that a resumed run meets the same numbers.
            with seeded(device, seed, epoch, team.rank) as generator:
                options = dict(device=device, generator=generator, team=team)
                stream = batches(model, images, batch_size, **options)
                model.train()
                for i, (given, x) in enumerate(stream):
                    step = (epoch - 1) * steps + i
                    count = bounds[i][1] - bounds[i][0] if bounds else len(x)
                    if step in shots:
                        _snapshot(history, step, model, watched)
                    if count == 1 and normalizes:
                        raise ValueError(
                            "images: expected batches of 2 or more, for batch norm to compare "
                            "images, got a batch of 1; a larger batch_size or drop_last helps"
                        )
                    part_done = step / (epochs * steps)
                    optimizers.set_rate(lr_at(part_done))
                    now = objective_at(part_done)
                    score.add(advance(now, given, x, count), len(x), now)
                    noted = progress and step % BATCHES_PER_NOTE == 0
                    bar.step(score.note() if noted else None)
            rows = [score.row(team)]
            if not math.isfinite(loss := rows[0]["loss"]):
                tried = lr_at((epoch - 0.5) / epochs)  # in the middle of this epoch
                became = f"the loss became {loss} in epoch {epoch}"
                raise FloatingPointError(f"{became}; a smaller lr than {tried:.3g} may help")
            if validation is not None:
                judged = _judge(model, validation, objective, seed=seed, team=team)
                rows.append(judged | {"epoch": epoch, "split": "validation"})
            if epoch == epochs and epochs * steps in shots:
                _snapshot(history, epochs * steps, model, watched)
            history.rows += rows
            for row in rows:
                bar.line(_line(row))
            if checkpoint is not None and team.rank == 0:
                _keep(checkpoint, model, optimizers, history)
    except KeyboardInterrupt:
        history.interrupted = True
        bar.line("stopped by the keyboard: the history has the epochs that finished")
    finally:
        stack.close()
        bar.close()
        model.eval()
    return history


def evaluate(
    model: VAE, images: Any, *, objective: Objective = ELBO, batch_size: int = 500, seed: int = 0
) -> dict[str, Any]:
    """Return a row like those of `History.frame`: mean loss and its parts, in nats per image.

    In eval mode, with one draw of z per image from `seed`; a ValueError if images do not fit.
    """
    check_positive(batch_size=batch_size)
    images = prepare(images, "images", model, model.device)
    return _judge(model, images, objective, batch_size, seed)


@torch.no_grad()
def _judge(
    model: VAE, images: Any, objective: Objective, batch_size: int = 500, seed: int = 0,
    team: Team = ALONE,
) -> dict[str, Any]:  # fmt: skip
    score = _Score(0, "test")
    with seeded(model.device, seed, 0, team.rank), eval_mode(model):
        for given, x in batches(model, images, batch_size, device=model.device, team=team):
            score.add(_sums(objective(given, x)), len(x), objective)
    return score.row(team)


def _check_shares(images: Any, validation: Any, batch_size: int, processes: int) -> None:
    if not isinstance(images, Images):
        wanted = f"Images or an array, for {processes} processes to share"
        raise ValueError(f"images: expected {wanted}, got a DataLoader")
    counts = {"batch_size": batch_size, "images": len(images)}
    if isinstance(validation, Images):
        counts["validation"] = len(validation)
    for name, count in counts.items():
        if processes > count:
            wanted = f"an image or more for each of {processes} processes"
            raise ValueError(f"{name}: expected {wanted}, got {count}")


@torch.no_grad()
def _sums(terms: Terms) -> Tensor:
    # float32 loses digits over 60,000 images; MPS has nothing else.
    dtype = torch.float32 if terms.loss.device.type == "mps" else torch.float64
    return torch.stack(tuple(terms)).sum(1, dtype=dtype)


class _Score:
    """Sums of the terms, kept on their device so that no batch makes the CPU wait."""

    def __init__(self, epoch: int, split: str) -> None:
        self.epoch, self.split, self.beta = epoch, split, 1.0
        self.sums: Any = 0
        self.images, self.started = 0, time.perf_counter()

    def add(self, sums: Tensor, count: int, objective: Objective) -> None:
        self.beta = getattr(objective, "beta", 1.0)
        self.sums = self.sums + sums
        self.images += count

    def row(self, team: Team = ALONE) -> dict[str, Any]:
        if not self.images:
            raise ValueError("images: expected at least one batch, got none")
        *sums, images = team.total(F.pad(self.sums, (0, 1), value=self.images)).tolist()
        means = [total / images for total in sums]
        seconds = time.perf_counter() - self.started  # after .tolist(), which waits for the device
        measured = [*means, self.beta, seconds, images / seconds]
        return dict(zip(COLUMNS, [self.epoch, self.split, *measured], strict=True))

    def note(self) -> str:
        row = self.row()
        return f"epoch {self.epoch}: {row['reconstruction']:.1f} + KL {row['kl']:.1f} nats"


@torch.no_grad()
def _snapshot(history: History, step: int, model: VAE, watched: Tensor | None) -> None:
    z = torch.randn(64, model.latent_dim, generator=torch.Generator().manual_seed(0))
    with eval_mode(model):
        pixels = model.likelihood.mean(model.decode(z.to(model.device)))
        history.snapshots.append((step, pixels.float().cpu()))
        if watched is not None:
            mean, log_var = model.encode(watched)
            history.posteriors.append((step, mean.cpu(), (0.5 * log_var).exp().cpu()))


def prepare(images: Any, name: str, model: VAE, device: torch.device) -> Any:
    """Check images against the model and put them on the device; leave a DataLoader alone."""
    if hasattr(images, "dataset"):
        return images
    images = as_images(images, name=name)
    if images.image_shape != model.image_shape:
        wanted = f"images of shape {model.image_shape}, which the model takes"
        raise ValueError(f"{name}: expected {wanted}, got {images.image_shape}")
    return images.to(device)


def _line(row: dict[str, Any]) -> str:
    return (
        f"epoch {row['epoch']:3} {row['split']:<10} {row['loss']:8.2f} nats per image"
        f" = {row['reconstruction']:7.2f} + KL {row['kl']:6.2f}"
        f"  at {row['images_per_second']:6,.0f} images/s"
    )


def _keep(path: str | Path, model: VAE, optimizers: Optimizers, history: History) -> None:
    extra = optimizers.state()
    extra |= {f"snapshot.{step}": picture for step, picture in history.snapshots}
    extra |= {f"posterior.{step}": torch.stack(both) for step, *both in history.posteriors}
    write(path, model, extra, {"rows": history.rows})


def _restore(path: str | Path, model: VAE, optimizers: Optimizers, history: History) -> None:
    header, tensors = read(path)
    if header["config"] != json.loads(json.dumps(model.config)) or "rows" not in header:
        found = f"{'one' if 'rows' in header else 'the weights alone'} of {header['config']}"
        wanted = f"a training state of {model.config}"
        raise ValueError(f"checkpoint: expected {wanted}, got {path} with {found}")
    optimizers.restore(tensors)
    load_weights(model, tensors, path)
    for name, value in tensors.items():
        kind, *rest = name.split(".")
        if kind == "snapshot":
            history.snapshots.append((int(rest[0]), value))
        elif kind == "posterior":
            history.posteriors.append((int(rest[0]), *value))
    for shots in (history.snapshots, history.posteriors):
        shots.sort(key=lambda shot: shot[0])
    history.rows += header["rows"]
