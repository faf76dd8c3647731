"""Where a learner's model runs."""

import torch


def device_of(name: str) -> torch.device:
    """The named device; "auto" is a GPU when there is one, and the CPU otherwise."""
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")
