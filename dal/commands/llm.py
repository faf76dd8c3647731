"""`dal llm`: inspect the prompts of a language model."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dal.commands.experiment_settings import read_experiment
from dal.commands.shared_options import with_shared_options
from dal.commands.terminal import Parser, escape_controls, say, split, wants_help
from dal.errors import ConfigError, shortened
from dal.experiments.spinner import loading_packages

if TYPE_CHECKING:
    from dal.experiments.experiment import Experiment
    from dal.llm.llm_learner import LLMLearner

HELP = with_shared_options("""\
usage: dal llm preview CONFIG [--row ID] [--place KEY] [--key value ...]

Prints the exact prompt of the LLMLearner of CONFIG for one text, and the JSON schema of its answer, without sending it.
Few-shot examples are taken from the labels in the data, except the text's own label. All keys of the config can be
given as options.

options:
  --row ID          id of the text; the first of the pool by default
  --place KEY       one of several LLMLearners, such as learner, weak_labels.labeler or oracle.models.0.labeler
  @debug
""")


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
    with loading_packages(stderr=True):
        experiment = read_experiment(options.config, overrides, Path("runs") / options.config.stem)
    learner = _learner(options.config, experiment, options.place)
    from dal.session.checked_arguments import require_classes

    data: Any = experiment.data
    pool = (data.load() if hasattr(data, "load") else data).pool
    require_classes(pool.classes)
    row = 0 if options.row is None else int(pool.rows_of([options.row])[0])
    known = pool.known.clone()
    known[row] = False  # the row's own label is not among the examples
    rows = known.nonzero().flatten()
    predictor = learner.fit(learner.prepare(pool), rows, pool.labels[rows], seed=0)
    requests = predictor.requests([learner.prepare(pool.take([row])).texts[0]])
    print(format_request(requests[0]))
    if len(requests) > 1:
        say(f"sample 1 of {len(requests)}")
    return 0


def _learner(config: Path, experiment: "Experiment", place: str | None) -> "LLMLearner":
    """The LLM learner at a place of the config; by default the first one, and the others are listed."""
    from dal.commands.dry_run import learners_of

    learners = learners_of(experiment)
    if not learners:
        raise ConfigError(
            f"{config} has a {type(experiment.learner).__name__}, and no part of it uses a language model"
        )
    if place is not None and place not in learners:
        raise ConfigError(
            f"--place {shortened(place)}: no language model is there; there is one at {', '.join(learners)}"
        )
    selected = next(iter(learners)) if place is None else place
    if place is None and len(learners) > 1:
        say(f"{selected}; --place shows the others: {', '.join(list(learners)[1:])}")
    return learners[selected]


def format_request(request: Any) -> str:
    """A request in readable form: system prompt, user prompt, and the settings of the answer.

    Control characters are escaped, since a text may contain terminal escape sequences.
    """
    parts = [f"--- system\n{request.system}"] if request.system else []
    parts.append(f"--- user\n{request.prompt}")
    options = {f.name: getattr(request, f.name) for f in dataclasses.fields(request)}
    schema = options.pop("schema")
    settings = ", ".join(f"{name} {value}" for name, value in options.items() if name not in ("prompt", "system"))
    answer = "free text" if schema is None else "structured"
    parts.append(f"--- answer\n{answer}, {settings}")
    if schema is not None:
        parts.append(f"--- schema\n{json.dumps(schema, ensure_ascii=False, indent=2)}")
    return escape_controls("\n\n".join(parts))
