"""Digest of a network: its weights, the values of all attributes, and the code of its classes.

Two networks with the same digest compute the same outputs from the same inputs on the same hardware, if their code
reads nothing else, such as files, global variables that change, or unseeded random numbers.
"""

import io
import pickle
import sys
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

#: Attributes that change no output, by the class that has them: a pass runs in evaluation mode, and a saved model lies
#: elsewhere and was started otherwise.
_NO_OPTIONS = {
    "torch.nn.modules.module.Module": {"training"},
    "lightning.pytorch.core.module.LightningModule": {
        "_automatic_optimization", "_compiler_ctx", "_current_fx_name", "_device", "_dtype", "_example_input_array",
        "_fabric", "_fabric_optimizers", "_log_hyperparams", "_metric_attributes", "_param_requires_grad_state",
        "_trainer", "allow_zero_length_dataloader_with_multiple_devices", "prepare_data_per_node",
    },
    "transformers.modeling_utils.PreTrainedModel": {"name_or_path"},
    "transformers.configuration_utils.PreTrainedConfig": {"_name_or_path", "architectures", "dtype"},  # of its file
    "dal.modules.transformer.TransformerClassifier": {"new_head", "started_pooling", "checkpoint"},
    "dal.learners.heads.last_layer.DrawnNetwork": {"draws"},
}  # fmt: skip

#: Folders of installed packages, whose versions stand for their code.
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def network_digest(network: nn.Module) -> str:
    """Return the digest of a network, 32 characters.

    The code is that of the modules which define the classes and functions in the network, and of the modules that these
    have imported; of installed packages it is the version.

    Raises:
        Exception: a value in the network cannot be pickled, for example a lambda, or its code has no file.
    """
    file = io.BytesIO()
    pickler = _StatePickler(file)
    pickler.dump(network)
    digest = blake2b(file.getbuffer(), digest_size=16)
    digest.update(repr(_code_of(pickler.owners)).encode())
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """Content of a tensor, row by row."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


class _StatePickler(pickle.Pickler):
    """Pickles the state of a network, the same bytes for equal states.

    Attributes:
        owners: names of the modules that define the classes and functions that were pickled.
    """

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.fast = True  # without references to what was pickled before: equal strings need not be one object
        self.owners = set[str]()

    def persistent_id(self, value: Any) -> Any:
        """State of a value that is not to be pickled as it is; None for all others."""
        if isinstance(value, type):
            self.owners.update(each.__module__ for each in value.__mro__)
        elif isinstance(value, FunctionType):
            self.owners.add(value.__module__)
        elif isinstance(value, Tensor):
            content = blake2b(tensor_bytes(value), digest_size=16).digest()
            return "tensor", str(value.dtype), tuple(value.shape), content
        elif isinstance(value, set | frozenset):
            return "set", sorted(self._pickled(each) for each in value)  # their order differs between processes
        elif hasattr(value, "__dict__") and (ignored := _ignored(type(value))):
            state = {name: each for name, each in vars(value).items() if name not in ignored}
            if not state.get("_hparams", True):  # empty after a fit, None after loading
                del state["_hparams"]
            return "object", type(value), state
        return None

    def _pickled(self, value: Any) -> bytes:
        file = io.BytesIO()
        pickler = _StatePickler(file)
        pickler.dump(value)
        self.owners |= pickler.owners
        return file.getvalue()


def _ignored(kind: type) -> set[str]:
    names = [_NO_OPTIONS.get(f"{each.__module__}.{each.__qualname__}", set()) for each in kind.__mro__]
    return set().union(*names)


def _code_of(owners: Iterable[str]) -> list[tuple[str, str]]:
    """Digests of modules and of those that they have imported; versions of installed packages."""
    found, waiting = dict[str, str](), sorted(owners)
    while waiting:
        name = waiting.pop()
        module, top = sys.modules[name], name.partition(".")[0]
        file = getattr(module, "__file__", None)
        if name in found or top in sys.stdlib_module_names:
            continue
        if top == "dal" or (file is not None and not _INSTALLED.isdisjoint(Path(file).parts)):
            found[top] = str(getattr(sys.modules[top], "__version__", ""))
        elif file is not None:
            found[name] = blake2b(Path(file).read_bytes(), digest_size=16).hexdigest()
            waiting += _imported_by(module)
        elif not hasattr(module, "__path__"):  # a package may be a folder without a file
            raise LookupError(f"the code of {name} is in no file")
    return sorted(found.items())


def _imported_by(module: ModuleType) -> set[str]:
    """Names of the modules of which a module has the classes and functions, or which it has by name."""
    owners = {
        value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        for value in vars(module).values()
    }
    return {name for name in owners if isinstance(name, str) and name in sys.modules}
