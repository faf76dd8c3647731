"""Options of `dal annotate` that choose what is asked and where, and the service that they open."""

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from dal.commands.annotate_in_terminal import MODES
from dal.commands.ask import check_sample_size
from dal.errors import ConfigError

if TYPE_CHECKING:
    from dal.annotate.service import AnnotationService


def add_ways(parser: ArgumentParser) -> None:
    """Add the options `--terminal`, `--rounds`, and `--check` with `--random` and `--keep`."""
    about = "answer in this terminal, by single keys, or by lines where there are none; `lines` always takes lines"
    parser.add_argument("--terminal", nargs="?", const="auto", choices=MODES, metavar="MODE", help=about)
    about = "texts come N at a time, as in `dal run`: the next ones are chosen when all of them have an answer"
    parser.add_argument("--rounds", type=int, metavar="N", help=about)
    about = "ask N texts that are drawn to check the latest model by, without hints, and print its accuracy"
    parser.add_argument("--check", type=int, metavar="N", help=about)
    about = "with --check: draw each text with the same probability"
    parser.add_argument("--random", action="store_true", help=about)
    about = "with --check: also store its answers as labels, once all are there"
    parser.add_argument("--keep", action="store_true", help=about)


def check_ways(options: Namespace) -> None:
    """Check that the options go together.

    Raises:
        ConfigError: they do not, or one is out of its range.
    """
    if options.terminal is not None:
        for name in ("people", "adjudicators", "certfile", "keyfile", "behind_proxy", "allow_host", "host", "port"):
            if getattr(options, name) not in (None, False):
                option = f"--{name.replace('_', '-')}"
                raise ConfigError(f"--terminal is for one person at this computer: leave {option} out")
    if options.rounds is not None and options.rounds < 1:
        raise ConfigError(f"--rounds is the number of texts of a round, at least 1, not {options.rounds}")
    if options.check is not None:
        check_sample_size("--check", options.check)
        for name in ("rounds", "overlap"):
            if getattr(options, name) is not None:
                raise ConfigError(f"--check asks each drawn text once: leave --{name} out")
    elif options.random or options.keep:
        raise ConfigError(f"{'--random' if options.random else '--keep'} needs --check N, which draws texts")


@contextmanager
def opened(options: Namespace) -> Iterator["AnnotationService"]:
    """The service that the options ask for. Ctrl-C is the ordinary end; after a check its accuracy is printed."""
    if options.check is not None:
        from dal.commands.annotate_check import open_or_draw, print_result

        check = open_or_draw(options.folder, options.check, random=options.random)
        try:
            with suppress(KeyboardInterrupt):
                yield check
            options.is_complete = print_result(check, keep=options.keep)
        finally:
            check.close()
        return
    from dal.annotate.retraining import RANKED
    from dal.annotate.service import open_service

    rounds = options.rounds is not None
    service = open_service(
        options.folder, overlap=options.overlap, rounds=rounds, ranked=options.rounds if rounds else RANKED
    )
    try:
        with suppress(KeyboardInterrupt):
            yield service
    finally:
        service.close()


def last_words(options: Namespace, arguments: Sequence[str]) -> str:
    """That all is stored, and the command that goes on where this one ended.

    Args:
        options: the parsed options.
        arguments: the arguments as they were typed, which are repeated where several people have logins.
    """
    if getattr(options, "is_complete", False):
        return "Stopped; all answers are stored, and the check is complete."
    if options.people:
        return f"Stopped; all answers are stored. Go on with: {shlex.join(['dal', 'annotate', *arguments])}"
    words = ["dal", "annotate", str(options.folder)]
    if options.terminal is not None:
        words += ["--terminal"] if options.terminal == "auto" else ["--terminal", options.terminal]
    for name in ("rounds", "check"):
        if getattr(options, name) is not None:
            words += [f"--{name}", str(getattr(options, name))]
    words += [f"--{name}" for name in ("random", "keep") if getattr(options, name)]
    return f"Stopped; all answers are stored. Go on with: {shlex.join(words)}"
