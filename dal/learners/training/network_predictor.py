"""Predictor of a trained network: outputs from a single pass, embeddings from the cache."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from dal.errors import LearnerError, NeedError
from dal.learner import SILENT, Monitor, Predictor, Prepared
from dal.learners.heads.last_layer import DrawnNetwork, LastLayer
from dal.learners.inference import COMPUTED, Precision, on_one_device, placed, reduces, run_pass
from dal.learners.rank_outputs import keeps_wide_outputs
from dal.learners.text.embeddings import EMBEDDINGS
from dal.learners.text.surprisal import SURPRISAL, Surprisal
from dal.modules.active_module import ActiveModule
from dal.outputs import Outputs, Value, closure, sources
from dal.store.atomic_files import replacing

#: File of the notes of the fit, next to the weights.
NOTES = "training_notes.json"


class NetworkPredictor(Predictor):
    """Predictor of an `ActiveModule`; without a module, of the label-free outputs only.

    Attributes:
        training_notes: how the fit started the head, as in `Predictor`; set by the learner.

    Args:
        module: trained module on its device; None before anything is fitted.
        embed: function that returns the embeddings (n, E) of some prepared rows, independent of training.
        write: function that saves the module to a folder.
        samples: number K of samples, from MC dropout or the posterior of the last layer.
        precision: precision of a pass that need not be exact.
        token_budget: tokens per batch of a pass.
        layer: posterior of the last layer from which samples are drawn; None for MC dropout.
        surprisal: computes `surprisal`; None if it is not provided.
        source: function that returns some prepared rows in the form that the module reads; None if it reads them as
            they are.
    """

    def __init__(
        self,
        module: ActiveModule | None,
        *,
        embed: Callable[[Prepared, Tensor, Monitor], Tensor],
        write: Callable[[ActiveModule, Path], None],
        samples: int,
        precision: Precision,
        token_budget: int,
        layer: LastLayer | None = None,
        surprisal: Surprisal | None = None,
        source: Callable[[Prepared, Tensor, Monitor], Prepared] | None = None,
    ) -> None:
        self.module = module
        self.layer = layer
        self.approximate = module is not None and reduces(module.device, precision)
        self._embed, self._write, self._surprisal, self._source = embed, write, surprisal, source
        self._samples, self._precision, self._token_budget = samples, precision, token_budget

    @property
    def provides(self) -> frozenset[str]:
        """Raw outputs that it computes."""
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
        """Compute the named outputs of `rows` in one pass over the network. Embeddings come from the cache."""
        names = frozenset(names)
        if missing := names - closure(self.provides):
            when = " before anything is fitted" if self.module is None else ""
            provided = ", ".join(sorted(self.provides))
            raise NeedError(f"{', '.join(sorted(missing))} cannot be computed{when}: there is {provided}")
        if self._surprisal is not None and names & SURPRISAL:
            return self._surprisal.outputs(self, data, rows, names, seed=seed, exact=exact, monitor=monitor)
        index = torch.arange(len(data)) if rows is None else rows.cpu()
        tensors: dict[str, Value] = {}
        if names & EMBEDDINGS:
            device = torch.device("cpu") if self.module is None else self.module.device
            tensors["embeddings"] = placed(self._embed(data, index, monitor), device)
        if self.module is not None and names - EMBEDDINGS:
            # With a posterior of the last layer, samples come from it instead of from dropout.
            drawn = None if self.layer is None else DrawnNetwork(self.module, self.layer, self._samples, seed)
            passed = run_pass(
                drawn or self.module,  # type: ignore[arg-type]
                data if self._source is None else self._source(data, index, monitor),
                index,
                names - EMBEDDINGS,
                samples=self._samples,
                seed=seed,
                token_budget=self._token_budget,
                precision="float32" if exact else self._precision,
                may_stay=keeps_wide_outputs(),
                monitor=monitor,
            )
            tensors |= {name: passed.blockwise(name) for name in sources(names - EMBEDDINGS)}
        return Outputs(on_one_device(tensors), length=len(index), multilabel=data.multilabel)

    def save(self, folder: Path) -> None:
        """Write the model for `Learner.load`. An existing folder is replaced atomically."""
        if self.module is None:
            raise LearnerError("nothing was fitted yet, so there is nothing to save")
        with replacing(Path(folder)) as target:
            self._write(self.module, target)
            if self.layer is not None:
                self.layer.save(target)
            if self.training_notes:
                notes = json.dumps(dict(self.training_notes), ensure_ascii=False, indent=1)
                (target / NOTES).write_text(notes, encoding="utf-8")
