"""`config.yaml` of a folder: the config of its contents as plain values, written once and compared on later use."""

import dataclasses
import enum
import functools
import json
import os
from abc import ABC
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from dal.config import moved, plugins
from dal.config.bounded_yaml import parse_yaml
from dal.config.kinds import CELL, COMPARISON, KIND, RUN
from dal.errors import ConfigError, shortened
from dal.store.atomic_files import make_folder, named, write_whole
from dal.store.run_folder import METRICS, check_folder, reason_of, writing

CONFIG = "config.yaml"

#: Options newer than version 0.1 whose default is not None -> the default, which older folders do not store.
_NEW_DEFAULTS = {
    "data.description_template": "{}",
    "recall_every": 0,
    "successor_every": 1,
    "successor_sample": 0,
}


def describe(value: Any, *, named: bool = True) -> Any:
    """Config of an object as plain lists, dicts, strings and numbers: the format of `config.yaml`.

    A plain dataclass becomes the dict of its fields. One with an abstract base, whose class a config must name, becomes
    `{"class_path": ..., "init_args": {...}}`, and so does a `functools.partial`.

    Args:
        value: a part of an experiment.
        named: whether to use the short names of classes declared by installed packages, such as `Margin`, which stay
            valid when a module moves; otherwise, and for other classes, the import path is used.

    Example:
        >>> from dal.oracles.simulated import Simulated
        >>> describe(Simulated(noise=0.1))
        {'class_path': 'Simulated', 'init_args': {'noise': 0.1, 'seed': 0}}
    """
    inner = functools.partial(describe, named=named)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): inner(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [inner(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, functools.partial):
        return {"class_path": _path(value.func), "init_args": inner(value.keywords)}
    if hasattr(value, "fingerprint") and hasattr(value, "__len__"):
        return {"rows": len(value), "fingerprint": value.fingerprint}
    if callable(value) and hasattr(value, "__qualname__"):
        return _path(value)
    cls = type(value)
    name = plugins.declared_name(_path(cls)) if named else _path(cls)
    if dataclasses.is_dataclass(value):
        fields = {field.name: inner(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
        return {"class_path": name, "init_args": fields} if isinstance(value, ABC) else fields
    return {"class_path": name} if cls.__module__ != "torch" else str(value)


def _path(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def canonical(config: Any) -> Any:
    """Config with current names, short ones where declared, so that configs of all versions can be compared."""
    return _with_declared_names(moved.current(config))


def _with_declared_names(config: Any) -> Any:
    if isinstance(config, list):
        return [_with_declared_names(item) for item in config]
    if not isinstance(config, dict):
        return config
    renamed = {key: _with_declared_names(item) for key, item in config.items()}
    if isinstance(renamed.get("class_path"), str):
        renamed["class_path"] = plugins.declared_name(renamed["class_path"].replace(":", "."))
    return renamed


def write_config(
    folder: Path, config: Any, *, kind: str, ignored: Sequence[str] = (), replaced: Sequence[str] = ()
) -> list[str]:
    """Write `config.yaml` to `folder`, or check that the existing one is equal.

    Args:
        folder: the folder, created if it does not exist.
        config: a mapping or dataclass that `describe` supports.
        kind: one of `KINDS`. Folders of earlier versions have none.
        ignored: dotted keys that may differ.
        replaced: dotted keys that may differ, too, and whose stored values are then replaced.

    Returns:
        The keys in `replaced` whose values were replaced.

    Raises:
        ConfigError: the existing config differs; the message names the first different key.
    """
    path, now = folder / CONFIG, {KIND: kind, **_plain(config)}
    changed: list[str] = []
    if os.path.lexists(path):
        difference = first_difference(folder, now, ignored=(*ignored, *replaced))
        if difference is not None:
            advice = "choose another folder"
            kinds = {kind, _plain(read_config(folder)).get(KIND)}
            if kinds <= {RUN, COMPARISON, CELL} and not any(folder.glob(f"**/{METRICS}")):
                advice += ", or delete this one: no round in it is finished; it has at most answers to first batches"
            raise ConfigError(f"{named(folder)} holds another run: {difference}; {advice}")
        before = canonical(read_config(folder))
        changed = [key for key in replaced if _value_at(before, key) != _value_at(now, key)]
        if not changed:
            return []
    text = yaml.safe_dump(now, sort_keys=False, allow_unicode=True, width=120)
    with writing(path):
        make_folder(check_folder(folder))
        write_whole(path, text, private=True)
    return changed


def _value_at(config: Any, key: str) -> Any:
    """The value of a dotted key; its default where the config lacks it."""
    for name in key.split("."):
        config = config.get(name, _MISSING) if isinstance(config, dict) else _MISSING
    return _NEW_DEFAULTS.get(key) if config is _MISSING else config


def first_difference(folder: Path, config: Mapping[str, Any], *, ignored: Sequence[str] = ()) -> str | None:
    """First key in which `config.yaml` in `folder` differs from a config, with both values; None if they are equal.

    The kind is compared only if both have one. `ignored` are dotted keys that may differ.

    Raises:
        ConfigError: `config.yaml` cannot be read.
    """
    before, now = canonical(read_config(folder)), _plain(config)
    if KIND not in before or KIND not in now:
        ignored = (*ignored, KIND)
    found = _difference(before, now, ignored)
    if found is None:
        return None
    key, was, wanted = found
    return f"{shortened(key)} is {_shown(was)} there and {_shown(wanted)} here"


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.yaml` in `folder`, without translating names of earlier versions.

    Raises:
        ConfigError: it does not exist, or is not a YAML mapping.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError(f"{folder} is not a run folder: it has no {CONFIG}")
    try:
        config = parse_yaml(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ConfigError(f"{named(path)} cannot be read: {reason_of(error)}") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{path} does not hold keys and values")
    return config


def _plain(config: Any) -> dict[str, Any]:
    """The config as it would be read back from JSON or YAML."""
    return dict(json.loads(json.dumps(describe(config))))


_MISSING = object()


def _difference(before: Any, now: Any, ignored: Sequence[str], key: str = "") -> tuple[str, Any, Any] | None:
    if not (isinstance(before, dict) and isinstance(now, dict)):
        same = before == now or (_MISSING not in (before, now) and json.dumps(before) == json.dumps(now))  # two NaN
        return None if same else (key, before, now)
    for name in [*now, *(name for name in before if name not in now)]:
        path = f"{key}.{name}" if key else str(name)
        if path in ignored:
            continue
        if name not in before and now[name] == _NEW_DEFAULTS.get(path):
            continue  # an option that is newer than the folder, and not used
        found = _difference(before.get(name, _MISSING), now.get(name, _MISSING), ignored, path)
        if found is not None:
            return found
    return None


def _shown(value: Any) -> str:
    return "absent" if value is _MISSING else shortened(json.dumps(value, ensure_ascii=False))
