"""Where a learner's model runs."""

import torch

from dal.errors import ConfigError, DalError, LearnerError, shortened


def device_of(name: str) -> torch.device:
    """The named device; "auto" is a GPU when there is one, and the CPU otherwise.

    Raises:
        ConfigError: there is no such kind of device.
        LearnerError: it is not available here.
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
    """The device of that name, whether or not it is available here.

    Raises:
        DalError: of the given class; there is no such kind of device, or one that holds no numbers.
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
