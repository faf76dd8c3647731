"""Outputs of a long pass on disk while it runs, so that a killed pass is resumed with its unfinished batches only.

A folder of the cache has one file per output, in which each row of the pass has its place, and a table of the finished
batches. Each rank writes its batches to the folder on its computer; no folder has to be shared by several computers.
"""

import contextlib
import json
import logging
import math
import os
import shutil
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from dal.errors import DalError, one_line
from dal.learners.network_digest import network_digest, tensor_bytes
from dal.store.atomic_files import open_regular, read_regular, write_whole
from dal.store.bounded_json import parse_json
from dal.store.cache_contents import pass_folder
from dal.store.cache_folder import cache_folder

_log = logging.getLogger("dal")

#: Seconds after which a pass counts as long: its batches are stored from then on.
LONG = 60.0

_FACTS, _FINISHED = "pass.json", "finished"
_MARK = 16  # bytes of the digest of a batch; those of the checksum of its outputs follow
_SLOT = _MARK + 4

_MAX_WIDTH = 2**32  # numbers in a row of an output, at most

_ABANDONED = 7 * 86400.0  # seconds after which a pass is not expected to be resumed


@dataclass
class _JoinedPasses:
    """Passes whose outputs are stored until the last of them has ended.

    Attributes:
        began: time at which the first of them began, in seconds.
        first: place of the first row of the next pass, among the rows of all passes of its network.
        digests: digests of their networks, as far as they are known.
        folders: folders that they have used.
        stopped: whether nothing more is stored, because that has failed.
    """

    began: float
    first: int = 0
    digests: "WeakKeyDictionary[nn.Module, str]" = field(default_factory=WeakKeyDictionary)
    folders: set[Path] = field(default_factory=set)
    stopped: bool = False


_joined: ContextVar[_JoinedPasses | None] = ContextVar("joined passes", default=None)


@contextmanager
def joined_passes() -> Iterator[None]:
    """Context manager in which passes count as parts of a single one, so that what they store is kept until its end."""
    if _joined.get() is not None:  # a committee within a committee
        yield
        return
    joined = _JoinedPasses(time.monotonic())
    token = _joined.set(joined)
    try:
        yield
    finally:
        _joined.reset(token)
    for folder in joined.folders:
        _remove(folder)


@contextmanager
def rows_from(first: int) -> Iterator[None]:
    """Context manager in which a pass has the rows from this place on, among those of joined passes of its network."""
    joined = _joined.get()
    assert joined is not None
    joined.first += first
    try:
        yield
    finally:
        joined.first -= first


@contextmanager
def stored_pass(network: nn.Module) -> "Iterator[PassStore]":
    """Context manager of a pass of a network, whose stored outputs are removed at its end, unless it is interrupted."""
    joined = _joined.get()
    if joined is None:
        store = PassStore()
        yield store
        store.remove()
        return
    store = PassStore(joined.first, time.monotonic() - joined.began, joined.digests.get(network))
    store.stopped = joined.stopped
    yield store
    joined.stopped = store.stopped
    if (folder := store.find()) is not None:
        joined.folders.add(folder)
    if store.digest is not None:
        joined.digests[network] = store.digest


class PassStore:
    """The outputs of one pass on this computer.

    A batch counts as finished if the digest of what it was computed from, and the checksum of its outputs, are those in
    the table. So nothing is synced to disk: what a crash of the computer has lost is computed again.

    Args:
        first: place of the first row of the pass in the files.
        seconds: time since the pass began, or the joined passes that it is a part of.
        digest: digest of the network; None to compute it when it is first needed.

    Attributes:
        digest: the digest of the network.
        stopped: whether nothing more is stored, because that has failed.
    """

    def __init__(self, first: int = 0, seconds: float = 0.0, digest: str | None = None) -> None:
        self._first, self._began = first, time.monotonic() - seconds
        self.digest, self.stopped = digest, False
        self._folder: Path | None = None
        self._shapes: dict[str, list[int]] | None = None  # None while nothing is stored

    def __reduce__(self) -> tuple[type["PassStore"], tuple[int, float, str | None]]:
        """On the way to another process, which has a folder of its own if it is on another computer."""
        return PassStore, (self._first, self._seconds, self.digest)

    def attach(self, network: nn.Module, recipe: str) -> None:
        """Find what an earlier pass has stored.

        Args:
            network: the network.
            recipe: everything else that all outputs depend on, but for the rows.
        """
        self._network, self._recipe = network, recipe
        if self._shapes is None and (folder := self.find()) is not None:
            with contextlib.suppress(OSError, ValueError):
                self._shapes = _shapes_in(read_regular(folder / _FACTS))

    def find(self) -> Path | None:
        """Return the folder of this pass, which need not exist; None if no pass is stored now, or not this one."""
        # The digest of the network takes a moment, and most passes are not long.
        if self._folder is None and not self.stopped and pass_folder(cache_folder(), "").is_dir():
            self._folder = self._named_folder()
        return self._folder

    def _named_folder(self) -> Path | None:
        """The folder of this pass; None if its network has no digest, which is said in one line."""
        try:
            self.digest = self.digest or network_digest(self._network)
        except Exception as error:  # pickling, and reading of code, that is not ours may raise anything
            self.stopped = True
            _say_unknown(type(self._network).__name__, one_line(error))
            return None
        recipe = blake2b(self._recipe.encode(), digest_size=8).hexdigest()
        return pass_folder(cache_folder(), f"{self.digest}-{recipe}")

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def used(self) -> bool:
        """Whether batches are read and stored: once the pass is long, and from the start if it is resumed."""
        return not self.stopped and (self._shapes is not None or self._seconds >= LONG)

    def read(self, start: int, mark: bytes, count: int) -> dict[str, Tensor] | None:
        """Outputs of a finished batch of `count` rows whose first row has this place; None if it is not finished."""
        if self._shapes is None or self._folder is None:
            return None
        try:
            start += self._first
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
        self._folder = self._folder or self._named_folder()
        if self._folder is None:
            return
        rows, start = {name: value[0].nbytes for name, value in values.items()}, start + self._first
        try:
            folder, checksum = self._created(self._folder, values), 0
            for name, value in sorted(values.items()):
                content = value.contiguous().numpy().tobytes()
                checksum = zlib.crc32(content, checksum)
                _write(folder / name, start * rows[name], content)
            _write(folder / _FINISHED, start * _SLOT, mark + checksum.to_bytes(4, "little"))
        except (OSError, DalError) as error:
            self.stopped = True
            self.remove()  # which leaves room for the rest of the run
            _log.warning("this pass is not stored, and would begin again after a kill: %s", one_line(error))

    def _created(self, folder: Path, values: Mapping[str, Tensor]) -> Path:
        if self._shapes is None:
            for other in folder.parent.glob("*"):
                if _age(other) > _ABANDONED:
                    shutil.rmtree(other, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            for name in (*values, _FINISHED):
                os.close(open_regular(folder / name, os.O_RDWR | os.O_CREAT))
            self._shapes = {name: list(value.shape[1:]) for name, value in values.items()}
            write_whole(folder / _FACTS, json.dumps(self._shapes), follow_links=False)
        return folder

    def remove(self) -> None:
        """Remove the folder, after the whole pass."""
        if (folder := self.find()) is not None:  # other ranks may have made it
            _remove(folder)


@cache  # once per process, kind of network and reason
def _say_unknown(kind: str, reason: str) -> None:
    _log.warning("passes of a %s are not stored, and would begin again after a kill: %s", kind, reason)


def _shapes_in(content: bytes) -> dict[str, list[int]]:
    """Shapes of a row of each output, from the facts of a folder, to which others may be able to write.

    Raises:
        ValueError: they are damaged.
    """
    facts = parse_json(content)
    if not isinstance(facts, dict):
        raise ValueError("not a JSON object")
    for name, shape in facts.items():
        whole = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
        if not name.isidentifier() or not whole or math.prod(shape) > _MAX_WIDTH:
            raise ValueError(f"{name} is not an output")
    return facts


def batch_mark(batch: Mapping[str, Tensor], *facts: int) -> bytes:
    """Digest of the inputs of a batch, and of numbers that determine its outputs, 16 bytes."""
    digest = blake2b(repr(facts).encode(), digest_size=_MARK)
    for name, tensor in sorted(batch.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor_bytes(tensor))
    return digest.digest()


def _read(path: Path, offset: int, size: int) -> bytes:
    with open(open_regular(path, os.O_RDONLY), "rb") as file:
        file.seek(offset)
        return file.read(size)


def _write(path: Path, offset: int, content: bytes) -> None:
    with open(
        open_regular(path, os.O_RDWR), "r+b"
    ) as file:  # not a memory map, which a full disk would end the process for
        file.seek(offset)
        file.write(content)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # there are other passes
        folder.parent.rmdir()


def _age(folder: Path) -> float:
    try:
        return time.time() - (folder / _FINISHED).stat().st_mtime
    except OSError:
        return 0.0
