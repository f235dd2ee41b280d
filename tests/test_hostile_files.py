"""Files that are damaged, foreign or made to harm, and runs that go wrong around a checkpoint."""

import json
import math
import os
import signal
import sys
import threading

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import vaebook as vb
from tests.mutate import IMAGES, OPTIONS, header_of, joined, mutate, new_model, run, sources
from vaebook.models.networks import eval_mode
from vaebook.training.checkpoints import read, write
from vaebook.training.history import COLUMNS, Table

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.fixture
def files(tmp_path):
    """A saved model and the file of a run."""
    return sources(tmp_path)


def change(path, config=None, tensors=None, **others):
    """Write a file again with another configuration, header or tensors, without its checksum."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["vaebook"])
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header["config"] |= config or {}
    del header["checksum"]
    held = {name: value for name, value in (held | (tensors or {})).items() if value is not None}
    save_file(held, path, {"vaebook": json.dumps(header | others)})


BLOCKS = {"builder": "conv_vae", "image_shape": [1, 16, 16], "latent_dim": 2, "width": 2}


@pytest.mark.parametrize(
    "config",
    [
        {"latent_dim": 10**9},
        {"hidden": [10**9]},
        {"hidden": [60_000, 60_000]},
        {"hidden": [1] * 10**6},
        {"likelihood": [[[[[[[[]]]]]]]]},
        BLOCKS | {"residual": 10**6},
    ],
    ids=lambda config: f"{config}"[:40],
)
def test_what_a_file_cannot_pay_for_is_not_built(files, config, monkeypatch):
    def linear(*args, **kwargs):
        pytest.fail("memory was taken")

    path, empty = files[0], torch.nn.Linear.reset_parameters
    if config.get("builder"):  # a new one, without the arguments of the old
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["vaebook"])
        change(path, **{"tensors": {"model.x": torch.zeros(2**19)}})
        content = path.read_bytes()
        outer, inner, rest = header_of(content)
        inner["config"] = header["config"] = config
        path.write_bytes(joined(outer, inner, rest))
    else:
        change(path, config)

    def small(layer):
        if layer.weight.device.type != "meta":
            linear()
        empty(layer)

    monkeypatch.setattr(torch.nn.Linear, "reset_parameters", small)
    with pytest.raises(ValueError, match=r"^[^\n]*model[^\n]*$") as error:
        vb.load_model(path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 500


def test_a_part_comes_without_memory_for_the_other(tmp_path):
    down = [{"kind": "dense", "size": 5}]
    up = [{"kind": "dense", "size": 64}, {"kind": "reshape", "shape": [1, 8, 8]}]
    model = vb.layered_vae((1, 8, 8), 2, encoder=down, decoder=up)
    path = tmp_path / "part"
    vb.save(model, path, part="encoder")
    large = [{"kind": "dense", "size": 60_000}, {"kind": "dense", "size": 60_000}, *up]
    change(path, {"decoder": large})  # 14 GB
    encoder = vb.load_model(path, part="encoder")
    assert encoder.mean.weight.equal(model.encoder.mean.weight)


def test_a_header_that_would_fill_the_memory_is_not_read(tmp_path):
    path = tmp_path / "long"
    text = b'{"__metadata__":{"vaebook":"' + b"[]," * 3_000_000 + b'"}}'
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match=r"^path: .*long is damaged .*more lists in its header"):
        vb.load_model(path)
    path.write_bytes((2**40).to_bytes(8, "little") + text)
    with pytest.raises(ValueError, match=r"^path: .*long is damaged .*a header of "):
        vb.load_model(path)


def test_a_header_that_could_not_be_read_again_is_not_written(files, monkeypatch):
    before = files[0].read_bytes()
    monkeypatch.setattr("vaebook.training.checkpoints.HEADER", 100)
    with pytest.raises(ValueError, match=r"^model: expected a configuration that fits into"):
        vb.save(new_model(), files[0])
    assert files[0].read_bytes() == before


def test_numbers_too_small_to_compute_with_are_refused(files):
    weight = torch.zeros(6).to(torch.float8_e4m3fn)
    change(files[0], tensors={"model.encoder.body.1.bias": weight})
    with pytest.raises(ValueError, match=r"^path: .*model has torch\.float8"):
        vb.load_model(files[0])


def test_numbers_too_large_for_the_model_are_refused(files):
    weight = torch.full((6,), 1e300, dtype=torch.float64)
    change(files[0], tensors={"model.encoder.body.1.bias": weight})
    with pytest.raises(ValueError, match=r"^path: expected finite numbers in "):
        vb.load_model(files[0])


MOMENT = "optimizer.adam.1.exp_avg"
ADAM = {"names": ["adam"], "rates": [1e-3]}
OLDER = {"tensors": {"history": None}}  # an older file has its rows in the header
FIRST = dict.fromkeys(COLUMNS, 1.0) | {"epoch": 1, "split": "train"}


def rows(begun):
    """Return the matrix of a history whose rows begin with these numbers."""
    table = [[*row, *[1.0] * (len(COLUMNS) - len(row))] for row in begun]
    return torch.tensor(table, dtype=torch.float64).view(-1, len(COLUMNS))


@pytest.mark.parametrize(
    "changes",
    [
        OLDER | {"rows": []},
        OLDER | {"rows": [{}]},
        OLDER | {"rows": [7]},
        OLDER | {"rows": [{"epoch": 10**9, "split": "train"}]},
        OLDER | {"rows": {"epoch": 1}},
        OLDER,
        {"columns": COLUMNS[::-1]},
        {"columns": None},
        {"tensors": {"history": rows([])}},
        {"tensors": {"history": rows([[1, 0]]).float()}},
        {"tensors": {"history": rows([[1, 0]])[:, :7]}},
        {"tensors": {"history": rows([[1, 0]])[0]}},
        {"tensors": {"history": rows([[1, 0]])[None]}},
        {"tensors": {"history": rows([[1, 1]])}},
        {"tensors": {"history": rows([[1, 0], [3, 0]])}},
        {"tensors": {"history": rows([[1, 0], [1, 2]])}},
        {"tensors": {"history": rows([[1, 0], [1, 0.5]])}},
        {"tensors": {"history": rows([[0, 1], [1, 0]])}},
        {"tensors": {"history": rows([[1, 0], [math.nan, 0]])}},
        {"tensors": {"history": rows([[math.inf, 0]])}},
        {"tensors": {"history": rows([[1, 0, math.nan]])}},
        OLDER | {"rows": [FIRST | {"loss": 1e30}]},
        OLDER | {"rows": [FIRST | {"kl": -1e30}]},
        {"tensors": {"history": rows([[1, 0, 1e30]])}},
        {"optimizers": {}},
        {"optimizers": ADAM | {"names": [True]}},
        {"optimizers": ADAM | {"rates": ["x"]}},
        {"optimizers": ADAM | {"rates": [1e30]}},
        {"optimizers": ADAM | {"more": 1}},
        {"tensors": {MOMENT: None}},
        {"tensors": {MOMENT: torch.zeros(7)}},
        {"tensors": {MOMENT: torch.zeros(6, dtype=torch.int32)}},
        {"tensors": {MOMENT: torch.full((6,), torch.nan)}},
        {"tensors": {"optimizer.adam.99.exp_avg": torch.zeros(6)}},
        {"tensors": {"optimizer.adam.x": torch.zeros(6)}},
        {"tensors": {"optimizer.sgd.0.exp_avg": torch.zeros(6)}},
        {"tensors": {"snapshot": torch.zeros(6)}},
        {"tensors": {"posterior.0": torch.zeros(3, 2)}},
    ],
    ids=lambda changes: " ".join(f"{changes}".split())[:70],
)
def test_an_odd_state_of_a_run_is_refused(files, changes):
    change(files[1], **changes)
    with pytest.raises(ValueError, match=r"^checkpoint: [^\n]*run holds none to go on from: "):
        run(files[1], resume=True, epochs=2)


def test_a_run_whose_rows_are_in_the_header_goes_on(files):
    whole, path = files[1].with_name("whole"), files[1]
    run(whole, epochs=3)
    held = vb.fit(new_model(), IMAGES, epochs=1, checkpoint=path, resume=True, **OPTIONS).rows
    change(path, **OLDER, rows=held, columns=None)
    model = run(path, resume=True, epochs=3)
    header, tensors = read(path)
    assert "rows" not in header
    assert tensors["history"][:2].equal(Table().of(held))
    expected = read(whole)[1]
    assert tensors["history"][:, :6].equal(expected["history"][:, :6])
    assert weights(model).equal(weights(vb.load_model(whole)))


def test_mutated_files_load_whole_or_are_refused(tmp_path):
    found = mutate(200, tmp_path)
    assert found.keys() <= {"loaded", "refused"}, found


def test_the_error_of_a_run_that_fails_tells_where_to_go_on(tmp_path):
    path = tmp_path / "c"

    def poison(model, rows):
        if rows[0]["epoch"] == 2:
            bad.append(True)

    def objective(model, x):
        terms = vb.NegativeELBO()(model, x)
        return terms._replace(loss=terms.loss * torch.nan) if bad and not model.training else terms

    bad: list[bool] = []
    options = OPTIONS | {"validation": IMAGES, "callbacks": [poison], "objective": objective}
    with pytest.raises(FloatingPointError, match=r"validation loss .* epoch 3; .* from epoch 2$"):
        vb.fit(new_model(), IMAGES, epochs=4, checkpoint=path, **options)
    bad.clear()
    again = vb.fit(new_model(1), IMAGES, epochs=3, checkpoint=path, resume=True, **options)
    assert [row["epoch"] for row in again.rows] == [1, 1, 2, 2, 3, 3]


def test_a_rate_far_too_large_leaves_no_file_that_cannot_go_on(tmp_path):
    path = tmp_path / "c"
    with pytest.raises(FloatingPointError):
        vb.fit(new_model(), IMAGES, epochs=1, lr=1e30, checkpoint=path, **OPTIONS)
    assert not path.exists()


def test_a_loss_with_which_no_run_could_go_on_ends_it(tmp_path):
    def objective(model, x):
        terms = vb.NegativeELBO()(model, x)
        return terms._replace(loss=terms.loss * 1e20)

    with pytest.raises(FloatingPointError, match=r"^the train loss became \d\S+e\+\d+ in epoch 1;"):
        vb.fit(new_model(), IMAGES, epochs=1, objective=objective, lr=1e-30,
               checkpoint=tmp_path / "c", **OPTIONS)  # fmt: skip
    assert not (tmp_path / "c").exists()


def test_a_pipe_that_closes_does_not_end_a_run(monkeypatch, tmp_path):
    class Closed:
        encoding = "utf-8"
        told = 0

        def write(self, text):
            self.told += 1
            assert (tmp_path / "c").exists()  # saved before said
            raise BrokenPipeError

        def flush(self): ...

    monkeypatch.setattr(sys, "stdout", closed := Closed())
    options = OPTIONS | {"progress": True}
    history = vb.fit(new_model(), IMAGES, epochs=2, checkpoint=tmp_path / "c", **options)
    assert closed.told
    assert len(history.rows) == 2


def test_a_place_that_cannot_be_written_is_found_before_the_first_epoch(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"^checkpoint: expected a file that can be written"):
        vb.fit(new_model(), IMAGES, epochs=1, checkpoint=tmp_path / "file" / "c", **OPTIONS)
    vb.training.checkpoints.check_writable(tmp_path / "new" / "c")
    assert not [*(tmp_path / "new").iterdir()]


def weights(model):
    return torch.cat([value.flatten().float() for value in model.state_dict().values()])


def conv(seed):
    torch.manual_seed(seed)
    return vb.conv_vae((1, 16, 16), 2, width=2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing is forked")
def test_a_child_forked_while_another_thread_evaluates_has_its_turn():
    model, held, done = new_model(), threading.Event(), threading.Event()

    def hold():
        with eval_mode(model):
            held.set()
            done.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(20)
    child = os.fork()
    if not child:
        signal.alarm(5)  # which ends a child that waits for ever
        with eval_mode(model):
            os._exit(0)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert status == 0


def test_a_picture_that_is_not_finite_ends_no_training(tmp_path):
    path, picture = tmp_path / "run", torch.full((2, 3), float("inf"))
    write(path, new_model(), {"posterior.3": picture})
    assert read(path)[1]["posterior.3"].equal(picture)
    with pytest.raises(ValueError, match=r"^model: .*got others in optimizer\.adam"):
        write(path, new_model(), {"optimizer.adam.0.exp_avg": picture})


def test_threads_and_callbacks_leave_a_training_as_it_is():
    images = torch.rand(60, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    alone, pair, looked_at = [conv(0), conv(1)], [conv(0), conv(1)], conv(0)
    options = OPTIONS | {"epochs": 4, "batch_size": 4}
    for model in alone:
        vb.fit(model, images, **options)
    before = torch.get_rng_state()
    threads = [threading.Thread(target=vb.fit, args=(m, images), kwargs=options) for m in pair]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.get_rng_state().equal(before)
    assert all(weights(a).equal(weights(b)) for a, b in zip(alone, pair, strict=True))

    over = threading.Event()

    def look():
        while not over.is_set():
            vb.embed(looked_at, images[:8])
            vb.evaluate(looked_at, images[:8])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        vb.fit(looked_at, images, callbacks=[lambda m, _: vb.embed(m, images) is None], **options)
    finally:
        over.set()
        thread.join()
    assert weights(looked_at).equal(weights(alone[0]))
