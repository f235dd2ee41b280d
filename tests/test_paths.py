"""A path may begin with the user's home folder; and a user may have none."""

import numpy as np
import pytest

import vaebook as vb
from vaebook.__main__ import main
from vaebook.data import load
from vaebook.data.images import as_images


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder for the test, which is not the folder it runs in."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    monkeypatch.chdir(tmp_path)
    yield folder
    assert not (tmp_path / "~").exists()


def test_a_tilde_is_the_home_of_models(home, capsys):
    model = vb.dense_vae((1, 8, 8), 2, hidden=[4])
    vb.save(model, home / "run" / "model.safetensors")
    vb.load_model("~/run/model.safetensors")
    vb.save(model, "~/again.safetensors")
    assert (home / "again.safetensors").is_file()
    images = as_images(np.zeros((4, 1, 8, 8), np.uint8))
    vb.fit(model, images, epochs=1, checkpoint="~/kept.safetensors")
    assert (home / "kept.safetensors").is_file()
    for given in ("~/run", "~/run/model.safetensors"):
        assert main(["sample", "--model", given, "--out", "~/drawn.png"]) == 0
        (home / "drawn.png").unlink()
    assert str(home / "drawn.png") in capsys.readouterr().out


def test_a_tilde_is_the_home_of_an_export(home, monkeypatch):
    pytest.importorskip("onnxscript")

    def stop(**how):
        raise InterruptedError

    monkeypatch.setattr("vaebook.export.TemporaryDirectory", stop)
    with pytest.raises(InterruptedError):
        vb.export_onnx(vb.dense_vae((1, 8, 8), 2), "~/onnx")
    assert (home / "onnx").is_dir()


def test_without_a_home_the_data_are_had_or_the_path_is_named(monkeypatch, tmp_path):
    pwd = pytest.importorskip("pwd")

    def nobody(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "VAEBOOK_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("vaebook.data.dataset.gettempdir", lambda: str(tmp_path))
    assert len(load("digits").train) == 1500
    for call, argument in (
        (lambda: load("~/pictures"), "name_or_path"),
        (lambda: load("kmnist", root="~/data"), "root"),
        (lambda: vb.load_model("~/model.safetensors"), "path"),
    ):
        with pytest.raises(ValueError, match=f"^{argument}: expected a path, got ~.*no such home"):
            call()
