"""The code blocks of the README and the pages of docs/, and how a test runs a block of each language."""

import builtins
import contextlib
import csv
import importlib
import io
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import material
import pytest
import yaml

from dal.cli import main
from dal.config.plugins import BASES, METRICS, load
from dal.evaluation.own_metrics import load_metric

ROOT = Path(__file__).parents[1]

#: Topics of the generated tickets -> classes that the pages name.
CLASSES = {"billing": "billing", "access": "access", "feedback": "bug"}

#: A config that the fragments on the pages complete.
CONFIG = """\
data: {{path: tickets.csv, text: body, label: topic, test: 0.3, validation: 0.1}}
learner: {{ProbeLearner: {{model: {model}, max_length: 16}}}}
strategy: Margin
baseline: null
start: 12
batch: 4
rounds: 1
seeds: [0]
"""


@dataclass(frozen=True)
class Block:
    """A code block of a page; `number` counts the blocks of the page from 1."""

    page: str
    number: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"

    @property
    def file(self) -> str:
        """The name in its first line, such as `# tickets.yaml`, under which the reader saves it; empty without one."""
        found = re.match(r"# ([\w-]+\.(?:py|yaml))\n", self.text)
        return found[1] if found else ""


def blocks_of(page: str) -> list[Block]:
    """The code blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(page, number, language, body) for number, (language, body) in enumerate(found, 1)]


class Reader:
    """Does in a folder what a reader of a page does with its blocks, one after the other.

    Attributes:
        folder: current folder, with `tickets.csv` (columns body and topic), `labeled.csv` (text and label),
            `tickets.yaml`, `grid.yaml` and the folder `configs`.
        names: namespace that the Python blocks of the page share.
        output: what the blocks printed.
        done: number of the last block that was run.
        questions: texts that were shown to a person.
    """

    def __init__(self, folder: Path, model: Path, shorter: Sequence[tuple[str, str]]) -> None:
        self.folder, self.model, self._shorter = folder, model, shorter
        texts, topics = material.tickets(200)
        self.topics = {text: CLASSES[topic] for text, topic in zip(texts, topics, strict=True) if topic in CLASSES}
        self.write_table("labeled.csv", ("text", "label"))
        self.write_table("tickets.csv", ("body", "topic"))
        for name in ("tickets.yaml", "grid.yaml"):
            (folder / name).write_text(CONFIG.format(model=model), encoding="utf-8")
        (folder / "configs").symlink_to(ROOT / "configs")
        self.output = ""
        self.done = 0
        self.questions: list[str] = []
        self.names: dict[str, Any] = {"__name__": "page", "Path": Path, "dal": self.dal, "reader": self}
        self._run = {
            "bash": self._bash,
            "console": self._console,
            "python": self._python,
            "text": self._shown,
            "toml": self._entry_points,
            "yaml": self._config,
        }

    def write_table(self, name: str, header: Sequence[str], *, labeled: float = 1.0) -> None:
        """Write texts to a file, with classes for a share of them."""
        known = labeled * len(self.topics)
        rows = [(text, topic if i < known else "") for i, (text, topic) in enumerate(self.topics.items())]
        with open(self.folder / name, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])

    @contextlib.contextmanager
    def reading(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """The folder is the current one and on the import path; its owner answers questions."""
        monkeypatch.chdir(self.folder)
        monkeypatch.syspath_prepend(self.folder)
        monkeypatch.setattr(builtins, "input", self._answer)
        known = set(sys.modules)
        try:
            yield
        finally:
            for name in set(sys.modules) - known:
                if str(getattr(sys.modules[name], "__file__", None)).startswith(str(self.folder)):
                    del sys.modules[name]  # another page may have a module of the same name

    def run(self, block: Block, before: str = "", after: str = "") -> None:
        """Run a block, with Python before and after it."""
        assert block.language in self._run, f"{block}: no way to run the language {block.language!r}"
        self.execute(before)
        self._run[block.language](block)
        self.execute(after)

    def execute(self, code: str) -> None:
        """Execute Python in the namespace of the page."""
        exec(compile(code, "page", "exec"), self.names)

    def shortened(self, text: str) -> str:
        """The text of a block with what is replaced on this page."""
        for long, short in self._shorter:
            text = text.replace(long, short)
        return text

    def dal(self, command: str) -> str:
        """Run a `dal` command line, which must succeed, and return what it printed."""
        arguments = shlex.split(command, comments=True)
        self._fill(arguments)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        assert code == 0, f"dal {command}\n{out.getvalue()}{err.getvalue()}"
        return out.getvalue() + err.getvalue()

    def _answer(self, prompt: str) -> str:
        text = prompt.removesuffix("\n> ")
        self.questions.append(text)
        return self.topics[text]

    def _fill(self, arguments: Sequence[str]) -> None:
        """Do by hand what is done before a command: fill in its sheet, or make room for a folder that it starts."""
        command, *rest = arguments
        if command == "ask" and "--config" in rest:
            shutil.rmtree(rest[0], ignore_errors=True)  # the page showed another way to label the same texts
        for sheet in rest[1:2] if command in {"tell", "estimate"} and rest[1:2] and rest[1][-4:] == ".csv" else ():
            with open(sheet, newline="", encoding="utf-8-sig") as file:
                rows = list(csv.DictReader(file))
            with open(sheet, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows([{**row, "label": self.topics[row["text"]]} for row in rows])

    def _python(self, block: Block) -> None:
        code, out = self.shortened(block.text), io.StringIO()
        with contextlib.redirect_stdout(out):
            if block.file:
                Path(block.file).write_text(code, encoding="utf-8")
                importlib.invalidate_caches()
                module = importlib.import_module(block.file.removesuffix(".py"))
                self.names |= {name: value for name, value in vars(module).items() if not name.startswith("__")}
            else:
                exec(compile(code, str(block), "exec"), self.names)
        self.output += out.getvalue()

    def _bash(self, block: Block) -> None:
        for line in self.shortened(block.text).replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["dal"]:
                self.output += self.dal(shlex.join(words[1:]))
            elif words:
                check_line(words)

    def _console(self, block: Block) -> None:
        lines = self.shortened(block.text).splitlines()
        commands = [line for line in lines if line.startswith("$ ")]
        self.output += "".join(self.dal(line.removeprefix("$ dal ")) for line in commands)
        self._compare([line for line in lines if line not in commands])

    def _shown(self, block: Block) -> None:
        self._compare(block.text.splitlines())

    def _compare(self, shown: Sequence[str]) -> None:
        """Every line that the page shows was printed, up to numbers, paths and names."""
        printed = [shape(line) for line in self.output.splitlines()]
        for line in filter(None, map(shape, shown)):
            beginning = line.removesuffix("...")
            assert line in printed or any(beginning != line and each.startswith(beginning) for each in printed), (
                self.output
            )

    def _config(self, block: Block) -> None:
        """Build what a config describes, or the config that it completes; run it, where it costs nothing."""
        given = yaml.safe_load(self.shortened(block.text))
        if block.file:
            Path(block.file).write_text(self.shortened(block.text), encoding="utf-8")
            self.dal(f"run {block.file} --print-config")
            return
        if "client" in given:
            given = {"learner": {"LLMLearner": given}}
        config = yaml.safe_load(CONFIG.format(model=self.model))
        config["data"] |= given.pop("data", {})
        name = f"block-{block.number}.yaml"
        Path(name).write_text(yaml.safe_dump(config | given), encoding="utf-8")
        self.output += self.dal(f"run {name} --dry-run" if "LLM" in str(given) else f"run {name}")

    def _entry_points(self, block: Block) -> None:
        """The groups are those that dal reads, and the classes can be loaded and are of their kinds."""
        groups = tomllib.loads(block.text)["project"]["entry-points"]
        for group, entries in groups.items():
            assert group in {*BASES, METRICS}
            for path in entries.values():
                assert load_metric(path) if group == METRICS else load(group, path)


def shape(line: str) -> str:
    """A line of output without what differs from run to run: numbers, plurals, paths and signs of intervals."""
    line = re.sub(r"\bruns(/[\w.~-]+)*", "PATH", line.replace(" less", " more").replace("**", ""))
    line = re.sub(r"(?<![\w])[-+]?\$?\d[\d,.]*\d%?|(?<![\w])[-+]?\$?\d%?", "N", line)
    return " ".join(line.split())


def check_line(words: Sequence[str]) -> None:
    """What a line of a shell that is not run names exists: scripts and their options, extras and files."""
    if words[0] == "python":
        words = words[1:]
    if words[0].startswith("scripts/"):
        script = ROOT / words[0]
        assert script.is_file(), words[0]
        source = script.read_text(encoding="utf-8")
        # A script may declare its options in a module next to it.
        for name in re.findall(r"^(?:from|import) (\w+)", source, re.MULTILINE):
            if (module := script.with_name(f"{name}.py")).is_file():
                source += module.read_text(encoding="utf-8")
        assert [each for each in words[1:] if each.startswith("--") and f'"{each}"' not in source] == []
    elif words[:2] == ["pip", "install"]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for word in words[2:]:
            package, extras = re.fullmatch(r"([\w.-]+?)(?:\[([\w,]+)\])?", word).groups()  # type: ignore[union-attr]
            assert package in {".", project["name"], "-e", "-c"} or (ROOT / package).is_file(), word
            assert set(filter(None, (extras or "").split(","))) <= project["optional-dependencies"].keys(), word
    else:
        raise AssertionError(f"no way to check {shlex.join(words)}")
