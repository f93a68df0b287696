"""Keeping what was inferred, so that a killed run goes on where it was.

Inference is what costs; blending, tracing and writing are repeated in no time and give the same
result from the same sums. A journal is therefore a folder beside the output with one record for
each block whose tiles have been inferred. It belongs to one plan; a record counts only once it
bears its own name (it was written, synced and renamed) and its checksums hold.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.files import replacing
from geoseg.grid import BlockIndex, Share, TileGrid, share_window
from geoseg.prediction.blocks import Inferred, Tally

_HEADER = "plan.json"


@dataclass(frozen=True, slots=True)
class Journal:
    """Records of inferred blocks in a folder.

    Parameters
    ----------
    folder : Path
    """

    folder: Path

    @classmethod
    def beside(cls, out: Path) -> Journal:
        """Return the journal that belongs to an output file."""
        return cls(out.parent / f".{out.name}.geoseg")

    def begin(self, digest: str) -> int:
        """Make the folder ready for a plan and return how many blocks it knows already.

        Records of another plan are thrown away: they cannot be mixed with this one's.
        """
        header = self.folder / _HEADER
        try:
            known = json.loads(header.read_text(encoding="utf-8")).get("digest")
        except (OSError, ValueError, AttributeError):
            known = None
        if known != digest:
            self.remove()
            self.folder.mkdir()
            with replacing(header) as path:
                path.write_text(json.dumps({"digest": digest}), encoding="utf-8")
        return sum(1 for _ in self.folder.glob("[0-9]*.npz"))

    def remove(self) -> None:
        """Delete the journal."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def store(self, inferred: Inferred) -> None:
        """Keep a block.

        Not one that cost nothing, nor one with tiles that could not be read: they may be readable
        next time. Nor, silently, where the folder cannot be reached: a worker elsewhere.
        """
        if inferred.tally.failures or not inferred.tally.inferred or not self.folder.is_dir():
            return
        shares = inferred.shares
        block = next(iter(shares.values())).giver
        facts = {
            "inferred": inferred.tally.inferred,
            "skipped": inferred.tally.skipped,
            "takers": list(shares),
            "channels": len(shares[block].sums),
        }
        arrays = {f"sums{i}": _pack(share.sums) for i, share in enumerate(shares.values())}
        arrays |= {f"valid{i}": np.packbits(share.valid) for i, share in enumerate(shares.values())}
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with replacing(self._path(block)) as path, path.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)

    def load(self, grid: TileGrid, block: BlockIndex) -> Inferred | None:
        """Return a block's record; None where there is none or its checksums fail."""
        try:
            with self._path(block).open("rb") as file, np.load(file, allow_pickle=False) as record:
                return _unpack_record(record, grid, block)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None

    def _path(self, block: BlockIndex) -> Path:
        return self.folder / f"{block.row}_{block.col}.npz"


def _unpack_record(record: np.lib.npyio.NpzFile, grid: TileGrid, block: BlockIndex) -> Inferred:
    facts = json.loads(record["facts"].tobytes())
    shares = {}
    for i, (row, col) in enumerate(facts["takers"]):
        taker = BlockIndex(row, col)
        height, width = share_window(grid, block, taker).shape
        sums = _unpack(record[f"sums{i}"], (facts["channels"], height, width))
        valid = np.unpackbits(record[f"valid{i}"], count=height * width).astype(bool)
        shares[taker] = Share(block, sums, valid.reshape(height, width))
    return Inferred(shares, Tally(facts["inferred"], facts["skipped"]))


def _pack(sums: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Compress: the four bytes of all numbers are grouped, since the upper ones hardly vary."""
    grouped = np.ascontiguousarray(sums.reshape(-1).view(np.uint8).reshape(-1, 4).T)
    return np.frombuffer(zlib.compress(grouped.data, level=1), np.uint8)


def _unpack(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint32]:
    grouped = np.frombuffer(zlib.decompress(packed.data), np.uint8).reshape(4, -1)
    return np.ascontiguousarray(grouped.T).view(np.uint32).reshape(shape)
