"""`dal check`: test a plugin of any kind against the contract of its base class."""

import contextlib
import inspect
import sys
from pathlib import Path
from typing import Any

from dal.commands.terminal import Parser, say, split, wants_help
from dal.errors import ConfigError, shown
from dal.experiments.spinner import loading_packages

#: Largest number of labeled rows that a learner is checked on; it is fitted about ten times.
_ROWS = 200


def check(arguments: list[str]) -> int:
    """`dal check`."""
    parser = Parser(
        "dal check",
        description="Tests a strategy, learner, oracle, stopping rule, candidate generator, language-model client or "
        "metric against its contract, also in a real loop. Options of the class are given as --key value. "
        "The exit code is 1 when a check fails.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "name", help="a short name, or the import path of a class, object or function: my_package:MyStrategy"
    )
    parser.add_argument(
        "--data",
        metavar="FILE",
        help="labeled rows of your own for a learner or an oracle: a data file, with --data.text, --data.label and "
        "other keys of data as in a config, or the import path of a dal.data.Rows, my_package:rows",
    )
    parser.add_argument(
        "--spend", action="store_true", help="send the short requests of a client's check that cost money"
    )
    if wants_help(arguments):
        parser.print_help()
        return 0
    options, overrides = split(parser, arguments)
    from dal.config import allowed_code as importing
    from dal.config import plugins

    if Path(options.name).is_file():
        raise ConfigError(
            f"{options.name} is a file, and dal check takes a plugin, such as my_package:MyStrategy; --data FILE gives "
            "a learner or an oracle rows"
        )
    importing.allow_current_folder()
    with loading_packages(stderr=True):
        data = _rows(options.data, overrides.inside.pop("data", None))
        group, subject = _load(options.name)
    noun = plugins.NOUNS.get(group, "metric")
    if data is not None and group not in (plugins.LEARNERS, plugins.ORACLES):
        raise ConfigError(f"--data is for learners and oracles, and {options.name} is a {noun}")
    if overrides.inside:
        if group == plugins.METRICS:
            raise ConfigError(f"{options.name} is a function, which has no options: give no --key value")
        if not inspect.isclass(subject):
            raise ConfigError(f"{options.name} is an object, whose options are set already: give no --key value")
        from dal.config.build import build
        from dal.config.settings_tree import Node

        subject = build(subject, Node({}, None, options.name), overrides)[0]
    say(f"{options.name} is a {noun}".replace(" a o", " an o"))
    result = _report(group, subject, data, spend=options.spend)
    print(result)
    return 0 if result.ok else 1


def _load(name: str) -> tuple[str, Any]:
    """The group of a plugin of any kind, and the class, object or metric."""
    from dal.config import plugins
    from dal.config.source_code import ModuleSource
    from dal.evaluation.own_metrics import Metric, load_metric

    if name in plugins.found(plugins.METRICS):
        return plugins.METRICS, load_metric(name)
    try:
        return plugins.load_any(name)
    except ConfigError:
        module, _, attribute = name.replace(":", ".").rpartition(".")
        with contextlib.suppress(KeyError, ConfigError):  # what is visibly no metric is not imported
            function = ModuleSource.at(module).function(attribute)
            made = getattr(sys.modules.get(module), attribute, None)
            if (function is not None and len(function.args.args) > 1) or isinstance(made, Metric):
                return plugins.METRICS, load_metric(name)
        is_module = False
        with contextlib.suppress(KeyError, ConfigError):
            is_module = any(node.name == "ActiveModule" for _, node in ModuleSource.at(module).lineage(attribute))
        if is_module:
            raise ConfigError(
                f"{name} is a module, which a learner trains: check a learner of it, such as "
                f"learner = ModuleLearner(build={attribute}), as {module}:learner"
            ) from None
        raise


def _report(group: str, subject: Any, data: Any, *, spend: bool) -> Any:
    """The report of the kit for a plugin of this group."""
    from dal import testing
    from dal.config import plugins

    if group == plugins.LEARNERS:
        if data is not None and not inspect.isclass(subject):
            subject.check_rows(data)  # or every check would fail with the same message
        return testing.learner_report(subject, data)
    if group == plugins.ORACLES:
        return testing.oracle_report(subject, data)
    if group == plugins.CLIENTS:
        return testing.client_report(subject, spend=spend)
    reports: dict[str, Any] = {
        plugins.STRATEGIES: testing.strategy_report,
        plugins.STOPPING: testing.stopping_report,
        plugins.CANDIDATES: testing.candidate_report,
        plugins.METRICS: testing.metric_report,
    }
    return reports[group](subject)


def _rows(path: str | None, overrides: Any) -> Any:
    """Up to `_ROWS` labeled rows of a data file or an import path, as `dal.data.Rows`; None without one."""
    if path is None:
        if overrides is not None:
            raise ConfigError(f"{overrides.first().place}: name the file with --data FILE")
        return None
    from dal.data import Rows, Splits, TextData

    if ":" in path and not Path(path).exists():
        from dal.config.class_names import import_path

        if overrides is not None:
            raise ConfigError(f"{overrides.first().place}: {path} is an object, whose options are set already")
        loaded = import_path(path, functions=True)
        loaded = loaded() if inspect.isroutine(loaded) else loaded
        loaded = loaded.pool if isinstance(loaded, Splits) else loaded
        if not isinstance(loaded, Rows):
            raise ConfigError(f"--data: {path} is {shown(loaded)}, and a dal.data.Rows is expected")
    else:
        from dal.config.build import NOTHING, build
        from dal.config.settings_tree import Node

        node = Node({"path": Node(str(Path(path)), None, "--data")}, None, "--data")
        loaded = build(TextData, node, overrides or NOTHING)[0].load().pool
    known = loaded.known.nonzero().flatten()[:_ROWS]
    if len(known) < 6:
        raise ConfigError(f"{path} has {len(known)} labeled rows; a check needs at least 6")
    return loaded.take(known)
