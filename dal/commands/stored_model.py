"""The latest model of a folder of `dal run`, `dal compare` or `dal ask`, loaded for prediction."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from dal.commands.compare import stored_comparison
from dal.commands.experiment_settings import build_experiment, stored_config
from dal.commands.paths import kind_of
from dal.config import settings_tree as tree
from dal.config.class_names import suggestion
from dal.config.kinds import ASKED, CELL, COMPARISON
from dal.errors import ConfigError, LearnerError, shortened
from dal.experiments.experiment import Experiment
from dal.experiments.results import Cell
from dal.learner import SILENT, Monitor, Prepared
from dal.session import Session
from dal.store.run_folder import LABELS


@dataclass(frozen=True, eq=False)
class Place:
    """Location of a stored session, and what is needed to reopen it.

    Attributes:
        folder: folder of the session.
        experiment: experiment of its config.
        cell: strategy and seed.
        simulated: whether it belongs to a run, rather than to `dal ask`.
    """

    folder: Path
    experiment: Experiment
    cell: Cell
    simulated: bool


@dataclass(eq=False)
class Model:
    """The model trained on the current labels of a session.

    Attributes:
        session: the reopened session.
        place: location of the session.
        monitor: progress of training and prediction.
    """

    session: Session
    place: Place
    monitor: Monitor
    _prepared: dict[str, Prepared] = field(default_factory=dict)

    def logits(self, part: str, rows: Tensor) -> Tensor:
        """Logits of some rows of a part of the data, (n, C) float64, on the CPU, computed in full precision.

        Args:
            part: "pool", "validation" or "test".
            rows: (n,) int64 row indices.

        Raises:
            SessionError: nothing is labeled yet.
            LearnerError: a logit is not finite.
        """
        if part not in self._prepared:
            self._prepared[part] = self.session.learner.prepare(getattr(self.session.data, part))
        outputs = self.session.predictor.outputs(
            self._prepared[part], rows, {"logits"}, exact=True, monitor=self.monitor
        )
        logits: Tensor = outputs.logits.double().cpu()
        bad = int((~torch.isfinite(logits)).any(1).sum())
        if bad:
            raise LearnerError(
                f"{self.place.folder}: the model's outputs are NaN or infinite for {bad} of {len(rows)} rows"
            )
        return logits


def find(folder: Path, cell: str | None = None) -> Place:
    """Locate the session of a folder of `dal ask`, of one cell, or of one cell of a run or comparison.

    Args:
        folder: the folder.
        cell: cell of a run or comparison, such as "Margin-seed0"; by default the first strategy with the first seed.

    Raises:
        ConfigError: there is no session, it has no labels yet, or there is no cell of this name.
    """
    settings = tree.read(stored_config(folder))
    kind = kind_of(folder)
    if kind == COMPARISON:
        comparison = stored_comparison(folder, 1, None)
        place = _of_run(folder, comparison.experiment, comparison.cells, cell)
    elif kind == CELL:
        seed = _seed(settings.value.pop("seed").value, folder)
        experiment = build_experiment(settings, tree.Override(), folder, stored=True)
        place = Place(folder, experiment, Cell(folder.name, experiment.strategy, seed), True)
        _refuse_cell(folder, cell)
    else:
        experiment = build_experiment(settings, tree.Override(), folder, stored=True)
        if kind == ASKED:
            _refuse_cell(folder, cell)
            place = Place(folder, experiment, Cell(folder.name, experiment.strategy, experiment.seeds[0]), False)
        else:
            place = _of_run(folder, experiment, experiment.cells, cell)
    if not (place.folder / LABELS).is_file():
        raise ConfigError(
            f"{place.folder} holds no answers yet, so there is no model: start the run, or use `dal ask` and `dal tell`"
        )
    return place


def load(place: Place, monitor: Monitor = SILENT) -> Model:
    """Load the model of a session. The caller closes its session.

    Raises:
        BusyError: another process works in the folder.
    """
    prepared = dict[str, Prepared]()
    session = place.experiment.session(
        place.cell, place.folder, simulated=place.simulated, monitor=monitor, prepared=prepared
    )
    return Model(session, place, monitor, prepared)


def _of_run(folder: Path, experiment: Experiment, cells: list[Cell], name: str | None) -> Place:
    known = {cell.name: cell for cell in cells}
    if name is not None and name not in known:
        hint = suggestion(shortened(name), known)
        raise ConfigError(f"{folder} has no cell {shortened(name)!r}{hint}; cells are {', '.join(known)}")
    cell = cells[0] if name is None else known[name]
    return Place(folder / cell.name, experiment, cell, True)


def _seed(value: object, folder: Path) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) < 20:
        return int(value)
    if isinstance(value, int) and value >= 0:
        return value
    raise ConfigError(f"{folder}/config.yaml: seed takes a whole number, not {shortened(repr(value))}")


def _refuse_cell(folder: Path, cell: str | None) -> None:
    if cell is not None:
        raise ConfigError(f"--cell {shortened(cell)}: {folder} is itself one cell")
