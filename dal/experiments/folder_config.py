"""The config and the environment of an experiment, as written to its folder and compared when it is resumed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dal.config.stored import CONFIG, canonical, describe, read_config, write_config
from dal.data import TextData
from dal.experiments.console import Quiet
from dal.experiments.environment import record_environment
from dal.objective import DEFAULT, objective_name

#: Fields that do not affect what a run computes; they may change when it is resumed, and are not stored.
FREE = ("folder", "quiet", "report")

#: Prices of answers without a stored cost or time, as fields of an experiment.
PRICES = ("price_per_label", "price_per_hour", "seconds_per_label")

#: Fields that affect only the recorded measures; they are stored, and may change when a run is resumed.
MEASURED = ("pool_sample", "measure_distances", *PRICES, "recall_every", "successor_every", "successor_sample")

#: Stopping rules whose metric is that of the objective unless they name another.
_FOLLOWING = ("TargetScore", "Plateau")

#: Keys that may change in a folder of `dal ask`, whose answers do not depend on them; the stored values are replaced.
DESCRIBING = (
    "data.descriptions",
    "data.description_template",
    "objective",
    "learner.init_args.objective",
    "learner.init_args.learner.init_args.objective",  # of the members of a committee
)

#: Key of the encoder, which may change in a folder of `dal ask` unless training goes on from the model before.
_ENCODER = "learner.init_args.model"


def describe_given(experiment: Any) -> dict[str, Any]:
    """The config of an `Experiment` as it was given: what follows from its objective is left to follow.

    With another objective in the stored config, the learner and the verdict then have that one, too.
    """
    config: dict[str, Any] = describe(experiment)
    if config["objective"] is None:
        config["stop"] = _with_metric(config["stop"], None, DEFAULT)  # as folders of version 0.1 have it
        return config
    for learner in (config["learner"], config["successor"]):
        while isinstance(learner, dict):  # and the learner of the members of a committee
            options = learner.get("init_args", {})
            if options.get("objective") == config["objective"]:
                options["objective"] = None
            learner = options.get("learner")
    if config["metric"] == objective_name(experiment.objective):
        config["metric"] = None
    return config


def may_change(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted keys of a config that may differ from those stored in a folder of `dal ask`, if there are any yet.

    A stopping rule may change as far as its metric follows from the objective, and the encoder unless the learner has
    `warm_start`, which would go on from a model of another one.
    """
    if not (folder / CONFIG).exists():
        return DESCRIBING
    stored = canonical(read_config(folder))
    before, now = (_with_metric(each.get("stop"), DEFAULT, None) for each in (stored, config))
    options = config["learner"].get("init_args", {})
    encoder = () if "model" not in options or options.get("warm_start") else (_ENCODER,)
    return (*DESCRIBING, *encoder, *(("stop",) if before == now else ()))


def _with_metric(stop: Any, given: str | None, wanted: str | None) -> Any:
    """The config of a stopping rule, in which one metric of the rules that may follow the objective is another one."""
    if isinstance(stop, list):
        return [_with_metric(each, given, wanted) for each in stop]
    if not isinstance(stop, dict):
        return stop
    changed = {key: _with_metric(value, given, wanted) for key, value in stop.items()}
    options = changed.get("init_args")
    if stop.get("class_path") in _FOLLOWING and isinstance(options, dict) and options.get("metric") == given:
        options["metric"] = wanted
    return changed


def describe_data(data: Any) -> dict[str, Any]:
    """The data in the config of a run or comparison, whose rounds must all have the same data.

    Returns:
        The options of a `TextData`, with the descriptions as texts, also if they are in a file; for rows built in
        Python their fingerprints and given descriptions.
    """
    if isinstance(data, TextData):
        config: dict[str, Any] = describe(data)
        config["descriptions"] = _in_config(data.given_descriptions)
        return config
    config = {part: describe(getattr(data, part, None)) for part in ("pool", "test", "validation")}
    pool: Any = getattr(data, "pool", None)
    if any(getattr(pool, "described", ())):
        config["descriptions"] = _in_config(dict(zip(pool.classes, pool.described, strict=True)))
    return config


def _in_config(descriptions: Mapping[str, tuple[str, ...]]) -> dict[str, str | list[str]] | None:
    """Given descriptions as a config has them: a text, or a list of several; None without any."""
    return {name: texts[0] if len(texts) == 1 else list(texts) for name, texts in descriptions.items() if texts} or None


def check_config(folder: Path, config: Mapping[str, Any], kind: str, reporter: Quiet) -> None:
    """Write the config and the environment to a folder, or check that they match those of the folder.

    A changed environment is only reported.

    Raises:
        ConfigError: the folder holds another experiment.
    """
    stored = {key: value for key, value in config.items() if key not in FREE}
    write_config(folder, stored, kind=kind, ignored=(*FREE, *MEASURED))
    changed = record_environment(folder)
    if changed:
        reporter.say(
            f"{folder} was begun with other {', '.join(changed)}: nothing is lost or asked twice, but choices may "
            "differ from an uninterrupted run's"
        )
