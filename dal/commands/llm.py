"""`dal llm`: look at what a language model is asked."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dal.commands.experiment_settings import read_experiment
from dal.commands.terminal import Parser, say, split, visible, wants_help
from dal.errors import ConfigError

if TYPE_CHECKING:
    from dal.data import Rows
    from dal.experiments.experiment import Experiment
    from dal.llm.llm_learner import LLMLearner, LLMPredictor

HELP = """\
usage: dal llm preview CONFIG [--row ID] [--place KEY] [--key value ...]

Shows the very prompt that the LLMLearner of CONFIG asks about one text, and asks nothing. Where labeled rows are shown
as examples, those of the data are, the text's own left out. All keys of the config can be given as options.

options:
  --row ID      the text with this id; the first of the pool by default
  --place KEY   which of several LLMLearners, such as learner, weak_labels.labeler or oracle.machines.0.labeler
  --debug       show the traceback of an error
"""


def llm(arguments: list[str]) -> int:
    """`dal llm`."""
    if not arguments or wants_help(arguments):
        print(HELP, end="")
        return 0
    command, *rest = arguments
    if command != "preview":
        raise ConfigError(f"there is no dal llm {command}; there is dal llm preview")
    return preview(rest)


def preview(arguments: list[str]) -> int:
    """`dal llm preview`."""
    parser = Parser("dal llm preview", add_help=False, allow_abbrev=False)
    parser.add_argument("config", type=Path)
    parser.add_argument("--row")
    parser.add_argument("--place")
    options, overrides = split(parser, arguments)
    experiment = read_experiment(options.config, overrides, Path("runs") / options.config.stem)
    learner = _learner(options.config, experiment, options.place)
    from dal.session.checked_arguments import require_classes

    data: Any = experiment.data
    pool = (data.load() if hasattr(data, "load") else data).pool
    require_classes(pool.classes)
    row = 0 if options.row is None else int(pool.rows_of([options.row])[0])
    requests = _fitted(learner, pool, row).requests([learner.prepare(pool.take([row])).texts[0]])
    print(shown(requests[0]))
    if len(requests) > 1:
        say(f"sample 1 of {len(requests)}")
    return 0


def _learner(config: Path, experiment: "Experiment", place: str | None) -> "LLMLearner":
    """The language model at a place of the config; the first one by default, and the others are named."""
    from dal.commands.dry_run import learners_of

    found = learners_of(experiment)
    if not found:
        raise ConfigError(
            f"{config} has a {type(experiment.learner).__name__}, and no part of it asks a language model"
        )
    if place is not None and place not in found:
        raise ConfigError(f"--place {place}: no language model is there; there is one at {', '.join(found)}")
    taken = next(iter(found)) if place is None else place
    if place is None and len(found) > 1:
        say(f"{taken}; --place shows the others: {', '.join(list(found)[1:])}")
    return found[taken]


def _fitted(learner: "LLMLearner", pool: "Rows", row: int) -> "LLMPredictor":
    """The learner with the labels in the data as examples, but for the row's own."""
    known = pool.known.clone()
    known[row] = False
    rows = known.nonzero().flatten()
    return learner.fit(learner.prepare(pool), rows, pool.labels[rows], seed=0)


def shown(request: Any) -> str:
    """A request as a person reads it: system prompt, user's turn, and how the answer is taken.

    Control characters are escaped: a text may hold what a terminal would obey.
    """
    parts = [f"--- system\n{request.system}"] if request.system else []
    parts.append(f"--- user\n{request.prompt}")
    options = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    schema = "structured" if options.pop("schema") is not None else "free text"
    told = ", ".join(f"{name} {value}" for name, value in options.items() if name not in ("prompt", "system"))
    return visible("\n\n".join([*parts, f"--- answer\n{schema}, {told}"]))
