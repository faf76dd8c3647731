"""Objects on the way between the processes of one run: pickles whose tensors and arrays are sent without copies.

Pickles are exchanged between processes that `dal` or a launcher started for this run and that proved to have its key,
never read from a file.
"""

import io
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from types import FunctionType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Buffer = NDArray[np.uint8]

_UNTRACKED = count(1)  # for tensors without a version: never the same twice


@dataclass(frozen=True)
class Packet:
    """A pickled object: its structure, and the contents of its tensors and arrays."""

    structure: bytes
    buffers: tuple[memoryview, ...] = ()


@dataclass(frozen=True)
class Unreadable:
    """What a rank answers that cannot read a job, for example because a class cannot be imported there."""

    reason: str


def packed(value: Any, references: Mapping[int, int], *, same_host: bool, own_main: bool) -> Packet:
    """Pickle an object for another process.

    Tensors on a GPU arrive on the GPU of the other process. Arrays that are memory maps are opened there, if it runs on
    the same computer; their content is sent otherwise.

    Args:
        value: object to send.
        references: numbers, by `id`, of objects that the other process has already.
        same_host: whether it runs on the same computer.
        own_main: whether it runs another program, which has none of the classes and functions of `__main__`.

    Raises:
        Exception: an object in it cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    file = io.BytesIO()
    pickler = _Pickler(file, buffers.append, references, same_host=same_host, own_main=own_main)
    pickler.dump(value)
    return Packet(file.getvalue(), tuple(buffer.raw() for buffer in buffers))


def unpacked(structure: bytes, buffers: Sequence[Buffer], objects: Mapping[int, Any]) -> Any:
    """Read an object from `packed`; `objects` are those that earlier packets referred to, by number."""
    return _Unpickler(io.BytesIO(structure), buffers, objects).load()


def stamp_of(module: nn.Module) -> str:
    """Digest of a network's structure and of the identity and version of its tensors, but not of their contents.

    It changes with every change of a weight in place, with every tensor that is replaced, and with the options of its
    layers.

    Raises:
        Exception: an object in the module cannot be pickled.
    """
    file = io.BytesIO()
    _StampPickler(file, None, {}, same_host=False, own_main=False).dump(module)
    return blake2b(file.getvalue(), digest_size=16).hexdigest()


class _Pickler(pickle.Pickler):
    def __init__(
        self,
        file: io.BytesIO,
        keep: Callable[[pickle.PickleBuffer], Any] | None,
        references: Mapping[int, int],
        *,
        same_host: bool,
        own_main: bool,
    ) -> None:
        super().__init__(file, protocol=5, buffer_callback=keep)
        self._references, self._same_host, self._own_main = references, same_host, own_main

    def persistent_id(self, value: Any) -> int | None:
        return self._references.get(id(value))

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type | FunctionType):
            if self._own_main and value.__module__ == "__main__":
                name = f"{value.__qualname__} of {os.path.basename(sys.argv[0]) or 'the console'}"
                raise pickle.PicklingError(f"{name} is known to rank 0 alone: move it to a module")
            return NotImplemented
        if type(value) in (Tensor, nn.Parameter) and value.layout is torch.strided and not value.is_quantized:
            return self._reduced_tensor(value)
        if isinstance(value, torch.device):
            return torch.device, ("cuda",) if value.type == "cuda" else (str(value),)
        if isinstance(value, np.ndarray) and self._same_host and (place := _place_of(value)) is not None:
            return _mapped, place
        return NotImplemented

    def _reduced_tensor(self, value: Tensor) -> Any:
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        options = value.dtype, tuple(value.shape), value.device.type, value.requires_grad
        # Not of a memoryview: the pickler is in a reference cycle with its buffers, and CPython 3.11 crashes when it
        # collects a memoryview of which there are views.
        return _tensor, (pickle.PickleBuffer(content), *options, isinstance(value, nn.Parameter))  # type: ignore[arg-type]


class _StampPickler(_Pickler):
    def reducer_override(self, value: Any) -> Any:
        if type(value) in (Tensor, nn.Parameter):
            version = -next(_UNTRACKED) if value.is_inference() else value._version
            place = value.data_ptr() if value.layout is torch.strided else id(value)
            return tuple, ((place, version, str(value.dtype), tuple(value.shape), value.requires_grad),)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, buffers: Iterable[Buffer], objects: Mapping[int, Any]) -> None:
        super().__init__(file, buffers=buffers)
        self._objects = objects

    def persistent_load(self, number: int) -> Any:
        return self._objects[number]


def _tensor(
    content: Buffer, dtype: torch.dtype, shape: tuple[int, ...], device: str, requires_grad: bool, parameter: bool
) -> Tensor:
    value = torch.from_numpy(content).view(dtype).reshape(shape) if len(content) else torch.empty(shape, dtype=dtype)
    value = value.to(device)  # a GPU is the current one of this process
    return nn.Parameter(value, requires_grad) if parameter else value.requires_grad_(requires_grad)


#: File, its inode, offset of the first number in bytes, type, shape and strides.
Place = tuple[str, int, int, np.dtype[Any], tuple[int, ...], tuple[int, ...]]


def _place_of(array: NDArray[Any]) -> Place | None:
    """Where an array lies in a file; None unless it is a part of a memory map of a file that is still there."""
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or array.size == 0 or min(array.strides) < 0:
        return None
    name = os.fspath(root.filename)
    try:
        inode = os.stat(name).st_ino
    except OSError:
        return None
    offset = root.offset + array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    return name, inode, offset, array.dtype, array.shape, array.strides


def _mapped(
    name: str, inode: int, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], strides: tuple[int, ...]
) -> NDArray[Any]:
    if os.stat(name).st_ino != inode:
        raise FileNotFoundError(f"{name} was replaced meanwhile")
    extent = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + dtype.itemsize
    content = np.memmap(name, np.uint8, "r", offset=offset, shape=(extent,))
    return np.ndarray(shape, dtype, content, strides=strides)
