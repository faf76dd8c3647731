"""`dal check`: a strategy or learner against the contract."""

import contextlib
from typing import Any

from dal.commands.terminal import Parser, split, wants_help
from dal.errors import ConfigError


def check(arguments: list[str]) -> int:
    """`dal check`."""
    parser = Parser(
        "dal check",
        description="Tests a strategy or learner against the contract, check by check. Its options are given as "
        "--key value. The exit code is 1 when a check fails.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help="a short name, or an import path such as my_package:MyStrategy")
    if wants_help(arguments):
        parser.print_help()
        return 0
    options, overrides = split(parser, arguments)
    from dal.config.build import build
    from dal.config.tree import Node

    found = _strategy_or_learner(options.name)
    subject: Any = build(found, Node({}, None, options.name), overrides)[0] if overrides.inside else found
    from dal.learner import Learner
    from dal.testing import learner_report, strategy_report

    result = learner_report(subject) if issubclass(found, Learner) else strategy_report(subject)
    print(result)
    return 0 if result.ok else 1


def _strategy_or_learner(name: str) -> type:
    from dal import plugins

    if name in plugins.found(plugins.LEARNERS):
        return plugins.load(plugins.LEARNERS, name)
    try:
        return plugins.load(plugins.STRATEGIES, name)
    except ConfigError:
        with contextlib.suppress(ConfigError):
            return plugins.load(plugins.LEARNERS, name)
        raise
