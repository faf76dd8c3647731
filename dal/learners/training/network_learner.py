"""Base class of learners that train a network with Lightning."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning
from torch import Tensor

from dal.learner import SILENT, Learner, Monitor, Predictor, Prepared
from dal.learners.heads.last_layer import LastLayer
from dal.learners.ranks import current_ranks
from dal.learners.training.data_parallel import fit_on_ranks, strategy_of
from dal.learners.training.devices import device_of
from dal.learners.training.network import fit_network, load_last_layer
from dal.learners.training.network_predictor import NOTES, NetworkPredictor
from dal.learners.training.saved_files import read_facts
from dal.modules.active_module import ActiveModule


class NetworkLearner(Learner):
    """Learner that trains an `ActiveModule`. Subclasses have the options that `fit_network` reads."""

    device: str
    shards: int | None
    trainer: Callable[[], lightning.Trainer] | None

    @property
    @abstractmethod
    def _pass_budget(self) -> int:
        """Tokens per batch of a pass."""

    @abstractmethod
    def _start(
        self, data: Prepared, previous: Predictor | None, seed: int, class_weights: Tensor | None
    ) -> ActiveModule:
        """The network before training, from the weights of `previous` for a warm start."""

    def _training_inputs(
        self, data: Prepared, rows: Tensor, validation: tuple[Prepared, Tensor] | None, monitor: Monitor
    ) -> tuple[Prepared, tuple[Prepared, Tensor] | None]:
        """The data and the validation rows in the form that the network reads in training; by default as they are."""
        return data, validation

    def _start_head(
        self,
        module: ActiveModule,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        weights: Tensor | None,
        monitor: Monitor,
    ) -> dict[str, Any]:
        """Set the last layer of an untrained network from the labels, in place, and return notes; by default none."""
        return {}

    def _adjusted(
        self,
        module: ActiveModule,
        layer: LastLayer | None,
        labels: Tensor,
        weights: Tensor | None,
        notes: Mapping[str, Any],
    ) -> LastLayer | None:
        """Adjust the last layer of a trained network to the objective, in place, and its samples; by default not."""
        return layer

    @abstractmethod
    def _predictor(self, module: ActiveModule | None, layer: LastLayer | None = None) -> NetworkPredictor:
        """A predictor of a trained network; None for the label-free outputs only."""

    def fit(
        self,
        data: Prepared,
        rows: Tensor,
        labels: Tensor,
        *,
        seed: int,
        weights: Tensor | None = None,
        validation: tuple[Prepared, Tensor] | None = None,
        previous: Predictor | None = None,
        monitor: Monitor = SILENT,
    ) -> NetworkPredictor:
        """Train a network on the labeled rows with a new Lightning trainer, on all ranks if its strategy is ddp."""
        ranks = current_ranks()
        if ranks is not None and ranks.size > 1 and self.shards is not None and strategy_of(self.trainer) is not None:
            self._training_inputs(data, rows, validation, monitor)  # what is cached on disk, once for all
            options = {"seed": seed, "weights": weights, "validation": validation, "previous": previous}
            predictor = fit_on_ranks(ranks, self, self.shards, (data, rows, labels), options, monitor)
            assert isinstance(predictor, NetworkPredictor)
            return predictor
        data, validation = self._training_inputs(data, rows, validation, monitor)
        notes = dict[str, Any]()

        def start(class_weights: Tensor | None) -> ActiveModule:
            module = self._start(data, previous, seed, class_weights)
            notes.update(self._start_head(module, data, rows, labels, weights, monitor))
            return module

        module, layer = fit_network(
            self,
            start,
            data,
            rows,
            labels,
            token_budget=self._pass_budget,
            seed=seed,
            weights=weights,
            validation=validation,
            monitor=monitor,
        )
        predictor = self._predictor(module, self._adjusted(module, layer, labels, weights, notes))
        predictor.training_notes = notes
        return predictor

    def untrained(self, data: Prepared) -> NetworkPredictor:
        """Return a predictor of the label-free outputs only."""
        return self._predictor(None)

    def _loaded(self, folder: Path, module: ActiveModule, classes: int) -> NetworkPredictor:
        """A predictor of a network that was read from a folder, and of the posterior of its last layer."""
        device = device_of(self.device)
        predictor = self._predictor(module.to(device).eval(), load_last_layer(self, folder, device, classes))
        if (Path(folder) / NOTES).is_file():
            predictor.training_notes = read_facts(folder, NOTES, {"text": str})
        return predictor
