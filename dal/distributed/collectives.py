"""Communication between the ranks of a process group of PyTorch."""

import torch
import torch.distributed as dist
from torch import Tensor


class GroupComm:
    """`dal.functional.exchange.Comm` over a process group.

    Tensors are moved to the device on which the backend of the group works: the CPU for gloo, the current CUDA device
    for NCCL.

    Args:
        group: process group; `None` for the default one, which must be initialised.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self._rank, self._size = dist.get_rank(group), dist.get_world_size(group)
        self._backend = dist.get_backend(group)

    @property
    def rank(self) -> int:
        """Number of this rank in the group, from 0."""
        return self._rank

    @property
    def size(self) -> int:
        """Number of ranks."""
        return self._size

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensor of each rank, in the order of ranks; all have the same shape and dtype."""
        if not tensor.numel():
            return [tensor] * self._size
        sent = tensor.to(self._device(tensor)).contiguous()
        received = sent.new_empty(self._size, *sent.shape)
        dist.all_gather(list(received.unbind()), sent, group=self._group)
        return list(received.to(tensor.device).unbind())

    def _device(self, tensor: Tensor) -> torch.device:
        if self._backend == "gloo":
            return torch.device("cpu")
        if self._backend == "nccl":
            return torch.device("cuda", torch.cuda.current_device())
        return tensor.device
