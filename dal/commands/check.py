"""`dal check`: test a strategy or learner against the contract of its base class."""

from typing import Any

from dal.commands.terminal import Parser, split, wants_help
from dal.errors import ConfigError, shortened


def check(arguments: list[str]) -> int:
    """`dal check`."""
    parser = Parser(
        "dal check",
        description="Tests a strategy or learner against the contract of its base class. Its options are given as "
        "--key value. The exit code is 1 when a check fails.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help="a short name, or an import path such as my_package:MyStrategy")
    if wants_help(arguments):
        parser.print_help()
        return 0
    options, overrides = split(parser, arguments)
    from dal.config import allowed_code as importing

    importing.allow_current_folder()
    cls = _strategy_or_learner(options.name)
    from dal.config.build import build
    from dal.config.settings_tree import Node

    subject: Any = build(cls, Node({}, None, options.name), overrides)[0] if overrides.inside else cls
    from dal.learner import Learner
    from dal.testing import learner_report, strategy_report

    result = learner_report(subject) if issubclass(cls, Learner) else strategy_report(subject)
    print(result)
    return 0 if result.ok else 1


def _strategy_or_learner(name: str) -> type:
    from dal.config import plugins
    from dal.config.class_names import with_article

    if not any(name in plugins.found(group) for group in _CHECKED):
        for group, noun in plugins.NOUNS.items():
            if name in plugins.found(group):
                raise ConfigError(f"{name} is {with_article(noun)}: {_EXPECTED}")
    if name in plugins.found(plugins.LEARNERS):
        return plugins.load(plugins.LEARNERS, name)
    try:
        return plugins.load(plugins.STRATEGIES, name)
    except plugins.WrongKindError as error:
        try:
            return plugins.load(plugins.LEARNERS, name)
        except plugins.WrongKindError:
            raise ConfigError(f"{shortened(name)} is {error.got}: {_EXPECTED}") from error


_CHECKED = ("dal.strategies", "dal.learners")
_EXPECTED = "dal check takes a class that derives from dal.Strategy, dal.ScoreStrategy or dal.Learner"
