import functools
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from dal.errors import BusyError, ConfigError, SessionError
from dal.runfolder import (
    Lock,
    append_metrics,
    describe,
    environment,
    keep_model,
    read_config,
    read_metrics,
    record_environment,
    trained_on,
    write_config,
)


class Shape(ABC):
    @abstractmethod
    def area(self) -> float: ...


@dataclass(frozen=True)
class Circle(Shape):
    radius: float = 1.0

    def area(self) -> float:
        return 3.14159 * self.radius**2


@dataclass(frozen=True)
class Plain:
    shape: Shape
    path: Path = Path("some/file.csv")
    names: tuple[str, ...] = ("a", "b")
    make: Callable[..., Any] = field(default=functools.partial(torch.nn.Linear, 3, bias=False))
    call: Callable[..., Any] = torch.nn.Linear


def test_plain_dataclass_is_its_fields_and_a_chosen_class_names_itself() -> None:
    described = describe(Plain(Circle(2.0)))
    assert described["shape"]["init_args"] == {"radius": 2.0}
    assert described["shape"]["class_path"].endswith(".Circle")
    assert (described["path"], described["names"]) == ("some/file.csv", ["a", "b"])
    assert described["make"] == {"class_path": "torch.nn.modules.linear.Linear", "init_args": {"bias": False}}
    assert described["call"] == "torch.nn.modules.linear.Linear"


def test_description_survives_yaml(tmp_path: Path) -> None:
    config = {"data": describe(Plain(Circle())), "seeds": (1, 2), "folder": None}
    write_config(tmp_path, config)
    write_config(tmp_path, config)
    assert read_config(tmp_path)["seeds"] == [1, 2]


def test_config_that_differs_is_refused_by_key_both_ways(tmp_path: Path) -> None:
    write_config(tmp_path, {"a": {"b": 1, "c": "x"}, "free": 1})
    with pytest.raises(ConfigError, match=r"a\.b is 1 there and 2 here"):
        write_config(tmp_path, {"a": {"b": 2, "c": "x"}, "free": 1})
    with pytest.raises(ConfigError, match=r"a\.c is \"x\" there and absent here"):
        write_config(tmp_path, {"a": {"b": 1}, "free": 1})
    write_config(tmp_path, {"a": {"b": 1, "c": "x"}, "free": 2}, ignored=["free"])
    assert read_config(tmp_path)["free"] == 1


def test_folder_without_a_readable_config_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a run folder"):
        read_config(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [1, 2")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path)
    (tmp_path / "config.yaml").write_text("just words")
    with pytest.raises(ConfigError, match="keys and values"):
        read_config(tmp_path)


def test_torn_last_line_of_the_metrics_is_dropped_and_written_over(tmp_path: Path) -> None:
    append_metrics(tmp_path, {"round": 0})
    append_metrics(tmp_path, {"round": 1})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"round": 2, "accu')
    assert [line["round"] for line in read_metrics(tmp_path)] == [0, 1]
    append_metrics(tmp_path, {"round": 2})
    assert [line["round"] for line in read_metrics(tmp_path)] == [0, 1, 2]


def test_damage_within_the_metrics_is_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"round": 0}\nnonsense\n{"round": 2}\n')
    with pytest.raises(SessionError, match=r"metrics\.jsonl, line 2"):
        read_metrics(tmp_path)


def test_model_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    with keep_model(tmp_path, "first") as folder:
        (folder / "weights").write_text("1")
    assert trained_on(tmp_path) == ("first", 0.0)
    with suppress(RuntimeError), keep_model(tmp_path, "second") as folder:
        (folder / "weights").write_text("half of")
        raise RuntimeError
    assert trained_on(tmp_path) == ("first", 0.0)
    with keep_model(tmp_path, "third") as folder:
        (folder / "weights").write_text("3")
    assert trained_on(tmp_path) == ("third", 0.0)
    assert (tmp_path / "model" / "weights").read_text() == "3"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_last_model_is_put_back_when_a_kill_struck_during_its_replacement(tmp_path: Path) -> None:
    with keep_model(tmp_path, "first") as folder:
        (folder / "weights").write_text("1")
    (tmp_path / "model").rename(tmp_path / "model.old")
    assert trained_on(tmp_path) == ("first", 0.0)
    (tmp_path / "model" / "trained_on.json").write_text("torn")
    assert trained_on(tmp_path) is None


def test_lock_is_free_again_after_release(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "run")
    with pytest.raises(BusyError, match="this very process"):
        Lock(tmp_path / "run")
    lock.release()
    lock.release()
    Lock(tmp_path / "run").release()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_worker_does_not_hold_the_lock_after_its_parent(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    lock.release()
    Lock(tmp_path).release()
    os.write(done[1], b"x")
    os.waitpid(child, 0)
    for end in (*ready, *done):
        os.close(end)


def test_environment_is_recorded_once_and_then_compared(tmp_path: Path) -> None:
    assert record_environment(tmp_path) == []
    assert record_environment(tmp_path) == []
    (tmp_path / "environment.json").write_text(json.dumps(environment() | {"python": "2.7"}))
    assert record_environment(tmp_path) == ["python"]
