"""Control of dropout: which calls are active, which masks they use, and isolation of global random generators."""

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
    """Context that intercepts all dropout calls, controls their masks and counts the active ones.

    As a torch function mode it intercepts functional dropout as well as `nn.Dropout`; replacing modules would miss
    models that call `F.dropout` with their own `training` flag.

    Args:
        attention: whether dropout on attention weights is active. Always off with joint masks, because a mask over
            pairs of positions cannot be the same for texts of different lengths.
        is_attention: predicate that recognises attention weights among the inputs of dropout calls.
        mask_shape: function from an input (R, ...) to the shape of its joint mask, with 1 in the dimensions that share
            the mask (rows, positions).
        seed: seed of joint masks, which depend only on (seed, index of the call, sample); `None` for independent
            masks per row from the global generator.
        expand: number of samples K computed in one forward: the first active call repeats its B rows to K*B, sample by
            sample, so that earlier layers run once. `None` for one sample per forward.
        force: whether every call is active, with probability 1/2 if it has none; used to probe a model's structure.

    Attributes:
        calls: number of active calls in this forward.
        attention_calls: number of calls on attention weights with a probability above 0, whether active or not.
        sample: index of the current sample; set by `start`.
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
        """Start the forward pass of a sample."""
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
            return _call(func, input, p) if self._attends(p) else input
        first = self.calls == 0
        self.calls += 1
        if self.expand is not None and first:
            input = input.expand(self.expand, *input.shape).flatten(0, 1)  # (K*B, ...), sample by sample
        if self.seed is None:
            return _call(func, input, p)
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
    """Set `training` to `trained(m)` on every module m, and restore the flags on exit.

    Only dropout is affected: modules with running statistics stay in evaluation mode, and `layerdrop` is disabled.
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
    """Seed the global generators of the CPU and of `device`, and restore their states on exit.

    Needed because dropout kernels and `nn.init` do not accept a generator.
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


def _call(func: Any, input: Tensor, p: float) -> Tensor:
    out: Tensor = func(input, p)
    return out


def rng_states(device: torch.device | None = None) -> list[Tensor]:
    """States of the global generators of the CPU and of `device`."""
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
