"""Outputs of a long pass on disk while it runs, so that a killed pass is resumed with its unfinished batches only.

A folder of the cache has one file per output, in which each row of the pass has its place, and a table of the finished
batches. Each rank writes its batches to the folder on its computer; no folder has to be shared by several computers.
"""

import contextlib
import json
import logging
import shutil
import time
import zlib
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn

from dal.errors import DalError, one_line
from dal.store.atomic_files import write_whole
from dal.store.cache_contents import pass_folder
from dal.store.cache_folder import cache_folder

_log = logging.getLogger("dal")

#: Size in bytes of all outputs of a pass from which they are stored: a pass of less is not worth it.
STORED = 2**28

_FACTS, _FINISHED = "pass.json", "finished"
_MARK = 16  # bytes of the digest of a batch; those of the checksum of its outputs follow
_SLOT = _MARK + 4

#: Attributes that change no output: a pass runs in evaluation mode, and a saved model lies elsewhere and was started
#: otherwise.
_NO_OPTIONS = ("training", "name_or_path", "new_head", "started_pooling")

_ABANDONED = 7 * 86400.0  # seconds after which a pass is not expected to be resumed


class PassStore:
    """The outputs of one pass on this computer.

    A batch counts as finished if the digest of what it was computed from, and the checksum of its outputs, are those in
    the table. So nothing is synced to disk: what a crash of the computer has lost is computed again.

    Args:
        total: number of rows of the pass, on all ranks.
        limit: size in bytes of all outputs from which they are stored.

    Attributes:
        used: whether batches are still stored; not if the outputs are too small, or cannot be written.
    """

    def __init__(self, total: int, limit: int) -> None:
        self._total, self._limit = total, limit
        self._folder: Path | None = None
        self._shapes: dict[str, list[int]] | None = None  # None while nothing is stored
        self.used = True

    def __reduce__(self) -> tuple[type["PassStore"], tuple[int, int]]:
        """On the way to another process, which has a folder of its own if it is on another computer."""
        return PassStore, (self._total, self._limit)

    def attach(self, module: nn.Module, recipe: str) -> None:
        """Find what an earlier pass has stored.

        Args:
            module: the network.
            recipe: everything else that all outputs depend on, but for the rows.
        """
        root = cache_folder()
        # The digest of the network takes a moment; without it, the first batch tells whether the pass is to be stored.
        self._key = lambda: f"{network_digest(module)}-{blake2b(recipe.encode(), digest_size=8).hexdigest()}"
        if self._folder is None and pass_folder(root, "").is_dir():
            self._folder = pass_folder(root, self._key())
            try:
                self._shapes = json.loads((self._folder / _FACTS).read_text(encoding="utf-8"))
            except (OSError, ValueError):
                self._shapes = None

    def read(self, start: int, mark: bytes, count: int) -> dict[str, Tensor] | None:
        """Outputs of a finished batch of `count` rows whose first row has this place; None if it is not finished."""
        if self._shapes is None or self._folder is None:
            return None
        try:
            slot = _read(self._folder / _FINISHED, start * _SLOT, _SLOT)
            if slot[:_MARK] != mark:
                return None
            values, checksum = {}, 0
            for name, shape in sorted(self._shapes.items()):
                size = 4 * torch.Size(shape).numel()
                content = _read(self._folder / name, start * size, count * size)
                checksum = zlib.crc32(content, checksum)
                values[name] = torch.frombuffer(bytearray(content), dtype=torch.float32).view(count, *shape)
        except (OSError, ValueError, RuntimeError):
            return None
        return values if slot[_MARK:] == checksum.to_bytes(4, "little") else None

    def write(self, start: int, mark: bytes, values: Mapping[str, Tensor]) -> None:
        """Store the outputs of a batch, float32 on the CPU; says so in one line if that is not possible."""
        rows = {name: value[0].nbytes for name, value in values.items()}
        self.used = self._total * sum(rows.values()) >= self._limit
        if not self.used:
            return
        try:
            folder, checksum = self._created(values), 0
            for name, value in sorted(values.items()):
                content = value.contiguous().numpy().tobytes()
                checksum = zlib.crc32(content, checksum)
                _write(folder / name, start * rows[name], content)
            _write(folder / _FINISHED, start * _SLOT, mark + checksum.to_bytes(4, "little"))
        except (OSError, DalError) as error:
            self.used = False
            self.remove()  # which leaves room for the rest of the run
            _log.warning("this pass is not stored, and would begin again after a kill: %s", one_line(error))

    def _created(self, values: Mapping[str, Tensor]) -> Path:
        if self._folder is None:
            self._folder = pass_folder(cache_folder(), self._key())
        if self._shapes is None:
            for other in pass_folder(cache_folder(), "").glob("*"):
                if _age(other) > _ABANDONED:
                    shutil.rmtree(other, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            for name in (*values, _FINISHED):
                (self._folder / name).touch()
            self._shapes = {name: list(value.shape[1:]) for name, value in values.items()}
            write_whole(self._folder / _FACTS, json.dumps(self._shapes))
        return self._folder

    def remove(self) -> None:
        """Remove the folder, after the whole pass."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # there are other passes
                self._folder.parent.rmdir()


def network_digest(module: nn.Module) -> str:
    """Digest of the weights and options of a network."""
    digest = blake2b(str(module).encode(), digest_size=16)
    for name, part in module.named_modules():
        plain = {key: value for key, value in vars(part).items() if isinstance(value, str | int | float | None)}
        public = {key: value for key, value in plain.items() if not key.startswith("_") and key not in _NO_OPTIONS}
        digest.update(f"{name} {type(part).__module__}.{type(part).__qualname__} {sorted(public.items())}".encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def batch_mark(batch: Mapping[str, Tensor], *facts: int) -> bytes:
    """Digest of the inputs of a batch, and of numbers that determine its outputs, 16 bytes."""
    digest = blake2b(repr(facts).encode(), digest_size=_MARK)
    for name, tensor in sorted(batch.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes_of(tensor))
    return digest.digest()


def _bytes_of(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _read(path: Path, offset: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def _write(path: Path, offset: int, content: bytes) -> None:
    with open(path, "r+b") as file:  # not a memory map, which a full disk would end the process for
        file.seek(offset)
        file.write(content)


def _age(folder: Path) -> float:
    try:
        return time.time() - (folder / _FINISHED).stat().st_mtime
    except OSError:
        return 0.0
