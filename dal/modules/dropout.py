"""Dropout under control: which calls act, which mask each of them uses, and nobody else's random numbers touched."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_CHANNELWISE = (F.dropout1d, F.dropout2d, F.dropout3d)

MaskShape = Callable[[Tensor], tuple[int, ...]]


class DropoutMasks(TorchFunctionMode):
    """While active, decides what every dropout call does and counts the ones that act.

    A function mode sees functional dropout as well as `nn.Dropout`. Dropout modules alone would miss the models that
    call `F.dropout` with their own `training` flag.

    Args:
        attention: whether dropout on attention weights acts. Joint masks turn it off in any case: a mask over pairs of
            positions has no meaning that is the same for texts of different lengths.
        is_attention: whether the input of a dropout call is attention weights.
        seed: None: masks from the global generator, new ones for every row. A number: joint masks, which depend on
            nothing but (seed, number of the call, sample).
        mask_shape: the shape of a joint mask for an input (R, ...): what rows (and positions) share is 1.
        expand: None: the rows of one forward are rows of one sample, see `sample`. K: the first call that acts turns
            its B rows into K*B, sample by sample, so that what precedes it is computed once.
        force: every call acts, with probability 1/2 where it would not. For probing a model's structure.

    Attributes:
        calls: calls that acted in this forward.
        attention_calls: calls on attention weights that would have acted, had they been asked for.
        sample: which sample is being computed; setting it to the next one starts a new forward.
    """

    def __init__(
        self,
        *,
        attention: bool,
        is_attention: Callable[[Tensor], bool],
        mask_shape: MaskShape,
        seed: int | None = None,
        expand: int | None = None,
        force: bool = False,
    ) -> None:
        super().__init__()
        self.attention = attention and seed is None
        self.is_attention = is_attention
        self.mask_shape = mask_shape
        self.seed = seed
        self.expand = expand
        self.force = force
        self.calls = 0
        self.attention_calls = 0
        self.sample = 0

    def start(self, sample: int) -> None:
        """A forward for this sample begins."""
        self.sample = sample
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout or func in _CHANNELWISE:
            return self._drop(func, *args, **kwargs)
        if func is F.scaled_dot_product_attention and not self._attends(kwargs.get("dropout_p") or 0.0):
            kwargs = {**kwargs, "dropout_p": 0.0}
        if func is F.multi_head_attention_forward and not self._attends(args[10] if kwargs.get("training") else 0.0):
            kwargs = {**kwargs, "training": False}
        return func(*args, **kwargs)

    def _attends(self, p: float) -> bool:
        if p > 0:
            self.attention_calls += 1
            self.calls += self.attention
        return self.attention and p > 0

    def _drop(self, func: Any, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training or p == 0:
            if not self.force:
                return input
            p = 0.5
        if func is F.dropout and self.is_attention(input):
            return _as_is(func, input, p) if self._attends(p) else input
        first = self.calls == 0
        self.calls += 1
        if self.expand is not None and first:
            input = input.expand(self.expand, *input.shape).flatten(0, 1)  # (K*B, ...), sample by sample
        if self.seed is None:
            return _as_is(func, input, p)
        if self.expand is None:
            return input * self._mask(func, input, p, self.sample).to(input)
        rows = input.unflatten(0, (self.expand, -1))  # (K, B, ...)
        masks = torch.stack([self._mask(func, rows[k], p, k) for k in range(self.expand)])  # (K, 1, ...)
        out: Tensor = rows * masks.to(rows)
        return out.flatten(0, 1)

    def _mask(self, func: Any, input: Tensor, p: float, sample: int) -> Tensor:
        if func in _CHANNELWISE:
            shape = (1, input.shape[1], *(1 for _ in input.shape[2:]))
        else:
            shape = self.mask_shape(input)
        assert self.seed is not None
        state = np.random.SeedSequence((self.seed, self.calls, sample)).generate_state(1, np.uint64)
        kept = torch.rand(shape, generator=torch.Generator().manual_seed(int(state[0]))) >= p
        scaled: Tensor = kept / max(1 - p, torch.finfo(torch.float32).tiny)
        return scaled


@contextmanager
def training_flags(module: nn.Module, trained: Callable[[nn.Module], bool]) -> Iterator[None]:
    """Set `training` to `trained(m)` on every module m, and restore it on leaving.

    Everything but dropout stays as in evaluation: modules with running statistics are never set to training, and whole
    layers are never skipped (`layerdrop`).
    """
    modules: list[Any] = list(module.modules())
    flags = [m.training for m in modules]
    skipping = [(m, m.layerdrop) for m in modules if isinstance(getattr(m, "layerdrop", None), float)]
    try:
        for m in modules:
            m.training = trained(m) and getattr(m, "running_mean", None) is None
        for m, _ in skipping:
            m.layerdrop = 0.0
        yield
    finally:
        for m, flag in zip(modules, flags, strict=True):
            m.training = flag
        for m, probability in skipping:
            m.layerdrop = probability


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the global generators of the CPU and of `device`, and put them back on leaving.

    Dropout kernels and `nn.init` take no generator of ours, so the global one is borrowed.
    """
    before = rng_states(device)
    try:
        torch.default_generator.manual_seed(seed)
        if device is not None and device.type == "mps":
            torch.mps.manual_seed(seed)
        elif device is not None and device.type != "cpu":
            _default_generator(device).manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(before[0])
        if device is not None and len(before) > 1:
            if device.type == "mps":
                torch.mps.set_rng_state(before[1])
            else:
                _default_generator(device).set_state(before[1])


def _as_is(func: Any, input: Tensor, p: float) -> Tensor:
    out: Tensor = func(input, p)
    return out


def rng_states(device: torch.device | None = None) -> list[Tensor]:
    """The states of the global generators of the CPU and of `device`."""
    states = [torch.get_rng_state()]
    if device is not None and device.type == "mps":
        states.append(torch.mps.get_rng_state())
    elif device is not None and device.type != "cpu":
        states.append(_default_generator(device).get_state())
    return states


def _default_generator(device: torch.device) -> torch.Generator:
    backend: Any = torch.get_device_module(device)
    generator: torch.Generator = backend.default_generators[
        backend.current_device() if device.index is None else device.index
    ]
    return generator
