"""A trained network as a predictor: one pass for what the network computes, the cache for embeddings."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from dal.errors import LearnerError, NeedError
from dal.inference import COMPUTED, Precision, reduces, run_pass
from dal.learner import SILENT, Monitor, Predictor, Prepared
from dal.modules.base import ActiveModule
from dal.outputs import Outputs, closure, sources

EMBEDDINGS = frozenset({"embeddings"})


class NetworkPredictor(Predictor):
    """An `ActiveModule` and the embeddings of its rows; without a module, the embeddings alone.

    Args:
        module: trained, on its device; None: nothing is trained yet.
        embed: the embeddings (N, E) of prepared rows, whatever was trained.
        write: how the module is written to a folder.
        samples: K, for MC-dropout.
        precision: of a pass that need not be exact.
        token_budget: of a pass.
    """

    def __init__(
        self,
        module: ActiveModule | None,
        *,
        embed: Callable[[Prepared, Monitor], Tensor],
        write: Callable[[ActiveModule, Path], None],
        samples: int,
        precision: Precision,
        token_budget: int,
    ) -> None:
        self.module = module
        self.approximate = module is not None and reduces(module.device, precision)
        self._embed, self._write = embed, write
        self._samples, self._precision, self._token_budget = samples, precision, token_budget

    @property
    def provides(self) -> frozenset[str]:
        """The raw names it computes."""
        return EMBEDDINGS if self.module is None else EMBEDDINGS | COMPUTED

    def outputs(
        self,
        data: Prepared,
        rows: Tensor | None = None,
        names: Iterable[str] = frozenset({"logits"}),
        *,
        seed: int = 0,
        exact: bool = False,
        monitor: Monitor = SILENT,
    ) -> Outputs:
        """The named outputs for `rows`, in one pass over the network. Embeddings come from the cache."""
        names = frozenset(names)
        if missing := names - closure(self.provides):
            when = " before anything is fitted" if self.module is None else ""
            raise NeedError(f"{', '.join(sorted(missing))} cannot be computed{when}: there is {_listed(self.provides)}")
        index = torch.arange(len(data)) if rows is None else rows.cpu()
        tensors = {}
        if names & EMBEDDINGS:
            device = torch.device("cpu") if self.module is None else self.module.device
            tensors["embeddings"] = self._embed(data, monitor)[index].to(device)
        if self.module is not None and names - EMBEDDINGS:
            passed = run_pass(
                self.module,
                data,
                index,
                names - EMBEDDINGS,
                samples=self._samples,
                seed=seed,
                token_budget=self._token_budget,
                precision="float32" if exact else self._precision,
                monitor=monitor,
            )
            tensors |= {name: passed[name] for name in sources(names - EMBEDDINGS)}
        return Outputs(tensors, length=len(index), multilabel=data.multilabel)

    def save(self, folder: Path) -> None:
        """Write the model so that `Learner.load` reads it back, whole or not at all."""
        if self.module is None:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        self._write(self.module, Path(folder))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
