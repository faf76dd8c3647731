"""The `dal` command. Heavy modules are imported only by the commands that need them."""

import contextlib
import io
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dal.commands.add import add
from dal.commands.annotate import annotate
from dal.commands.ask import ask
from dal.commands.audit import audit
from dal.commands.autolabel import autolabel
from dal.commands.backup import backup
from dal.commands.cache import cache
from dal.commands.check import check
from dal.commands.classes import classes
from dal.commands.compare import compare
from dal.commands.embed import embed
from dal.commands.encoders import encoders
from dal.commands.error_lines import describe_failure
from dal.commands.estimate import estimate
from dal.commands.export import export
from dal.commands.init import init
from dal.commands.list import listing
from dal.commands.llm import llm
from dal.commands.people import people
from dal.commands.predict import predict
from dal.commands.report import report
from dal.commands.run import run
from dal.commands.serve_label_studio import serve_label_studio
from dal.commands.tell import tell
from dal.commands.terminal import escape_message, say
from dal.config.allowed_code import restricted_imports
from dal.errors import ConfigError, DalError, shortened
from dal.experiments.interrupts import RESUMABLE, terminable

HELP = """\
Deep active learning for text classification: label the texts that improve the model most.

label texts
  dal init FOLDER --data FILE --classes A,B,C
                                          make a project: texts, answers and classes that people change as they go
  dal annotate FOLDER                     answer in the browser, while a model learns and chooses the next texts;
                                          --terminal: here; --check 100: texts to check the model by
  dal ask FOLDER -n 50 -o todo.csv        or in a file: select texts to label; --config CONFIG starts a folder without
                                          a project, --check 100 draws texts to estimate the model's accuracy
  dal tell FOLDER todo.csv                store the labels that were filled in
  dal add FOLDER more.csv                 more texts; --label COLUMN takes their labels as known
  dal classes FOLDER                      list, add, rename, merge and describe classes
  dal serve-label-studio FOLDER           answer in Label Studio, as its machine-learning backend
  dal people FOLDER                       list, make and end the logins of people on a network

take the result
  dal predict FOLDER new.csv -o out.csv   predict the classes of new texts
  dal predict FOLDER --max-error 0.05     label the remaining texts automatically, with an error guarantee
  dal export FOLDER -o labels.csv         write the labeled texts; --to huggingface, label-studio, prodigy
  dal report FOLDER...                    write report.html of runs again, even while they are running
  dal backup FOLDER -o copy.zip           copy a folder to one file, also while people answer

compare strategies
  dal run CONFIG [--key value ...]        simulate with hidden labels, or let an oracle answer; writes a report
  dal run --resume FOLDER                 resume a run
  dal compare CONFIG --strategies Random,Margin,BADGE --seeds 5
                                          compare strategies over the same seeds, in several processes
  dal embed CONFIG [--devices 4]          compute the embeddings of a run ahead of it, resumable
  dal encoders FOLDER                     can the encoder tell the classes apart, and would another one do better?
  dal audit FOLDER                        error rates and costs of the models of a Router

look up and extend
  dal list [strategies|learners|oracles|stopping|candidates|clients|metrics]
                                          list the installed parts
  dal cache [--trim 2GB | --clear]        show or remove cached tokens, embeddings and token states
  dal llm preview CONFIG                  show the prompt of a language model for a text
  dal check my_package:MyStrategy         test your own strategy or learner against the contract of its base class

  dal COMMAND --help                      help of a command
  dal --version                           print the version
  --allow-code FOLDER                     with any command: the config of a run folder may name classes in FOLDER, whose
                                          code is then run; your own config may name those of the current folder
  --debug                                 with any command: show the traceback of an error"""

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": run,
    "compare": compare,
    "init": init,
    "add": add,
    "classes": classes,
    "people": people,
    "annotate": annotate,
    "ask": ask,
    "tell": tell,
    "audit": audit,
    "autolabel": autolabel,
    "estimate": estimate,
    "predict": predict,
    "export": export,
    "embed": embed,
    "encoders": encoders,
    "report": report,
    "list": listing,
    "check": check,
    "llm": llm,
    "cache": cache,
    "backup": backup,
    "serve-label-studio": serve_label_studio,
}

_ALLOW = "--allow-code"
_MAX_MESSAGE = 10_000  # characters


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    0 for success; 1 for a failed check or an internal error; 2 for an error that the user can fix; 3 when a stopping
    rule says stop; 4 when a rank of a run on several devices was lost; 75 when a scheduler stopped a run that the same
    command resumes; 130 after Ctrl-C; 141 when the output is closed.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    for stream in (sys.stdout, sys.stderr):  # a file name may hold bytes that the terminal's encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    again = f"go on with: {shlex.join(['dal', *arguments])}"
    try:
        with _one_line_warnings(), terminable(again):
            folder, arguments = _code_folder(arguments)
            with restricted_imports(folder):
                code = _dispatch(arguments)
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
    except SystemExit as ended:  # argparse exits so after its help; a plugin may exit with a message
        return ended.code or 0 if isinstance(ended.code, int | None) else _complain(str(ended.code), 1)
    except BrokenPipeError:  # the reader is gone, as in `dal list | head`
        _drop_output()
        return 141
    except DalError as error:
        if debug:
            raise
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        return _complain(f"stopped; all acknowledged answers are stored; {again}", 130)
    except Exception as error:
        if debug:
            raise
        known = describe_failure(error)
        if known is not None:
            _drop_output()
            return _complain(f"{known} (--debug shows where)", 2)
        return _complain(f"{type(error).__name__}: {_first_line(error)} (--debug shows where)", 1)


def _code_folder(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The folder of `--allow-code`, and the other arguments."""
    folder: Path | None = None
    others: list[str] = []
    left = iter(arguments)
    for argument in left:
        key, equals, value = argument.partition("=")
        if key != _ALLOW:
            others.append(argument)
            continue
        value = value if equals else next(left, "")
        if not value or value.startswith("--"):
            raise ConfigError(f"{_ALLOW} needs a folder, such as {_ALLOW} .")
        if folder is not None:
            raise ConfigError(f"{_ALLOW} is given twice: name one folder")
        folder = Path(value)
    return folder, others


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(HELP)
        return 0
    if arguments[0] in {"-V", "--version", "version"}:
        from dal import __version__

        print(f"dal {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        from dal.config.class_names import suggestion

        known = f"commands are {', '.join(COMMANDS)}"
        raise ConfigError(f"no command {shortened(name)!r}{suggestion(name, COMMANDS)}; {known}")
    return COMMANDS[name](rest)


def _complain(text: str, code: int) -> int:
    """Print an error, or after Ctrl-C a message, and return the exit code."""
    text = shortened(escape_message(text), _MAX_MESSAGE)
    say(text if code in (130, RESUMABLE) else f"error: {text}")
    return code


def _first_line(error: BaseException) -> str:
    return shortened((str(error).splitlines() or [""])[0], 500)


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Print dal's own warnings on one line, each once, and hide the deprecation warnings of libraries."""
    package = str(Path(__file__).parent)
    printed: set[str] = set()  # Python forgets what it has shown whenever a library changes its filters

    def show(message: Any, category: type[Warning], filename: str, *rest: Any, **more: Any) -> None:
        if filename.startswith(package) or category.__module__.startswith("dal."):
            line = f"warning: {_first_line(message)}"
            if line not in printed:
                printed.add(line)
                say(line)
        elif not issubclass(category, DeprecationWarning | PendingDeprecationWarning | FutureWarning):
            before(message, category, filename, *rest, **more)

    before = warnings.showwarning
    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def _drop_output() -> None:
    """Discard the rest of stdout, which is closed or full: Python would fail on it again when it exits."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
