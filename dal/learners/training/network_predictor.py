"""A trained network as a predictor: one pass for what the network computes, the cache for embeddings."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from dal.errors import LearnerError, NeedError
from dal.learner import SILENT, Monitor, Predictor, Prepared
from dal.learners.heads.last_layer import DrawnNetwork, LastLayer
from dal.learners.inference import COMPUTED, Precision, on_one_device, placed, reduces, run_pass
from dal.learners.text.surprisal import SURPRISAL, Surprisal
from dal.modules.base import ActiveModule
from dal.outputs import Outputs, closure, sources
from dal.store.atomic_files import replacing

EMBEDDINGS = frozenset({"embeddings"})


class NetworkPredictor(Predictor):
    """An `ActiveModule` and the embeddings of its rows; without a module, the embeddings alone.

    Args:
        module: trained, on its device; None: nothing is trained yet.
        embed: the embeddings (N, E) of prepared rows, whatever was trained.
        write: how the module is written to a folder.
        samples: K, for MC-dropout or draws of the last layer.
        precision: of a pass that need not be exact.
        token_budget: of a pass.
        layer: what is believed about the last layer, when samples are drawn from it; None: they are MC-dropout's.
        surprisal: reads `surprisal`; None: there is no such name.
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
        layer: LastLayer | None = None,
        surprisal: Surprisal | None = None,
    ) -> None:
        self.module = module
        self.layer = layer
        self.approximate = module is not None and reduces(module.device, precision)
        self._embed, self._write, self._surprisal = embed, write, surprisal
        self._samples, self._precision, self._token_budget = samples, precision, token_budget

    @property
    def provides(self) -> frozenset[str]:
        """The raw names it computes."""
        free = EMBEDDINGS if self._surprisal is None else EMBEDDINGS | SURPRISAL
        return free if self.module is None else free | COMPUTED

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
        if self._surprisal is not None and names & SURPRISAL:
            return self._surprisal.outputs(self, data, rows, names, seed=seed, exact=exact, monitor=monitor)
        index = torch.arange(len(data)) if rows is None else rows.cpu()
        tensors = {}
        if names & EMBEDDINGS:
            device = torch.device("cpu") if self.module is None else self.module.device
            tensors["embeddings"] = placed(self._embed(data, monitor)[index], device)
        if self.module is not None and names - EMBEDDINGS:
            drawn = None if self.layer is None else DrawnNetwork(self.module, self.layer, self._samples, seed)
            passed = run_pass(
                drawn or self.module,  # type: ignore[arg-type]
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
        return Outputs(on_one_device(tensors), length=len(index), multilabel=data.multilabel)

    def save(self, folder: Path) -> None:
        """Write the model so that `Learner.load` reads it back, whole or not at all."""
        if self.module is None:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        if self.layer is None:
            self._write(self.module, Path(folder))
            return
        with replacing(Path(folder)) as target:
            self._write(self.module, target)
            self.layer.save(target)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
