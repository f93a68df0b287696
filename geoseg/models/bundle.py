"""Finding, checking and saving models: a folder with a card, or a single ONNX file.

Model files are data. Pickles and TorchScript archives are refused whatever they are called, and
nothing in a model file is executed.
"""

from __future__ import annotations

import mmap
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

from geoseg import files
from geoseg.errors import InvalidModel, InvalidOption
from geoseg.models.card import ModelCard, card_of
from geoseg.models.card_json import amended, read_document, write_document
from geoseg.models.document import Asset, CardDocument
from geoseg.models.onnx_file import external_files

CARD = "model.json"
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
ONNX = "model.onnx"
ONNX_DATA = "model.onnx.data"
BOXES, MASKS = "model_boxes.onnx", "model_masks.onnx"
IR = ("model.xml", "model.bin")
INT8 = ("model_int8.xml", "model_int8.bin")
INT8_PARTS = {
    ONNX: INT8,
    BOXES: ("model_boxes_int8.xml", "model_boxes_int8.bin"),
    MASKS: ("model_masks_int8.xml", "model_masks_int8.bin"),
}
"""The quantized networks of a model that finds objects."""

_AS_ONNX = ("application/octet-stream; framework=onnx", "onnx")
FILES: Mapping[str, tuple[str, str]] = {
    WEIGHTS: ("application/octet-stream; framework=pytorch", "safetensors.torch.save_file"),
    **dict.fromkeys((ONNX, ONNX_DATA, BOXES, MASKS), _AS_ONNX),
    IR[0]: ("application/xml; framework=openvino", "openvino"),
    IR[1]: ("application/octet-stream; framework=openvino", "openvino"),
    **{xml: ("application/xml; framework=openvino", "openvino") for xml, _ in INT8_PARTS.values()},
    **{data: ("application/octet-stream; framework=openvino", "openvino") for _, data in INT8_PARTS.values()},
    CONFIG: ("application/json", "segmentation_models_pytorch.save_pretrained"),
}
"""The files of a model folder beside its card: (media type, MLM artifact type)."""

FILE_LIMIT = 8 << 30
"""Largest file of weights in bytes."""

_PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
_HOW = (
    "geoseg never runs pickles or TorchScript: save the weights with "
    "model.save_pretrained(folder) (safetensors) or torch.onnx.export(model, …)"
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model that was found and checked; holds nothing open.

    Parameters
    ----------
    path : Path
        The folder, or the ONNX file.
    card : ModelCard
        What the other rooms read.
    document : CardDocument
        The whole card, for people.
    files : mapping of str to Path
        The model's files by their standard names (`FILES`).
    """

    path: Path
    card: ModelCard
    document: CardDocument
    files: Mapping[str, Path]


def builtin_models() -> dict[str, Path]:
    """Return the folders of the models that ship with geoseg, by name."""
    root = Path(str(resources.files("geoseg.models"))) / "builtin"
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{CARD}"))}


def find_model(name_or_path: str) -> Bundle:
    """Find a model by name or path, check it, and read its card.

    In this order: the name of a model that ships with geoseg, an ONNX file, a folder with a
    ``model.json``, a model on the Hugging Face hub (``organisation/name``).

    Raises
    ------
    InvalidModel
        If there is no such model, or it is wrong, incomplete or unsafe.
    """
    builtin = builtin_models()
    if name_or_path in builtin:
        return load_folder(builtin[name_or_path])
    path = Path(name_or_path)
    if path.is_dir():
        return load_folder(path)
    if path.suffix.lower() in _PICKLES or path.suffix.lower() == ".bin":
        raise InvalidModel(f"{path}: {_HOW}")
    if path.is_file():
        refuse_pickle(path)
        in_folder = path.name == ONNX and (path.parent / CARD).is_file()  # whose card is not passed over
        if path.name in (CARD, WEIGHTS, CONFIG) or in_folder:
            raise InvalidModel(f"{path}: give its folder, {path.parent}")
        if path.suffix.lower() == ".onnx":
            return _load_onnx(path)
        raise InvalidModel(f"{path}: not a model; geoseg reads ONNX files and model folders")
    if _HUB_NAME.fullmatch(name_or_path) and not path.parent.is_dir():
        return load_folder(_download(name_or_path))
    known = ", ".join(builtin) or "none"
    raise InvalidModel(f"{name_or_path}: no such model, folder or ONNX file; models that ship: {known}")


def load_folder(folder: Path) -> Bundle:
    """Check a model folder and read its card.

    Raises
    ------
    InvalidModel
        If a file is missing, unsafe, too large, or not the one that the card describes.
    """
    if not (folder / CARD).is_file():
        _refuse_pickles_in(folder)
        raise InvalidModel(f"{folder}: has no {CARD}; docs/models.md shows how to write one")
    document = read_document(folder / CARD)
    found = {name: folder / name for name in FILES if (folder / name).is_file()}
    if not {WEIGHTS, ONNX, IR[0]} & set(found):
        _refuse_pickles_in(folder)
        raise InvalidModel(f"{folder}: has no weights: neither {WEIGHTS} nor {ONNX}")
    for name, partner in ((WEIGHTS, CONFIG), IR, IR[::-1], INT8, INT8[::-1], (BOXES, MASKS), (MASKS, BOXES)):
        if name in found and partner not in found:
            raise InvalidModel(f"{folder}: has {name} but no {partner}")
    if document.properties.instances is not None and ONNX in found and BOXES not in found:
        raise InvalidModel(f"{folder}: finds objects and has {ONNX} but no {BOXES} and {MASKS}")
    for path in found.values():
        _check_file(path)
    checksums = {name: files.sha256(path) for name, path in found.items()}
    _check_assets(folder / CARD, document, checksums)
    return Bundle(folder, card_of(document, checksums), document, found)


def save_bundle(
    folder: Path, document: CardDocument, sources: Mapping[str, Path], *, overwrite: bool = False
) -> Bundle:
    """Write a model folder in one step: complete under its name, or not at all.

    Parameters
    ----------
    folder : Path
        The folder to make; its parent must exist.
    document : CardDocument
        The card; its assets are filled in here, with checksums.
    sources : mapping of str to Path
        The files to copy, by their standard names (`FILES`).

    Raises
    ------
    UnwritableOutput
        If the folder cannot be made, or exists and `overwrite` is False.
    InvalidModel
        If the files do not make a valid model.
    """
    unknown = set(sources) - set(FILES)
    if unknown:
        raise InvalidModel(f"{folder}: {min(unknown)} is no file of a model; those are {', '.join(FILES)}")
    with files.replacing(folder, overwrite=overwrite) as temporary:
        temporary.mkdir()
        for name, source in sources.items():
            shutil.copyfile(source, temporary / name)
        bands = document.model_dump(by_alias=True, exclude_unset=True)["properties"].get("bands", ())
        assets = {name: _asset(temporary / name, bands) for name in sources}
        complete = document.model_copy(update={"assets": assets})
        write_document(complete, temporary / CARD)
        load_folder(temporary)
    return load_folder(folder)


def find_amendable(name_or_path: str) -> Bundle:
    """Find a model whose card may be changed: the user's own folder.

    Raises
    ------
    InvalidModel
        As `find_model`.
    InvalidOption
        If it ships with geoseg, or has no card.
    """
    bundle = find_model(name_or_path)
    if name_or_path in builtin_models():
        raise InvalidOption(
            f"--write: {name_or_path} ships with geoseg and is not changed; copy its folder {bundle.path} "
            "and give the copy"
        )
    if not bundle.path.is_dir():
        raise InvalidOption(f"--write: {bundle.path} has no card; put it into a folder with a model.json")
    return bundle


def amend_card(bundle: Bundle, properties: Mapping[str, object]) -> None:
    """Write a model folder's card anew with other properties, see `geoseg.models.card_json.amended`."""
    document = amended(bundle.document, properties)
    with files.replacing(bundle.path / CARD) as path:
        write_document(document, path)


def refuse_pickle(path: Path) -> None:
    """Refuse what is too large, and a pickle, a torch archive or TorchScript by its first bytes.

    Raises
    ------
    InvalidModel
        One line that says how to convert it.
    """
    if path.stat().st_size > FILE_LIMIT:
        raise InvalidModel(f"{path}: larger than {FILE_LIMIT >> 30} GiB")
    with path.open("rb") as file:
        head = file.read(4)
    zipped = head == b"PK\x03\x04"
    pickled = len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5 and path.suffix != ".bin"
    if zipped or pickled:
        if zipped and not _holds_pickles(path):
            raise InvalidModel(f"{path}: is a zip archive; unpack it and give the folder")
        raise InvalidModel(f"{path}: is a pickle or torch archive; {_HOW}")


def _holds_pickles(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(_PICKLES) for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return True


def _load_onnx(path: Path) -> Bundle:
    externals = _external_files(path)
    version = tuple(files.fingerprint(path.parent / name) for name in (path.name, *externals))
    return _probe_onnx(path, externals, version)


@lru_cache(maxsize=8)
def _probe_onnx(path: Path, externals: tuple[str, ...], version: tuple[str, ...]) -> Bundle:
    """Run an ONNX file to learn what it is; once for each `version` of it, as that takes a while."""
    from geoseg.models.onnx_card import document_of

    document = document_of(path)
    checksums = {name: files.sha256(path.parent / name) for name in externals}
    checksums[ONNX] = files.sha256(path)
    return Bundle(path, card_of(document, checksums), document, {ONNX: path})


def _check_file(path: Path) -> None:
    refuse_pickle(path)
    if path.suffix == ".onnx":
        unlisted = set(_external_files(path)) - {WEIGHTS, ONNX_DATA}
        if unlisted:
            raise InvalidModel(
                f"{path}: keeps weights in {min(unlisted)}; only {WEIGHTS} and {ONNX_DATA} are allowed"
            )
    if path.name == WEIGHTS:
        with path.open("rb") as file:
            length, brace = int.from_bytes(file.read(8), "little"), file.read(1)
        if brace != b"{" or length > min(100_000_000, path.stat().st_size):
            raise InvalidModel(f"{path}: is no safetensors file; {_HOW}")


def _external_files(path: Path) -> tuple[str, ...]:
    """Return the files beside an ONNX file that hold weights of it; refuse any elsewhere, or others."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            externals = external_files(data)
    except ValueError as error:
        raise InvalidModel(f"{path}: is no ONNX file: {error}") from error
    for name, external in externals.items():
        if name != Path(name).name or name in ("", "..") or "\\" in name:
            raise InvalidModel(f"{path}: wants to read weights from {name!r}, outside its own folder")
        if not (path.parent / name).is_file():
            raise InvalidModel(f"{path}: its weights are in {name}, which is not beside it")
        size = (path.parent / name).stat().st_size
        if size < external.size:
            raise InvalidModel(
                f"{path.parent / name}: has {size} bytes, {path.name} needs {external.size}; "
                "it is cut off or another file"
            )
        if external.checksums and external.checksums != {files.sha1(path.parent / name)}:
            raise InvalidModel(
                f"{path.parent / name}: is not the file that {path.name} was written with (checksum)"
            )
    return tuple(externals)


def _check_assets(card: Path, document: CardDocument, checksums: Mapping[str, str]) -> None:
    for key, asset in document.assets.items():
        if "mlm:model" not in asset.roles:
            continue
        name = asset.href.removeprefix("./")
        if name not in FILES:
            raise InvalidModel(f"{card}: assets.{key}.href: must be one of {', '.join(FILES)}")
        if name not in checksums:
            raise InvalidModel(f"{card}: assets.{key}.href: {name} is missing from the folder")
        if asset.checksum not in (None, f"1220{checksums[name]}"):
            raise InvalidModel(f"{card.parent / name}: is not the file that {CARD} describes (checksum)")


def _asset(path: Path, bands: Sequence[Mapping[str, object]]) -> Asset:
    """Describe a file of a model; STAC 1.1 has bands of an item only where an asset has them too."""
    media, artifact = FILES[path.name]
    fields = {
        "href": f"./{path.name}",
        "type": media,
        "roles": ("mlm:model", "mlm:weights") if path.name != CONFIG else ("mlm:model",),
        "mlm:artifact_type": artifact,
        "file:checksum": f"1220{files.sha256(path)}",
        "file:size": path.stat().st_size,
        "bands": bands,
    }
    return Asset.model_validate(fields)


def _refuse_pickles_in(folder: Path) -> None:
    for path in sorted(folder.glob("*")):
        if path.suffix.lower() in _PICKLES or path.name == "pytorch_model.bin":
            raise InvalidModel(f"{path}: {_HOW}")


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download

        # Into a folder of its own: the hub's cache is made of links, which OpenVINO does not follow.
        folder = files.cache_folder("hub") / name
        return Path(snapshot_download(name, allow_patterns=[CARD, *FILES], local_dir=folder))
    except Exception as error:  # the hub client raises a dozen kinds, of three libraries
        reason = str(error).strip().split("\n", 1)[0][:200] or type(error).__name__
        raise InvalidModel(f"{name}: no such folder, and not on the hub or offline: {reason}") from error
