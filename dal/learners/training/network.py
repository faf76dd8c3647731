"""Common parts of learners that train a network: option checks, training, and the posterior of the last layer."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from dal.errors import ConfigError
from dal.functional.checking import Options, shown
from dal.learner import Monitor, Prepared
from dal.learners.heads.head_posteriors import DrawnBy
from dal.learners.heads.last_layer import LastLayer, fit_last_layer
from dal.learners.inference import Precision
from dal.learners.training.data_parallel import check_parallel
from dal.learners.training.devices import device_of, named_device
from dal.learners.training.fitting import TrainingSchedule, fit_module
from dal.learners.training.training_labels import checked_labels, class_weights_of
from dal.modules.active_module import ActiveModule


def check_network(recipe: Any) -> None:
    """Validate the options that learners of networks have in common.

    Raises:
        ConfigError: an option has an invalid value.
    """
    options = Options(recipe)
    options.one_of("class_weights", (None, "balanced"))
    options.one_of("precision", get_args(Precision))
    options.one_of("mc_mode", ("head", "full", *get_args(DrawnBy), *([None] if type(recipe).mc_mode is None else [])))
    if recipe.trainer is not None and not callable(recipe.trainer):
        raise ConfigError(f"trainer of {type(recipe).__name__} must be callable or null, not {shown(recipe.trainer)}")
    if recipe.device != "auto":
        named_device(recipe.device)
    options.whole("shards", least=2, optional=True)
    check_parallel(recipe)


def fit_network(
    recipe: Any,
    start: Callable[[Tensor | None], ActiveModule],
    data: Prepared,
    rows: Tensor,
    labels: Tensor,
    *,
    token_budget: int,
    seed: int,
    weights: Tensor | None,
    validation: tuple[Prepared, Tensor] | None,
    monitor: Monitor,
) -> tuple[ActiveModule, LastLayer | None]:
    """Train a network and, unless samples come from MC dropout, fit the posterior of its last layer.

    Args:
        recipe: the learner, with the fields of a `TrainingSchedule`, and `class_weights`, `trainer`, `device`,
            `shards`, `mc_mode`, `prior_precision` and `samples`.
        start: factory of the untrained network, called with class weights (C,) or None.
        data: prepared rows.
        rows: (L,) int64, the labeled rows.
        labels: (L,) int64, or (L, C) bool when multi-label.
        token_budget: tokens per batch of the pass over the labeled rows for the last layer.
        seed: seed of training and resamples.
        weights: (L,) sample weights; None for equal weights.
        validation: prepared rows and labels for early stopping; None for none.
        monitor: receives the progress.

    Returns:
        The network, and the posterior of its last layer; None for the latter with MC dropout.
    """
    targets = checked_labels(labels, data.classes, data.multilabel)
    by_class = class_weights_of(targets, recipe.class_weights, data.multilabel)
    network = fit_module(
        partial(start, by_class),
        data,
        rows,
        targets if data.multilabel else labels.cpu().long(),
        seed=seed,
        schedule=TrainingSchedule.of(recipe),
        weights=weights,
        validation=validation,
        trainer=recipe.trainer,
        device=device_of(recipe.device),
        shards=recipe.shards,
        class_weights=by_class,
        monitor=monitor,
    )
    if not _draws(recipe):
        return network, None
    layer = fit_last_layer(
        network,
        data,
        rows,
        targets,
        drawn_by=recipe.mc_mode,
        precision=recipe.prior_precision,
        samples=recipe.samples,
        seed=seed,
        weights=weights,
        class_weights=by_class,
        token_budget=token_budget,
        monitor=monitor,
    )
    return network, layer


def load_last_layer(recipe: Any, folder: Path, device: torch.device, classes: int) -> LastLayer | None:
    """Load the posterior of the last layer of a saved network; None with MC dropout."""
    return LastLayer.load(folder, classes).to(device) if _draws(recipe) else None


def _draws(recipe: Any) -> bool:
    """Whether samples are drawn from a posterior of the last layer, rather than by MC dropout."""
    return recipe.mc_mode in get_args(DrawnBy)
