"""Config files and options against constructors."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from dal import BADGE, Experiment, Margin, Phases, ProbeLearner, Random, TransformerLearner
from dal.config import build as building
from dal.config import settings_tree as tree
from dal.config import without_imports as static
from dal.config.factory import Factory
from dal.config.signatures import type_in_words
from dal.config.stored import describe
from dal.errors import ConfigError, DalError
from dal.oracles.simulated import Simulated

BASE = "data: {path: tickets.csv}\nlearner: ProbeLearner\n"


class Read:
    """Builds an experiment of a config text and options, as `dal run` does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "run.yaml"
        self.notes: tuple[str, ...] = ()

    def __call__(self, text: str, **options: str) -> Experiment:
        self.path.write_text(text)
        pairs = [(key.replace("__", "."), value) for key, value in options.items()]
        made, self.notes = building.build(Experiment, tree.read(self.path), tree.options(pairs))
        return made


@pytest.fixture
def read(tmp_path: Path) -> Read:
    return Read(tmp_path)


@pytest.mark.parametrize(
    "written",
    [
        "BADGE",
        "{BADGE: {seeding: kmeans++}}",
        "{BADGE: }",
        "{class_path: BADGE}",
        "{class_path: BADGE, init_args: {seeding: kmeans++}}",
        "{class_path: BADGE, seeding: kmeans++}",
        "dal.strategies.gradient.BADGE",
        "dal.strategies.gradient:BADGE",
        "{class_path: dal.BADGE}",
    ],
)
def test_a_class_may_be_written_in_several_ways(written: str, read: Read) -> None:
    assert read(BASE + f"strategy: {written}\n").strategy == BADGE()


def test_strategies_within_strategies_take_options(read: Read) -> None:
    strategy = read(
        BASE + "strategy: {Phases: {first: Random, then: {BADGE: {seeding: k-center}}, until: 9}}\n"
    ).strategy
    assert strategy == Phases(Random(), BADGE(seeding="k-center"), until=9)


def test_options_may_stand_before_the_class_they_belong_to(read: Read) -> None:
    made = read(BASE + "strategy: Margin\n", strategy__seeding="k-center", strategy="BADGE")
    assert made.strategy == BADGE(seeding="k-center")


def test_an_option_changes_one_option_of_the_class_in_the_file(read: Read) -> None:
    made = read(BASE + "strategy: {Phases: {first: Random, then: Margin, until: 9}}\n", strategy__then="BADGE")
    assert made.strategy == Phases(Random(), BADGE(), until=9)


def test_naming_the_same_class_again_keeps_its_options(read: Read) -> None:
    made = read(BASE + "strategy: {BADGE: {seeding: k-center}}\n", strategy="BADGE")
    assert made.strategy == BADGE(seeding="k-center")
    assert read.notes == ()


def test_another_class_drops_the_options_of_the_first_and_says_so(read: Read) -> None:
    made = read(BASE + "strategy: {BADGE: {seeding: k-center}}\n", strategy="Margin")
    assert made.strategy == Margin()
    assert read.notes == ("--strategy Margin replaces BADGE; its options in the config no longer apply: seeding",)


def test_options_can_go_deep_into_a_class(read: Read) -> None:
    made = read(BASE + "strategy: Margin\n", learner="TransformerLearner", learner__lora__rank="4", learner__epochs="2")
    assert isinstance(made.learner, TransformerLearner)
    assert made.learner.epochs == 2
    assert made.learner.lora is not None
    assert made.learner.lora.rank == 4


def test_keys_may_be_dotted_in_the_file(read: Read) -> None:
    made = read(
        "data.path: a.csv\ndata.text: body\nlearner: ProbeLearner\nstrategy: BADGE\nstrategy.seeding: k-center\n"
    )
    assert (made.data.path, made.data.text, made.strategy) == ("a.csv", "body", BADGE(seeding="k-center"))


def test_text_that_looks_like_a_number_stays_text_where_text_is_wanted(read: Read) -> None:
    made = read(BASE + "strategy: Margin\n", data__text="2024", data__classes="[1, 2.50, yes]", data__test="0.2")
    assert (made.data.text, made.data.classes, made.data.test) == ("2024", ["1", "2.50", "yes"], 0.2)


def test_yes_and_no_are_class_names(read: Read) -> None:
    made = read("data: {path: a.csv, classes: [yes, no, on]}\nlearner: ProbeLearner\nstrategy: Margin\n")
    assert made.data.classes == ["yes", "no", "on"]


@pytest.mark.parametrize("written", ["0,1,2", "[0, 1, 2]", "[0,1,2]"])
def test_a_list_may_be_written_without_brackets_on_the_command_line(written: str, read: Read) -> None:
    assert read(BASE + "strategy: Margin\n", seeds=written).seeds == [0, 1, 2]


def test_a_number_in_scientific_notation_is_a_number(read: Read) -> None:
    made = read(BASE + "strategy: Margin\n", learner="TransformerLearner", learner__learning_rate="3e-5")
    assert made.learner == TransformerLearner(learning_rate=3e-5)


def test_null_takes_the_place_of_a_class(read: Read) -> None:
    assert read(BASE + "strategy: Margin\nbaseline:\n").baseline is None
    assert read(BASE + "strategy: Margin\noracle: {Simulated: {noise: 0.1}}\n", oracle="null").oracle is None


def test_a_class_of_the_command_line_alone_is_enough(read: Read) -> None:
    made = read(
        "data.path: a.csv\n", learner="ProbeLearner", strategy="Margin", oracle="Simulated", oracle__noise="0.1"
    )
    assert (made.learner, made.strategy, made.oracle) == (ProbeLearner(), Margin(), Simulated(noise=0.1))


def test_anchors_and_merges_work(read: Read) -> None:
    made = read(BASE + "strategy: {Phases: {first: &r Random, then: *r}}\n")
    assert made.strategy == Phases(Random(), Random())


def test_what_a_run_stores_reads_back_to_the_same(read: Read, tmp_path: Path) -> None:
    import yaml

    trainer = (
        "{max_epochs: 3, callbacks: [{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: x}}]}"
    )
    text = f"data: {{path: a.csv}}\nlearner: {{TransformerLearner: {{trainer: {trainer}}}}}\nstrategy: Margin\n"
    first = read(text, baseline="{Phases: {first: Random, then: BADGE}}")
    again = read(yaml.safe_dump(describe(first)))
    assert again == first
    assert describe(again) == describe(first)


def test_a_plugin_with_annotations_as_text_is_configurable(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "late_plugin.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from dal.strategy import Query, ScoreStrategy\n"
        "@dataclass(frozen=True)\n"
        "class Late(ScoreStrategy):\n"
        "    weight: float = 1.0\n"
        "    def score(self, query: Query):\n"
        "        return query.rand(len(query.pool))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = read(BASE + "strategy: {late_plugin.Late: {weight: 2}}\n")
    assert made.strategy.weight == 2.0  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"strategy\.weight takes a number, not 'heavy'"):
        read(BASE + "strategy: {late_plugin.Late: {weight: heavy}}\n")


class Bell:
    """A callback that remembers how often it rang."""

    def __init__(self, tone: str = "a") -> None:
        self.tone = tone
        self.rung = 0


class Machine:
    """What a factory makes."""

    def __init__(self, size: int, bells: list[Bell] | None = None, speed: Literal["low", "high"] = "low") -> None:
        self.size, self.bells, self.speed = size, bells or [], speed


def small_machine(size: int, speed: str = "low") -> Machine:
    return Machine(size + 1, None, "high" if speed == "high" else "low")


@dataclass(frozen=True)
class Plant:
    """Holds factories.

    Args:
        make: makes a machine of a size.
        other: makes one without being told anything.
        weights: by name.
    """

    make: Callable[[int], Machine] = Machine
    other: Callable[[], Bell] | None = None
    weights: dict[str, float] = field(default_factory=dict)


def plant(text: str, **options: str) -> Plant:
    pairs = [(key.replace("__", "."), value) for key, value in options.items()]
    settings = tree.Node(tree.option(text, "plant.yaml").value, None, "plant.yaml")
    return building.build(Plant, settings, tree.options(pairs))[0]


def test_a_factory_makes_new_objects_with_new_objects_inside() -> None:
    made = plant("{make: {class_path: test_build.Machine, init_args: {bells: [{class_path: test_build.Bell}]}}}")
    one, other = made.make(3), made.make(4)
    assert (one.size, other.size) == (3, 4)
    assert one.bells[0] is not other.bells[0]


def test_a_factory_is_a_value_that_its_config_tells_apart() -> None:
    written = "{make: {speed: high}}"
    assert plant(written) == plant(written)
    assert plant(written).make == Factory("test_build.Machine", {"speed": "high"})
    assert plant(written).make != plant("{}").make


def test_a_factory_may_be_a_function() -> None:
    assert plant("{make: test_build.small_machine}").make(3).size == 4
    assert plant("{make: {class_path: test_build.small_machine, init_args: {speed: high}}}").make(3).speed == "high"


def test_a_factory_takes_options_from_the_command_line() -> None:
    assert plant("{}", make__speed="high").make(3).speed == "high"
    assert plant("{}", other="Bell", other__tone="c").other().tone == "c"  # type: ignore[misc]


def test_a_wrong_option_of_a_factory_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--make\.speed takes one of low, high, not 'fast'"):
        plant("{}", make__speed="fast")


def test_a_table_takes_numbers_by_name() -> None:
    assert plant("{weights: {a.b: 1, c: 2.5}}").weights == {"a.b": 1.0, "c": 2.5}
    assert plant("{weights: {a: 1}}", weights__b="2").weights == {"a": 1.0, "b": 2.0}


def test_types_are_spoken_in_words() -> None:
    spoken_types: dict[Any, str] = {
        int: "a whole number",
        float | None: "a number or null",
        list[str]: "a list of texts",
        Literal["a", "b"]: "one of a, b",
        bool: "true or false",
    }
    assert {kind: type_in_words(kind) for kind in spoken_types} == spoken_types


def test_the_source_tells_the_same_fields_as_the_class() -> None:
    import dataclasses

    from dal.data import TextData

    assert list(static.experiment()) == [each.name for each in dataclasses.fields(Experiment)]
    assert list(static.data()) == [each.name for each in dataclasses.fields(TextData)]
    assert all(each.help for each in (*static.experiment().values(), *static.data().values()))


# -- limits ------------------------------------------------------------------------------------------------------------

ALIASES = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
)
BOMBS = {
    "aliases": ALIASES,
    "aliases as merges": "a: &a {x: 1}\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{','.join(['*' + chr(97 + i)] * 9)}]}}\n" for i in range(20)),
    "an alias of itself": "strategy: &a [*a]\n",
    "brackets": "strategy: " + "[" * 5000 + "\n",
    "braces": "strategy: " + "{a: " * 5000 + "\n",
    "indentation": "".join(f"{' ' * i}a:\n" for i in range(600)),
    "dotted key": "a." * 5000 + "b: 1\n",
    "a long number": f"batch: {'9' * 5000}\n",
    "a long number with underscores": f"batch: {'9_' * 5000}9\n",
    "a long name": f"strategy: {'a' * 900_000}\n",
    "a long dotted name": f"strategy: {'a.' * 400_000}b\n",
    "a long key": f"{'k' * 900_000}: 1\n",
    "a long tag": f"strategy: !{'t' * 10_000} x\n",
    "a long option of a class": f"strategy: {{Margin: {{{'k' * 100_000}: 1}}}}\n",
    "a long value of the wrong type": f"batch: {'v' * 900_000}\n",
    "many keys": "".join(f"k{i}: 1\n" for i in range(20_000)),
    "many dotted keys": "".join(f"data.k{i}: 1\n" for i in range(20_000)),
    "many values": "seeds: [" + "1," * 300_000 + "1]\n",
    "more than a config": "# " + "x" * (2 << 20) + "\n",
    "a NUL": 'folder: "a\\0b"\n',
    "aliases within a text": f"seeds: {ALIASES!r}\n".replace("'", '"'),
}


@pytest.mark.parametrize("case", BOMBS, ids=[name.replace(" ", "_") for name in BOMBS])
def test_a_config_beyond_the_limits_is_refused_in_one_short_line(case: str, read: Read) -> None:
    with pytest.raises(ConfigError) as refused:
        read("data: {path: a.csv}\nlearner: ProbeLearner\n" * ("learner" not in BOMBS[case]) + BOMBS[case])
    assert "run.yaml" in str(refused.value)
    assert len(str(refused.value)) < 1500


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, "{a: " * 5000, "9" * 5000, "v" * 900_000, "{" + ALIASES.replace("\n", ", ") + "}", ALIASES],
    ids=["brackets", "braces", "number", "text", "aliases in braces", "aliases"],
)
@pytest.mark.parametrize("key", ["strategy", "batch", "seeds", "data__classes", "strategy__seeding", "data__text"])
def test_an_option_beyond_the_limits_is_refused_in_one_short_line_or_is_text(key: str, text: str, read: Read) -> None:
    if key in _TEXTS:
        with contextlib.suppress(DalError):
            read(BASE + "strategy: Margin\n", **{key: text})
        return
    with pytest.raises(ConfigError) as refused:
        read(BASE + "strategy: Margin\n", **{key: text})
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 1500


_TEXTS = {"data__text", "data__classes"}


@pytest.mark.parametrize("key", ["a." * 5000 + "b", "k" * 1_000_000, "--" * 1000, "strategy" + ".then" * 70])
def test_an_endless_key_is_refused_in_one_short_line(key: str, read: Read) -> None:
    with pytest.raises(ConfigError) as refused:
        read(BASE + "strategy: Margin\n", **{key: "1"})
    assert len(str(refused.value)) < 1500


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("batch: 3\n".encode("utf-16"), "not UTF-8 text but UTF-16 or binary"),
        ("batch: 3\n".encode("utf-16-le"), "not UTF-8 text but UTF-16 or binary"),
        ("batch: 3\n".encode("utf-32"), "not UTF-8 text but UTF-16 or binary"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8 text"),
        (b"batch: 3\x00\n", "not valid YAML"),
        (b"batch: caf\xe9\n", "not UTF-8 text (byte 10)"),
        (b"", "found nothing"),
        (b"\n\n# nothing\n", "found nothing"),
        (b"PK\x03\x04" + bytes(range(128, 256)) * 100, "not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_config_is_refused_by_its_name(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        tree.read(tmp_path / "run.yaml")
    assert str(refused.value).startswith(str(tmp_path / "run.yaml"))
    assert said in str(refused.value)


def test_a_key_that_stands_twice_among_many_is_found_in_one_pass(tmp_path: Path) -> None:
    class Counted(str):
        compared = 0

        def __eq__(self, other: object) -> bool:
            Counted.compared += 1
            return str(self) == other

        __hash__ = str.__hash__

    import yaml

    pairs = [
        (yaml.ScalarNode("tag:yaml.org,2002:str", Counted(f"k{i}")), yaml.ScalarNode("tag:yaml.org,2002:str", "v"))
        for i in range(5000)
    ]
    for node in (each for pair in pairs for each in pair):
        node.start_mark = yaml.Mark("x", 0, 0, 0, None, None)
    mapping = yaml.MappingNode("tag:yaml.org,2002:map", pairs)
    mapping.start_mark = pairs[0][0].start_mark
    found, _, _ = tree._convert(tree._Loader(""), mapping, lambda mark: "here")
    assert len(found) == 5000
    assert Counted.compared < 50_000


def test_a_merged_mapping_may_be_used_again(read: Read) -> None:
    text = BASE + "baseline: {BADGE: &options {seeding: k-center}}\n"
    text += "strategy: {BADGE: &c {<<: *options, seeding: kmeans++}}\n"
    assert read(text + "cold_start: {BADGE: *c}\n").cold_start == BADGE()


def test_merge_keys_do_not_double_what_they_merge(tmp_path: Path) -> None:
    lines = ["a0: &a0 {k: 1, l: 2}", *(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 13))]
    (tmp_path / "run.yaml").write_text("\n".join(lines))
    assert tree.plain(tree.read(tmp_path / "run.yaml"))["a12"] == {"k": 1, "l": 2}
    loader = tree._Loader("\n".join(lines))
    root = loader.get_single_node()
    last = root.value[-1][1]
    loader.flatten_mapping(last)
    assert len(last.value) == 2
