"""Devices of models."""

import torch

from dal.errors import ConfigError, DalError, LearnerError, shortened


def device_of(name: str) -> torch.device:
    """Return the named device; "auto" is a GPU if one is available, otherwise the CPU.

    Raises:
        ConfigError: the name is not a device of torch.
        LearnerError: the device is not available on this machine.
    """
    if name == "auto":
        return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
    device = named_device(name)
    if device.type == "cuda" and (device.index or 0) >= (torch.cuda.device_count() if torch.cuda.is_available() else 0):
        there = f"{torch.cuda.device_count()} GPUs are" if torch.cuda.is_available() else "no GPU is"
        raise LearnerError(f"device is {name!r}, but {there} available here: set device to auto or cpu")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise LearnerError("device is 'mps', which is not available here: set device to auto or cpu")
    return device


def named_device(name: str, error: type[DalError] = ConfigError) -> torch.device:
    """Return the device of a name, whether or not it is available on this machine.

    Raises:
        DalError: an instance of `error`, if the name is not a device of torch, or is "meta".
    """
    try:
        device = torch.device(name) if isinstance(name, str) else None
    except RuntimeError:
        device = None
    if device is None or device.type == "meta":
        raise error(
            f"device must be 'auto' or a device of torch such as 'cpu' or 'cuda:0', not {shortened(repr(name))}"
        )
    return device
