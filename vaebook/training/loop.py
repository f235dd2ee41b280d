"""Training: one loop for every kind of model."""

import re
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vaebook.checks import above_0, as_seed, choose, is_whole, positive, wrong
from vaebook.data.images import Images, batch_bounds, minibatches, prepare
from vaebook.models.vae import VAE, check_networks
from vaebook.objectives import NegativeELBO, Objective
from vaebook.speed.graph import Recorded, can_record
from vaebook.speed.kernels import lent
from vaebook.speed.memory import keep_memory
from vaebook.training import listeners as heard
from vaebook.training.checkpoints import as_vae
from vaebook.training.devices import fastest, measuring, pick_device, provenance, seeded
from vaebook.training.history import History, Row, Score, sums
from vaebook.training.listeners import Callback, Function, Listener, Run
from vaebook.training.optimizers import NAMES, Maker, Optimizers
from vaebook.training.schedules import Rate, as_schedule
from vaebook.training.teams import ALONE, Team, join, shared_loss

ELBO = NegativeELBO()
PRECISIONS = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
ONE = "a batch of 1; a larger batch_size or drop_last helps"
NORMS = nn.modules.batchnorm._BatchNorm


def fit(
    model: VAE, images: Any, *, epochs: int, batch_size: int = 128, lr: Rate | None = None,
    validation: Any = None, objective: Objective = ELBO, optimizer: str | Maker = "adam",
    clip: float | None = None, device: str | torch.device = "auto", precision: str = "auto",
    seed: int = 0, callbacks: Sequence[Callback | Listener] = (), progress: bool = True,
    snapshots: int = 0, checkpoint: str | Path | None = None, keep: str = "last",
    resume: bool = False,
) -> History:  # fmt: skip
    """Train a model on shuffled minibatches; afterwards it is in eval mode.

    Ctrl-C ends the training with the history of the epochs which finished. Raises a ValueError
    that names the argument which does not fit, and a FloatingPointError when losses or weights
    are no longer finite. Whatever is raised in mid-training carries the `history` so far, and
    `checkpoint` holds the last epoch that finished, or the best.

    Several processes, started by ``torchrun``, train one model: each takes its share of every
    batch, all return the same history, and the first alone prints, calls the functions among the
    `callbacks` and writes the checkpoint, which all of them must be able to read.

    Parameters
    ----------
    images, validation
        `Images`, an array or a tensor (see `as_images`), or a DataLoader; the second for
        `evaluate` after each epoch.
    epochs, batch_size, objective
        Passes over the images, images per step, and an `Objective`: a function of a model and a
        batch that returns `Terms`. What changes in the course of the training goes by the fraction
        of steps that are done, 0 to 1: an objective may have a method ``at``, which returns
        the objective for a step.
    lr
        The learning rate, or a function of the fraction that is done, such as `OneCycle` or
        ``lambda done: 1e-3 * (1 - done)``. By default 1e-3 (with Muon try ten times as much), and
        with an optimizer of your own its own.
    optimizer, clip
        ``"adam"`` (Kingma & Ba 2015); ``"muon"`` (Jordan et al. 2024), which gives the steps
        of dense layers' weight matrices equal size in all directions and leaves what is no
        matrix to Adam; or a function from parameters to a `torch.optim.Optimizer`. `clip` is the
        largest norm that all gradients of a step together may have.
    device, precision
        As for `pick_device`; ``"float32"``, ``"bfloat16"`` (in the networks, by autocast), or
        ``"auto"``: the second on processors with instructions for it, the first elsewhere.
    seed
        Decides the order of the images and the noise, so that a run repeats bit for bit on one
        CPU in one precision. The first weights are yours: `torch.manual_seed` before the model.
    callbacks
        Functions that are called after each epoch with the model and the epoch's rows, dicts as
        in `History.rows`; a true answer ends the training. Or `Listener`s, which may hear of more,
        such as `EarlyStopping`.
    progress, snapshots
        Whether to show a bar (on a terminal and in Jupyter) and a line per epoch; how many
        times, evenly over the training, to decode 64 fixed draws from the prior and to encode
        the first validation images.
    checkpoint, keep, resume
        A file rewritten after each epoch, or with ``keep="best"`` after each whose validation loss
        is the lowest so far; whether to go on from it as if without a break. Epochs, learning
        rate and validation images may then be others.

    Examples
    --------
    >>> import vaebook as vb
    >>> data = vb.load("digits")
    >>> model = vb.conv_vae(data.image_shape, latent_dim=2, width=4)
    >>> history = vb.fit(model, data.train, epochs=1, validation=data.test, progress=False)
    >>> list(history.frame["split"]), vb.evaluate(model, data.test)["split"]
    (['train', 'validation'], 'test')
    """
    positive(epochs=epochs, batch_size=batch_size)
    check_choices(model, objective, optimizer, clip, precision)
    epochs, batch_size, seed = int(epochs), int(batch_size), as_seed(seed)
    if not is_whole(snapshots, least=0):
        raise wrong("snapshots", "a whole number, at least 0", repr(snapshots))
    heard.check(model, checkpoint, resume, keep, validation, callbacks)
    rate_at = as_schedule(lr)
    device = pick_device(device)
    team = join(device)
    dtype = PRECISIONS[precision] or fastest(device)
    images = prepare(images, model.image_shape, device)
    if validation is not None:
        validation = prepare(validation, model.image_shape, device, "validation")
    kept = isinstance(images, Images)  # and not read by a DataLoader
    check_shares(images, validation, batch_size, team.size)
    keep_memory()

    model.to(device)
    with measuring(model):  # which leaves random numbers and running statistics as they are
        check_networks(as_vae(model))
    recorded = team.size == 1 and can_record(model, images, objective, optimizer, device, dtype)
    run = Run(
        model=model, images=images, validation=validation, epochs=epochs, batch_size=batch_size,
        steps=len(batch_bounds(len(images), batch_size, team.size)) if kept else len(images),
        objective=objective, rate_at=rate_at, clip=clip, dtype=dtype, seed=seed, team=team,
        optimizers=Optimizers(optimizer, model, rate_at(0.0), device, recorded), recorded=recorded,
        history=History(provenance=provenance(device, dtype, seed) | {"processes": team.size}),
    )  # fmt: skip
    listeners = [heard.NotFinite(), heard.Snapshots(snapshots, run), heard.Bar(progress)]
    if checkpoint is not None:
        began = describe(images, batch_size, seed, objective, optimizer, clip)
        keeper = heard.Checkpoint(checkpoint, keep, began)
        listeners.insert(2, keeper)  # an epoch is kept before it is told
        if resume and keeper.path.exists():
            keeper.restore(run)
    listeners += [each if isinstance(each, Listener) else Function(each) for each in callbacks]
    try:
        with torch.inference_mode(False), torch.enable_grad():  # whatever is around
            return train(run, listeners)
    except BaseException as error:
        error.history = run.history  # type: ignore[attr-defined]
        raise


def train(run: Run, listeners: list[Listener]) -> History:
    """Train for the epochs that are left of a run, telling the listeners how it goes."""
    model, history, team = run.model, run.history, run.team
    told: list[Listener] = []
    normalizes = any(isinstance(module, NORMS) for module in model.modules())
    objective_at = getattr(run.objective, "at", lambda done: run.objective)
    try:
        with shared_loss(model, team) as loss_of:
            take_step: Any = Step(run, loss_of)
            take_step = Recorded(take_step) if run.recorded else take_step
            stop = False
            for listener in listeners:
                stop = bool(listener.on_start(run)) or stop
                told.append(listener)
            while run.epoch < run.epochs and not stop:
                run.begin_epoch()
                # A seed per epoch, not per run, so that a resumed run meets the same numbers.
                seeds = seeded(model.device, run.seed, run.epoch, team.rank)
                outside = torch.autocast(model.device.type, enabled=False)
                with seeds as generator, outside, lent(model):
                    model.train()
                    for x, labels, count in minibatches(
                        run.images, run.batch_size, device=model.device, generator=generator,
                        rank=team.rank, processes=team.size,
                    ):  # fmt: skip
                        if count == 1 and normalizes:
                            raise wrong("images", "batches of 2 or more, for batch norm", ONE)
                        objective = objective_at(run.done)
                        run.optimizers.set_rate(run.rate_at(run.done))
                        terms = take_step(objective, model.given(labels), x, count)
                        run.score.add(terms, len(x), objective)
                        run.step += 1
                        tell(listeners, "on_step", run)
                run.rows = [run.score.row(run.epoch, "train", team)]
                if run.validation is not None:
                    row = judge(model, run.validation, run.objective, seed=run.seed, team=team)
                    run.rows.append(row | {"epoch": run.epoch, "split": "validation"})
                history.rows += run.rows
                stop = tell(listeners, "on_epoch", run)
    except KeyboardInterrupt:
        history.interrupted = True
    finally:
        model.eval()
        with ExitStack() as last:  # which calls all of them, also when one raises
            for listener in reversed(told):
                last.callback(listener.on_end, run)
    return history


class Step:
    """One step: the terms of a batch, the gradients of their mean, and the optimizer's step."""

    def __init__(self, run: Run, loss_of: nn.Module) -> None:
        self.run, self.loss_of = run, loss_of

    def __call__(self, objective: Objective, model: VAE, x: Tensor, count: int) -> Tensor:
        """Take it; return the sums of the terms. `count` is the images of all processes."""
        run, mixed = self.run, self.run.dtype != torch.float32
        # Without its cache, whose copies of weights live on until the last autocast is left.
        with torch.autocast(x.device.type, run.dtype, enabled=mixed, cache_enabled=False):
            terms = self.loss_of(objective, model, x)
        run.optimizers.zero_grad()
        # The mean over the batch. The gradients of a team are averaged, whatever their shares.
        terms.loss.backward(torch.full_like(terms.loss, run.team.size / count))
        if run.clip is not None:
            nn.utils.clip_grad_norm_(run.model.parameters(), run.clip)
        run.optimizers.step()
        return sums(terms)


def evaluate(
    model: VAE, images: Any, *, objective: Objective = ELBO, batch_size: int = 500, seed: int = 0
) -> Row:
    """Return a row like those of `History.frame`: mean loss and its parts, in nats per image.

    In eval mode and float32, with one draw of z per image from `seed`, and `batch_size` images at
    once. `images` is what `as_images` takes, or a DataLoader; `objective` is as for `fit`. Raises a
    ValueError for images that do not fit the model.
    """
    positive(batch_size=batch_size)
    images = prepare(images, model.image_shape, model.device)
    return judge(model, images, objective, batch_size, seed)


def judge(
    model: VAE, images: Any, objective: Objective, batch_size: int = 500, seed: int = 0,
    team: Team = ALONE,
) -> Row:  # fmt: skip
    """Return what `evaluate` does, of images that are prepared and of all processes of a team."""
    score = Score()
    share: Any = {"device": model.device, "rank": team.rank, "processes": team.size}
    with measuring(model, seed, team.rank):
        for x, labels, _ in minibatches(images, batch_size, **share):
            score.add(sums(objective(model.given(labels), x)), len(x), objective)
    return score.row(0, "test", team)


def tell(listeners: list[Listener], what: str, run: Run) -> bool:
    """Tell all listeners what has happened; return whether one of them ends the training."""
    return any([getattr(listener, what)(run) for listener in listeners])  # noqa: C419 (all)


def check_choices(model: Any, objective: Any, optimizer: Any, clip: Any, precision: Any) -> None:
    """Raise a ValueError that names the first of the arguments that does not fit."""
    weights = [*as_vae(model).parameters()]
    if (kinds := {value.dtype for value in weights}) != {torch.float32}:
        got = ", ".join(map(str, kinds)) or "no weights"
        raise wrong("model", "weights in float32, which precision= makes faster", got)
    if any(value.is_inference() for value in weights):
        raise wrong("model", "weights made outside torch.inference_mode", "some made inside it")
    if not callable(objective):
        raise wrong("objective", "a function of a model and a batch", repr(objective))
    if not callable(optimizer):
        choose("optimizer", optimizer, NAMES)
    if clip is not None:
        above_0(clip=clip)
    choose("precision", precision, PRECISIONS)


def check_shares(images: Any, validation: Any, batch_size: int, processes: int) -> None:
    """Raise a ValueError unless each process gets an image of every batch."""
    if processes > 1 and not isinstance(images, Images):
        wanted = f"Images or an array, for {processes} processes to share"
        raise wrong("images", wanted, "a DataLoader")
    counts = {"batch_size": batch_size, "images": len(images)}
    if isinstance(validation, Images):
        counts["validation"] = len(validation)
    for name, count in counts.items():
        if processes > max(count, 1):
            raise wrong(name, f"an image or more for each of {processes} processes", count)
    if isinstance(images, Images) and len(images) == 1:
        raise wrong("images", "at least 2 images to train on", 1)


def describe(images: Any, batch_size: int, seed: int, *others: Any) -> dict[str, Any]:
    """Return what a run that goes on must have in common with its beginning."""
    data = f"{len(images)} batches of a DataLoader"
    if isinstance(images, Images):
        data = f"{images}, checksum {zlib.crc32(images.pixels.cpu().numpy().tobytes()):08x}"
    # What has no words of its own is shown by its address, which differs from run to run.
    said = (re.sub(r" at 0x\w+", "", str(other)) for other in others)
    names = "images", "batch_size", "seed", "objective", "optimizer", "clip"
    return dict(zip(names, (data, batch_size, seed, *said), strict=True))
