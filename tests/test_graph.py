"""The recorded step, against the plain one: on the CPU with a stand-in for the graph."""

from functools import partial

import pytest
import torch
from torch import nn

import vaebook as vb
from vaebook.speed import graph
from vaebook.speed.graph import WARM_UP, Graph, Recorded, can_record

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Repeats:
    """In place of a graph: the work itself, Python and all, counted and into one place."""

    def __init__(self):
        self.recordings = self.replays = self.warm_up = 0

    def __call__(self, device):
        return self

    def aside(self, work):
        self.warm_up += 1
        return work()

    def record(self, work):
        self.recordings += 1
        self.work, self.place = work, work().clone()
        return self.place

    def replay(self):
        self.replays += 1
        self.place.copy_(self.work())


@pytest.fixture
def repeats(monkeypatch):
    repeats = Repeats()
    monkeypatch.setattr(graph, "Graph", repeats)
    return repeats


def work(seen, objective, model, x, count):
    """Take a step that remembers what it was given."""
    beta = float(getattr(objective, "beta", 1))
    seen.append((beta, x.sum().item(), count))
    return torch.stack([x.sum(), beta * x.square().sum()])


# Batches of an epoch with a smaller last one, three epochs of it, and a weight that changes.
EPOCH = [4, 4, 4, 4, 4, 3]
RISING = [vb.NegativeELBO(beta) for beta in (0.1, 0.2, 0.3)]


@pytest.mark.parametrize(
    "objectives",
    [RISING + [vb.NegativeELBO()] * 15, [vb.ImportanceWeighted(2)] * 18],
    ids=["ELBO", "IWAE"],
)
def test_every_batch_is_used_once_and_in_order(repeats, objectives):
    torch.manual_seed(0)
    batches = [torch.rand(size) for size in EPOCH * 3]
    plain, recorded = [], []
    step = Recorded(partial(work, recorded))
    for objective, x in zip(objectives, batches, strict=True):
        expected = work(plain, objective, None, x, len(x))
        torch.testing.assert_close(step(objective, None, x, len(x)), expected)
    assert [each[1:] for each in recorded] == [each[1:] for each in plain]
    assert [each[0] for each in recorded] == pytest.approx([each[0] for each in plain])
    assert repeats.recordings == 1
    assert repeats.replays == (5 - WARM_UP - 1) + 5 + 5
    assert repeats.warm_up == WARM_UP + 3


def test_a_smaller_last_batch_does_not_have_the_step_recorded_anew(repeats):
    step = Recorded(partial(work, []))
    for _ in range(12):
        for size in [4] * 9 + [3]:
            step(vb.NegativeELBO(), None, torch.ones(size), size)
    assert (repeats.recordings, repeats.warm_up) == (1, WARM_UP + 12)


def test_a_weight_of_the_kl_that_changes_at_every_step_is_recorded_once(repeats):
    seen = []
    step = Recorded(partial(work, seen))
    for i in range(20):
        step(vb.NegativeELBO(i / 20), None, torch.ones(4), 4)
    assert (repeats.recordings, repeats.replays) == (1, 20 - WARM_UP - 1)
    assert [beta for beta, *_ in seen] == pytest.approx([i / 20 for i in range(20)])


def test_a_new_kind_that_stays_is_recorded_anew(repeats):
    step, x = Recorded(partial(work, [])), torch.ones(4)
    for bits in (0.0, 0.5):
        for _ in range(10):
            step(vb.NegativeELBO(free_bits=bits), None, x, 4)
    assert (repeats.recordings, repeats.replays) == (2, 2 * (10 - WARM_UP - 1))


def test_a_recorded_fit_is_the_plain_one(repeats, monkeypatch):
    """With a warm-up of the KL, a changing rate, free bits and a smaller last batch."""
    images = vb.load("digits", image_size=16)

    def run(recorded):
        monkeypatch.setattr("vaebook.training.loop.can_record", lambda *given: recorded)
        torch.manual_seed(0)
        model = vb.dense_vae((1, 16, 16), latent_dim=3, hidden=(12,))
        history = vb.fit(
            model, images.train[:430], validation=images.test[:50], epochs=4, batch_size=40,
            lr=lambda done: 1e-3 * (1.1 - done), device="cpu", snapshots=3, progress=False,
            objective=vb.NegativeELBO(0.7, schedule=vb.Warmup(0.3), free_bits=0.01), clip=100,
        )  # fmt: skip
        return [*model.state_dict().values()], history.frame[["loss", "kl", "beta"]].to_numpy()

    weights, rows = run(True)
    assert repeats.replays > 20
    plain, plain_rows = run(False)
    torch.testing.assert_close(weights, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(rows), torch.tensor(plain_rows), rtol=1e-5, atol=0)


def conv():
    return vb.conv_vae((1, 16, 16), latent_dim=2, width=4, residual=1)


def changed(change):
    model = conv()
    change(model)
    return model


HOOKED = {
    "forward": lambda m: m.decoder[0].register_forward_hook(lambda *given: None),
    "forward with keywords": lambda m: m.decoder[0].register_forward_hook(
        lambda *given: None, with_kwargs=True
    ),
    "before forward": lambda m: m.encoder.body[1].register_forward_pre_hook(lambda *given: None),
    "backward": lambda m: m.decoder[0].register_full_backward_hook(lambda *given: None),
    "before backward": lambda m: m.decoder[0].register_full_backward_pre_hook(lambda *given: None),
    "a gradient's": lambda m: m.decoder[0].weight.register_hook(lambda gradient: None),
    "after accumulation": lambda m: m.decoder[0].weight.register_post_accumulate_grad_hook(
        lambda parameter: None
    ),
    "a module of one's own": lambda m: m.decoder.append(type("Own", (nn.Identity,), {})()),
    "networks of one's own": lambda m: setattr(m, "config", None),
}


@pytest.mark.parametrize("kind", HOOKED)
def test_what_a_graph_would_leave_out_is_not_recorded(kind):
    given = torch.zeros(2, 1, 16, 16), vb.NegativeELBO(), "adam", CUDA, torch.bfloat16
    images = vb.as_images(given[0])
    assert can_record(conv(), images, *given[1:])
    assert not can_record(changed(HOOKED[kind]), images, *given[1:])


def test_hooks_of_all_modules_are_heard():
    images = vb.as_images(torch.zeros(2, 1, 16, 16))
    handle = nn.modules.module.register_module_forward_hook(lambda *given: None)
    try:
        assert not can_record(conv(), images, vb.NegativeELBO(), "adam", CUDA, torch.bfloat16)
    finally:
        handle.remove()


def test_only_steps_that_stay_the_same_are_recorded():
    class Own(vb.NegativeELBO):
        pass

    images, elbo = vb.as_images(torch.zeros(2, 1, 16, 16)), vb.NegativeELBO()
    usual = (conv(), images, elbo, "adam", CUDA, torch.bfloat16)
    conditional = vb.conditional_vae((1, 16, 16), latent_dim=2, classes=10)
    others = {
        0: [conditional], 1: [[]], 2: [Own(), repr], 3: ["muon", torch.optim.SGD], 4: [CPU],
        5: [torch.float32],
    }  # fmt: skip
    assert can_record(*usual)
    assert can_record(*usual[:2], vb.ImportanceWeighted(), *usual[3:])
    for place, values in others.items():
        for value in values:
            assert not can_record(*usual[:place], value, *usual[place + 1 :]), value


# --- on a GPU ---------------------------------------------------------------------------------


def fit_on_gpu(precision, objective=vb.NegativeELBO(), **options):  # noqa: B008
    torch.manual_seed(0)
    model = vb.conv_vae((1, 28, 28), latent_dim=8)
    images = vb.load("digits").train
    options = {"epochs": 1, "device": "cuda", "progress": False} | options
    history = vb.fit(
        model, images, batch_size=64, precision=precision, objective=objective, **options
    )
    return model, history


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("objective", [vb.NegativeELBO(), vb.ImportanceWeighted(5)], ids=repr)
def test_the_graph_computes_what_the_plain_loop_does(objective, monkeypatch):
    _, recorded = fit_on_gpu("bfloat16", objective)
    monkeypatch.setattr("vaebook.training.loop.can_record", lambda *given: False)
    _, plain = fit_on_gpu("bfloat16", objective)
    assert recorded.last("train")["loss"] == pytest.approx(plain.last("train")["loss"], rel=1e-4)


@needs_cuda
@pytest.mark.cuda
def test_bfloat16_and_a_graph_learn_what_float32_does():
    losses = [
        vb.evaluate(fit_on_gpu(precision)[0], vb.load("digits").test)["loss"]
        for precision in ("bfloat16", "float32")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@needs_cuda
@pytest.mark.cuda
def test_a_rate_of_nought_reaches_the_graph():
    one_step = 1 / 24
    still, _ = fit_on_gpu("bfloat16", lr=lambda done: 1e-3 if done < one_step else 0.0)
    moving, _ = fit_on_gpu("bfloat16")
    torch.manual_seed(0)
    start = next(vb.conv_vae((1, 28, 28), latent_dim=8).parameters())
    moved = [(next(m.parameters()).cpu() - start).abs().max().item() for m in (still, moving)]
    assert 0 < moved[0] < 2e-3 < moved[1]


@needs_cuda
@pytest.mark.cuda
def test_four_epochs_with_a_warm_up_and_a_smaller_last_batch_end_where_the_plain_loop_does(
    monkeypatch,
):
    rising = vb.NegativeELBO(schedule=vb.Warmup(0.8))
    options = {"epochs": 5, "validation": vb.load("digits").test}
    _, recorded = fit_on_gpu("bfloat16", rising, **options)
    monkeypatch.setattr("vaebook.training.loop.can_record", lambda *given: False)
    _, plain = fit_on_gpu("bfloat16", rising, **options)
    for ours, theirs in zip(recorded.rows, plain.rows, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("index", range(torch.cuda.device_count()))
def test_a_graph_is_recorded_on_the_device_of_its_tensors(index):
    device = f"cuda:{index}"
    model, history = fit_on_gpu("bfloat16", device=device)
    assert {str(p.device) for p in model.parameters()} == {device}
    assert history.last("train")["loss"] < 600


@needs_cuda
@pytest.mark.cuda
def test_hooks_are_called_in_every_step():
    torch.manual_seed(0)
    model, calls = vb.conv_vae((1, 28, 28), latent_dim=8), []
    model.decoder[0].register_forward_hook(lambda *given: calls.append(1))
    images = vb.load("digits").train[:640]
    vb.fit(model, images, epochs=4, batch_size=64, device="cuda", progress=False)
    assert len(calls) == 40


@needs_cuda
@pytest.mark.cuda
@pytest.mark.parametrize("kind", ["conditional", "ladder"])
def test_other_models_train_on_a_gpu(kind):
    data = vb.load("digits")
    torch.manual_seed(0)
    model = (
        vb.ladder_vae(data.image_shape)
        if kind == "ladder"
        else vb.conditional_vae(data.image_shape, latent_dim=4, classes=10)
    )
    history = vb.fit(model, data.train, epochs=4, batch_size=64, device="cuda", progress=False)
    losses = history.frame["loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    assert vb.log_likelihood(model, data.test[:20], draws=20, progress=False).per_image.shape == (
        20,
    )


@needs_cuda
@pytest.mark.cuda
def test_a_warm_up_runs_on_the_stream_that_is_recorded():
    graph, streams = Graph(torch.device("cuda")), []
    for run in (graph.aside, graph.record):
        run(lambda: streams.append(torch.cuda.current_stream()) or torch.ones(1, device="cuda"))
    assert streams[0] == streams[1] != torch.cuda.current_stream()


@needs_cuda
@pytest.mark.cuda
def test_a_run_on_the_cpu_leaves_the_generators_of_the_gpu_alone():
    before = torch.cuda.get_rng_state()
    model = vb.dense_vae((1, 8, 8), latent_dim=2)
    vb.fit(model, torch.rand(4, 1, 8, 8), epochs=1, device="cpu", progress=False)
    assert torch.cuda.get_rng_state().equal(before)
