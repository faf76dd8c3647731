"""Label Studio: the labeling config of a project, and its tasks in the order in which a strategy ranks them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from dal.data.label_names import normalize
from dal.errors import ConfigError, one_line, shown
from dal.formats.corpus import FOREIGN, Corpus, CorpusAnswer, CorpusRow, json_text
from dal.formats.exported_answers import mark_of

#: Names of the control and of the object that it labels in the labeling config.
CONTROL, OBJECT = "label", "text"
#: Key of the row id in the data of a task; ids of tasks change with each import.
ROW = "dal_id"

_KEYS = ("text", "text_pair", ROW)
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_VARIABLE = re.compile(r"\$(?=[\w\[\].{}])")  # replaced by a value of the task's data wherever it is shown
_JOINER = "\u2060"  # word joiner: invisible


@dataclass(frozen=True)
class Ranking:
    """Rows in the order in which a strategy wants them labeled.

    Attributes:
        rows: row ids, first to label first.
        version: name of the ranking, a different one for each: predictions of other versions are not used.
    """

    rows: Sequence[str]
    version: str


def version_of(round: int, strategy: str) -> str:
    """Name of the ranking of a round."""
    return " ".join(filter(None, ("dal", str(round), strategy)))


def labeling_config(classes: Sequence[str], *, multilabel: bool = False, pairs: bool = False) -> str:
    """The labeling config of a project: the text, or both texts of a pair, and one control with the classes.

    A class name with a `$` before a letter is shown with an invisible character after it, and its alias is the name
    that results hold: the program would put a value of the task in its place.

    Raises:
        ConfigError: there are no classes, or a name has a character that XML cannot represent.

    Example:
        >>> print(labeling_config(["a & b", "<none>"]))
        <View>
          <Text name="text" value="$text"/>
          <Choices name="label" toName="text" choice="single" required="true">
            <Choice value="a &amp; b"/>
            <Choice value="&lt;none&gt;"/>
          </Choices>
        </View>
        <BLANKLINE>
    """
    if not classes:
        raise ConfigError("there are no classes to choose from: name them first")
    lines = ["<View>", f'  <Text name="{OBJECT}" value="$text"/>']
    if pairs:
        lines.append('  <Text name="text_pair" value="$text_pair"/>')
    choice, required = ("multiple", "false") if multilabel else ("single", "true")
    lines.append(f'  <Choices name="{CONTROL}" toName="{OBJECT}" choice="{choice}" required="{required}">')
    for name in classes:
        if _NOT_XML.search(name):
            raise ConfigError(f"the class {shown(name)} has a control character, which a labeling config cannot hold")
        safe = _VARIABLE.sub("$" + _JOINER, name)
        alias = "" if safe == name else f" alias={quoteattr(name)}"
        lines.append(f"    <Choice value={quoteattr(safe)}{alias}/>")
    return "\n".join([*lines, "  </Choices>", "</View>", ""])


def check_config(config: str, classes: Sequence[str], *, multilabel: bool = False) -> list[str]:
    """Check that answers given under a labeling config can be read, and return the classes that it does not offer.

    Raises:
        ConfigError: the config is not XML, has no control for the classes, or offers something that is no class.

    Example:
        >>> check_config(labeling_config(["a", "$b"]), ["a", "$b", "c"])
        ['c']
    """
    how = "replace it by the one that `dal export --to label-studio` writes next to the tasks"
    try:
        if "<!DOCTYPE" in config:  # which could define entities that grow without bound
            raise ElementTree.ParseError("it has a document type")
        root = ElementTree.fromstring(config)
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f"the labeling config is not plain XML ({one_line(error)}): {how}") from None
    controls = [each for each in root.iter("Choices") if each.get("name") == CONTROL and each.get("toName") == OBJECT]
    if len(controls) != 1:
        raise ConfigError(f"the labeling config has no control {CONTROL!r} for the text {OBJECT!r}: {how}")
    if (controls[0].get("choice") == "multiple") != multilabel:
        wanted = "several classes" if multilabel else "one class"
        raise ConfigError(f"the project has {wanted} per text, and the labeling config has not: {how}")
    offered = [normalize(each.get("alias") or each.get("value") or "") for each in controls[0].iter("Choice")]
    unknown = [name for name in offered if name not in classes]
    if unknown:
        raise ConfigError(f"the labeling config offers {shown(unknown[0])}, which is no class of the project: {how}")
    return [name for name in classes if name not in offered]


def tasks(corpus: Corpus, ranking: Ranking | None = None) -> list[dict[str, Any]]:
    """Tasks to import: the ranked rows in their order, then the others.

    The data of a task has `dal_id`, `text`, `text_pair` and the foreign columns. A ranked task has a prediction without
    a suggestion, whose score is rank / number of ranked rows: "Uncertainty sampling" serves the lowest score first. An
    answered row has its answers as annotations, whose `id` is a mark: the program keeps it as `import_id`.
    """
    rank = {row: place for place, row in enumerate(ranking.rows, 1)} if ranking else {}
    rows = sorted(corpus.rows, key=lambda row: rank.get(row.id, len(rank) + 1))
    return [_task(row, rank.get(row.id), len(rank), ranking) for row in rows]


def _task(row: CorpusRow, place: int | None, count: int, ranking: Ranking | None) -> dict[str, Any]:
    data: dict[str, Any] = {FOREIGN + name if _is_taken(name) else name: value for name, value in row.fields.items()}
    data |= {ROW: row.id, "text": row.text} | ({} if row.pair is None else {"text_pair": row.pair})
    task: dict[str, Any] = {"data": data}
    if place is not None and ranking is not None:
        score = round(place / count, 9)
        task["predictions"] = [{"model_version": ranking.version, "score": score, "result": []}]
    if row.answers:
        task["annotations"] = [_annotation(row.id, answer) for answer in row.answers]
    return task


def _is_taken(name: str) -> bool:
    return name in _KEYS or name.startswith(FOREIGN)


def _annotation(row: str, answer: CorpusAnswer) -> dict[str, Any]:
    annotation: dict[str, Any] = {"id": mark_of(row, answer), "result": [], "was_cancelled": answer.classes is None}
    annotation["ground_truth"] = False  # the program would set it
    if answer.classes:
        annotation["result"] = [choices(answer.classes)]
    return annotation | ({} if answer.seconds is None else {"lead_time": answer.seconds})


def choices(names: Sequence[str]) -> dict[str, Any]:
    """The result of an annotation or a prediction that chooses these classes."""
    return {"from_name": CONTROL, "to_name": OBJECT, "type": "choices", "value": {"choices": list(names)}}


def tasks_text(corpus: Corpus, ranking: Ranking | None = None) -> str:
    """The tasks as a JSON file, one per line."""
    return "[\n" + ",\n".join(json_text(task) for task in tasks(corpus, ranking)) + "\n]\n"
