"""The benchmark: what it counts, what it compares, and the file it leaves."""

import itertools
import json
import math
import os
import statistics
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import vaebook as vb
from benchmarks import contenders, report, run, sections, steps, uses, versions

COMMITTED = Path(__file__).parents[1] / "vaebook" / "results" / "speed-cpu.json"
KEYS = {
    "speed": {
        "network", "contender", "batch_size", "image_size", "images", "seconds",
        "images_per_second", "vaebook_is", "share_of_ceiling",
    },
    "growth": {"images", "epochs", "seconds", "peak_memory_mib"},
    "tried": {"step", "batch_size", "milliseconds", "relative", "note"},
}  # fmt: skip
SINGLE = {
    "provenance", "data", "ceiling", "flop_per_image", "test_pass", "precision", "import"
}  # fmt: skip


def check_layout(found):
    assert found.keys() - {"cuda"} == KEYS.keys() | SINGLE
    for name, keys in KEYS.items():
        assert found[name]
        for row in found[name]:
            assert keys <= row.keys()
    about = {"processor", "device", "threads", "torch", "python", "vaebook", "precision"}
    assert about <= found["provenance"].keys()
    assert found["ceiling"].keys() == {"float32", "bfloat16"}
    assert found["flop_per_image"].keys() == {"conv", "dense"}


def test_operations_agree_with_a_count_by_hand():
    # Output pixels × output channels × input channels × kernel; the transposed by input pixels.
    first = 14 * 14 * 28 * 9
    encoder = first + 7 * 7 * 28 * 56 * 9 + 4 * 4 * 56 * 112 * 9 + 2 * 2 * 112 * 224 * 9
    heads = 2 * 896 * 128 + 128 * 224
    decoder = 224 * 112 * 16 + 16 * 112 * 56 * 16 + 64 * 56 * 28 * 16 + 196 * 28 * 16
    # Each product is one multiplication and one addition, and is made thrice: forth, back to the
    # input and back to the weights. The images themselves need no gradient.
    by_hand = 2 * (3 * (encoder + heads + decoder) - first)
    assert sections.flop_per_image("conv", (1, 28, 28)) == by_hand
    assert by_hand == pytest.approx(39e6, rel=0.01)

    first = 784 * 400
    by_hand = 2 * (3 * (2 * first + 3 * 400 * 20) - first)
    assert sections.flop_per_image("dense", (1, 28, 28)) == by_hand


sizes = dict(
    shape=st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 9)] * 2),
    out=st.integers(1, 3),
    kernel=st.tuples(*[st.integers(1, 4)] * 2),
    padding=st.tuples(*[st.integers(0, 3)] * 2),
    seed=st.integers(0, 99),
)


def same_with_gradients(ours, theirs, x, weight):
    expected = theirs(x, weight)
    torch.testing.assert_close(ours(x, weight), expected)
    gradient = torch.randn_like(expected)
    pairs = (torch.autograd.grad(f(x, weight), (x, weight), gradient) for f in (ours, theirs))
    torch.testing.assert_close(*pairs)


def drawn(*shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    options = dict(generator=generator, dtype=torch.float64, requires_grad=True)
    return [torch.randn(shape, **options) for shape in shapes]


@given(**sizes)
@settings(max_examples=60)
def test_convolution_by_windows(shape, out, kernel, padding, seed):
    assume(all(n + 2 * p >= k for n, p, k in zip(shape[2:], padding, kernel, strict=True)))
    assume(all(p < k for p, k in zip(padding, kernel, strict=True)))
    x, weight = drawn(shape, (out, shape[1], *kernel), seed=seed)
    same_with_gradients(
        lambda x, w: steps.Convolution.apply(x, w, padding),
        lambda x, w: F.conv2d(x, w, stride=2, padding=padding),
        x, weight,
    )  # fmt: skip


@given(**sizes, extra=st.tuples(*[st.integers(0, 1)] * 2))
@settings(max_examples=60)
def test_transposed_convolution_by_windows(shape, out, kernel, padding, seed, extra):
    sides = zip(shape[2:], padding, kernel, extra, strict=True)
    assume(all(2 * (n - 1) - 2 * p + k + e >= 1 for n, p, k, e in sides))
    assume(all(p < k for p, k in zip(padding, kernel, strict=True)))
    x, weight = drawn(shape, (shape[1], out, *kernel), seed=seed)
    same_with_gradients(
        lambda x, w: steps.TransposedConvolution.apply(x, w, padding, extra),
        lambda x, w: F.conv_transpose2d(x, w, None, 2, padding, extra),
        x, weight,
    )  # fmt: skip


def test_formulations_are_of_one_model():
    x, losses = torch.rand(4, 1, 28, 28), []
    model = contenders.NETWORKS["conv"]((1, 28, 28)).train()
    for changed in (lambda model: model, steps.gather):
        torch.manual_seed(0)
        losses.append(vb.NegativeELBO()(changed(model), x).loss)
    torch.testing.assert_close(*losses)


def test_the_loop_minimizes_what_fit_does():
    model = vb.dense_vae((1, 4, 4), latent_dim=2)
    x = torch.rand(5, 1, 4, 4)
    losses = []
    for loss in (contenders.negative_elbo, lambda *args: vb.NegativeELBO()(*args).loss.mean()):
        torch.manual_seed(0)
        losses.append(loss(model, x))
    torch.testing.assert_close(*losses)


def test_a_contender_keeps_a_process_of_its_own():
    ours, theirs = (contenders.apart(name, os.getpid) for name in ("vaebook", "loop"))
    assert len({os.getpid(), ours, theirs}) == 3
    assert contenders.apart("vaebook", os.getpid) == ours
    contenders.process("vaebook").shutdown()
    contenders.process("loop").shutdown()
    contenders.process.cache_clear()


def test_the_recipe_sees_the_same_pixels():
    images = vb.load("digits").test[:3]
    shown = torch.stack([x for x, _ in contenders.Pictures(images)])
    torch.testing.assert_close(shown, images.pixels / 255)


def in_this_process(module, monkeypatch):
    names = {"sections": sections, "uses": uses}
    monkeypatch.setattr(module, "apart", lambda _, work, *given: work(*given))
    monkeypatch.setattr(module, "fresh", lambda call: json.loads(eval(call, names)))


def check_uses(found):
    assert found.keys() == {"provenance", "data", "uses", "memory"}
    rows = {(row["what"], row["contender"]): row for row in found["uses"]}
    assert len(rows) == 2 * len(uses.USES)
    for what, contender in rows:
        ours, row = rows[what, "vaebook"], rows[what, contender]
        pairs = zip(ours["seconds"], row["seconds"], strict=True)
        ratio = statistics.median(theirs / mine for mine, theirs in pairs)
        assert row["vaebook_is"] == pytest.approx(ratio, 1e-3)
    assert {row["contender"] for row in found["memory"]} == {*uses.WEIGHED}
    for row in found["memory"]:
        assert row["before_mib"] <= row["peak_memory_mib"]
    return rows


def test_the_uses_of_a_model_are_measured_and_kept(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pythae")
    in_this_process(uses, monkeypatch)
    assert uses.main(["--quick", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("uses-*.json")
    check_uses(json.loads(path.read_text("utf-8")))
    assert "log p(x), pythae" in capsys.readouterr().out


def test_both_estimate_the_same_log_likelihood():
    pytest.importorskip("pythae")
    sizes = uses.Sizes("digits", images=640, judged=10, draws=500)
    values = {name: [] for name in ("vaebook", "pythae")}
    for name, seed in itertools.product(values, range(3)):
        values[name].append(uses.used(name, "log p(x)", sizes, seed)[1])
    means = [statistics.mean(runs) for runs in values.values()]
    assert means[0] == pytest.approx(means[1], abs=0.1)
    assert values["vaebook"][0] != values["vaebook"][1]


def test_the_committed_uses():
    rows = check_uses(vb.results("uses-cpu.json"))
    both = [rows["log p(x)", name]["values"] for name in ("vaebook", "pythae")]
    spread = math.hypot(*map(statistics.stdev, both))
    assert abs(statistics.mean(both[0]) - statistics.mean(both[1])) < 3 * spread
    assert len(both[0]) >= 5


def test_a_quick_run_writes_the_report_and_keeps_other_sections(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pythae")
    monkeypatch.setattr(contenders, "WORKERS", {"conv": 0, "dense": 0})
    # What takes a fresh process, in this one.
    in_this_process(sections, monkeypatch)
    monkeypatch.setattr(sections.subprocess, "run", lambda *_, **__: None)
    assert run.main(["--quick", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("speed-*.json")
    (picture,) = tmp_path.glob("speed-*.png")
    first = json.loads(path.read_text("utf-8"))
    check_layout(first)
    for row in first["speed"]:
        assert row["images_per_second"] == pytest.approx(row["images"] / row["seconds"][0], 1e-3)
    assert plt.imread(picture).std() > 0

    assert run.main(["--quick", "--output", str(tmp_path), "--sections", "growth"]) == 0
    again = json.loads(path.read_text("utf-8"))
    assert again.pop("growth") != first.pop("growth")
    assert again == first
    assert "images/s" in capsys.readouterr().out


def test_a_quick_run_replaces_no_measurement(capsys):
    with pytest.raises(SystemExit):
        run.main(["--quick"])
    assert "--output" in capsys.readouterr().err


def test_the_committed_report():
    found = json.loads(COMMITTED.read_text("utf-8"))
    check_layout(found)
    for row in found["speed"]:
        assert row["images_per_second"] > 0
        assert 0 < row["share_of_ceiling"] < 1
    headline = {
        (row["contender"], row["batch_size"]): len(row["seconds"])
        for row in found["speed"]
        if row["network"] == "conv" and row["image_size"] == 28
    }
    for name in contenders.CONTENDERS:
        assert min(headline[name, 128], headline[name, 512]) >= 5
    assert abs(found["precision"]["relative_difference"]) < 0.005
    assert found["test_pass"]["mean_test_loss"] <= found["test_pass"]["target"]
    assert found["test_pass"]["vaebook_is"] >= 4
    assert math.isfinite(found["import"]["ratio"])
    text = COMMITTED.read_text("utf-8")
    assert text.count("\n") > sum(len(found[name]) for name in KEYS)
    assert report.ORDER[: len(found)] == tuple(found)


def test_training_is_as_fast_as_in_the_version_before():
    path = COMMITTED.with_name("versions-cpu.json")
    rows = json.loads(path.read_text("utf-8"))["rows"]
    assert [(row["network"], row["batch_size"]) for row in rows] == versions.SETTINGS
    for row in rows:
        pairs = zip(row["seconds"]["before"], row["seconds"]["now"], strict=True)
        ratio = statistics.median(before / now for before, now in pairs)
        assert row["now_is"]["before"] == pytest.approx(ratio)
        assert ratio >= 0.97
