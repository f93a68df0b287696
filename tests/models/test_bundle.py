import json
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from geoseg.errors import InvalidModel, UnwritableOutput
from geoseg.models import bundle as bundles
from geoseg.models.bundle import INT8, builtin_models, find_model, save_bundle
from geoseg.models.card import Head
from geoseg.models.card_json import make_document
from geoseg.models.inputs import InputSpec
from geoseg.values import ClassInfo
from tests.models.onnx_graphs import outside_in, save, write_pointwise

SPEC = InputSpec(("red", "green", "blue"), "uint8", 1 / 255, (0.5,) * 3, (0.5,) * 3)
HEAD = Head((ClassInfo(1, "building", (1, 2, 3)),), (1,), "sigmoid")
DOCUMENT = make_document("tiny", SPEC, HEAD, tile=64, overlap=16)


class Bomb:
    def __reduce__(self) -> Any:
        return (Path("/nonexistent/boom").touch, ())


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb()))


def write_torch_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Bomb()))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx = write_pointwise(tmp_path / "source.onnx")
    return save_bundle(tmp_path / "tiny", DOCUMENT, {"model.onnx": onnx}).path


def test_a_saved_bundle_is_found_again(folder: Path) -> None:
    bundle = find_model(str(folder))
    assert bundle.card.name == "tiny"
    assert set(bundle.files) == {"model.onnx"}
    asset = json.loads((folder / "model.json").read_text())["assets"]["model.onnx"]
    assert asset["roles"] == ["mlm:model", "mlm:weights"]
    assert asset["file:size"] == (folder / "model.onnx").stat().st_size
    assert find_model(str(folder)).card.digest == bundle.card.digest


def test_a_bundle_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"hello")
    with pytest.raises(InvalidModel):
        save_bundle(tmp_path / "new", DOCUMENT, {"model.onnx": bad})
    with pytest.raises(InvalidModel, match=r"weights\.pt is no file of a model"):
        save_bundle(tmp_path / "new", DOCUMENT, {"weights.pt": bad})
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


def test_an_existing_bundle_is_kept_unless_told_otherwise(folder: Path, tmp_path: Path) -> None:
    before = find_model(str(folder)).card.digest
    other = write_pointwise(tmp_path / "other.onnx", end="Sigmoid")
    with pytest.raises(UnwritableOutput, match="exists already"):
        save_bundle(folder, DOCUMENT, {"model.onnx": other})
    assert find_model(str(folder)).card.digest == before
    assert save_bundle(folder, DOCUMENT, {"model.onnx": other}, overwrite=True).card.digest != before


def test_a_changed_file_is_noticed(folder: Path) -> None:
    write_pointwise(folder / "model.onnx", end="Sigmoid")
    with pytest.raises(InvalidModel, match=r"is not the file that model\.json describes"):
        find_model(str(folder))


@pytest.mark.parametrize(
    ("href", "message"),
    [
        ("../other.onnx", "must be one of"),
        ("/etc/passwd", "must be one of"),
        ("https://example.org/m.onnx", "must be one of"),
        ("./model.safetensors", "is missing from the folder"),
    ],
)
def test_assets_name_files_of_the_folder(folder: Path, href: str, message: str) -> None:
    item = json.loads((folder / "model.json").read_text())
    item["assets"]["model.onnx"]["href"] = href
    (folder / "model.json").write_text(json.dumps(item))
    with pytest.raises(InvalidModel, match=message):
        find_model(str(folder))


def test_other_assets_may_be_anything(folder: Path) -> None:
    item = json.loads((folder / "model.json").read_text())
    item["assets"]["code"] = {"href": "https://example.org/train.py", "roles": ["mlm:source_code"]}
    (folder / "model.json").write_text(json.dumps(item))
    assert find_model(str(folder)).card.name == "tiny"


@pytest.mark.parametrize("write", [write_pickle, write_torch_archive])
@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.bin", "m.pkl", "m.ckpt", "m.onnx", "m.PT", "m"])
def test_pickles_are_refused_whatever_they_are_called(tmp_path: Path, write: Any, name: str) -> None:
    write(tmp_path / name)
    with pytest.raises(InvalidModel, match=r"save_pretrained.*torch\.onnx\.export") as caught:
        find_model(str(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [write_pickle, write_torch_archive])
@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
def test_pickles_in_a_folder_are_refused(folder: Path, write: Any, name: str) -> None:
    (folder / "config.json").write_text("{}")
    write(folder / name)
    with pytest.raises(InvalidModel, match=r"is a pickle or torch archive"):
        find_model(str(folder))


@pytest.mark.parametrize("name", ["model.pth", "pytorch_model.bin"])
def test_a_folder_with_nothing_but_a_pickle_says_how_to_convert_it(tmp_path: Path, name: str) -> None:
    write_pickle(tmp_path / name)
    with pytest.raises(InvalidModel, match=r"save_pretrained"):
        find_model(str(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\xff" * 64, (10**9).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]"],
)
def test_what_is_no_safetensors_file_is_refused(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(InvalidModel, match="is no safetensors file"):
        find_model(str(folder))


def test_weights_need_their_partner(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(InvalidModel, match=r"has model.safetensors but no config.json"):
        find_model(str(folder))


@pytest.mark.parametrize("name", INT8)
def test_half_an_int8_model_is_refused(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with pytest.raises(InvalidModel, match=rf"has {name} but no model_int8\."):
        find_model(str(folder))


def test_int8_comes_beside_the_exact_model_and_changes_the_digest(folder: Path, tmp_path: Path) -> None:
    before = find_model(str(folder)).card.digest
    parts = {}
    for name in INT8:
        parts[name] = tmp_path / name
        parts[name].write_bytes(name.encode())
    loss = {"geoseg:int8_loss_iou_points": {"value": 0.25, "where": "nine places", "how": "on tiles"}}
    document = make_document("tiny", SPEC, HEAD, tile=64, overlap=16, extra=loss)
    both = save_bundle(tmp_path / "both", document, {"model.onnx": folder / "model.onnx", **parts})
    assert set(both.files) == {"model.onnx", *INT8}
    assert both.card.digest != before
    assert both.document.properties.int8_loss is not None
    assert both.document.properties.int8_loss.value == 0.25
    with pytest.raises(InvalidModel, match="has no weights"):
        save_bundle(tmp_path / "alone", document, parts)


@pytest.mark.parametrize("loss", [0.3, {"value": 0.3}, {"value": float("nan"), "where": "a", "how": "b"}])
def test_the_loss_of_int8_says_where_and_how(loss: object) -> None:
    with pytest.raises(InvalidModel, match="int8_loss_iou_points"):
        make_document("tiny", SPEC, HEAD, tile=64, overlap=16, extra={"geoseg:int8_loss_iou_points": loss})


def test_a_folder_without_card_or_weights_says_so(folder: Path, tmp_path: Path) -> None:
    (folder / "model.onnx").unlink()
    with pytest.raises(InvalidModel, match=r"has no weights: neither model.safetensors nor model.onnx"):
        find_model(str(folder))
    with pytest.raises(InvalidModel, match=r"has no model.json"):
        find_model(str(tmp_path))


def test_an_onnx_file_with_weights_elsewhere_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in (tmp_path / "m.onnx", folder / "model.onnx"):
        save(outside_in("initializer", "../../etc/passwd"), path)
    for model in (tmp_path / "m.onnx", folder):
        with pytest.raises(InvalidModel, match="outside its own folder"):
            find_model(str(model))


def test_a_file_too_large_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "FILE_LIMIT", 10)
    with pytest.raises(InvalidModel, match="larger than"):
        find_model(str(folder))


@pytest.mark.parametrize("name", ["model.json", "model.onnx"])
def test_a_file_of_a_folder_points_to_the_folder(folder: Path, name: str) -> None:
    with pytest.raises(InvalidModel, match=f"give its folder, {folder}"):
        find_model(str(folder / name))


@pytest.mark.parametrize("name", ["nothing", "no/such/file.onnx", "a b", ""])
def test_an_unknown_name_is_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidModel) as caught:
        find_model(name)
    assert "\n" not in str(caught.value)


def test_hub_models_come_as_known_files_only(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: dict[str, Any] = {}

    def download(name: str, *, allow_patterns: list[str], local_dir: Path) -> str:
        asked[name] = allow_patterns
        shutil.copytree(folder, local_dir)
        return str(local_dir)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = find_model("org/tiny")
    assert found.path == tmp_path / "cache" / "geoseg" / "hub" / "org" / "tiny"
    assert set(asked["org/tiny"]) == {"model.json", *bundles.FILES}


def test_a_hub_model_that_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def download(name: str, **_: Any) -> str:
        raise ConnectionError("no route to host\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InvalidModel, match=r"not on the hub or offline: no route to host$"):
        find_model("org/tiny")


def test_models_that_ship_are_found_by_name() -> None:
    for name, path in builtin_models().items():
        assert find_model(name).path == path
