"""What classes and options were called in earlier versions, and what they are called now.

Stored files of existing folders are read under both names, without a word. In a user's own config and code an old name
works until version 0.3, and warns once.
"""

from collections.abc import Mapping
from typing import Any

#: Import path in version 0.1 -> import path now, of classes and functions that a config can name.
CLASSES: dict[str, str] = {}

#: What a short name stands for, such as "stopping rule" -> short name in version 0.1 -> short name now.
NAMES: dict[str, dict[str, str]] = {}

#: Present import path of a class -> option in version 0.1 -> option now.
OPTIONS: dict[str, dict[str, str]] = {}


def current_name(kind: str | None, name: str) -> str:
    """The present short name or import path of what an earlier version called `name`; any other name as it is."""
    return NAMES.get(kind or "", {}).get(name) or CLASSES.get(name.replace(":", "."), name)


def renamed_options(cls: Any) -> Mapping[str, str]:
    """Old name -> present name of the options of a class or function."""
    return OPTIONS.get(f"{getattr(cls, '__module__', '')}.{getattr(cls, '__qualname__', '')}", {})


def current(config: Any, kind: str | None = None) -> Any:
    """Plain values of a stored config under the present names, as far as the table knows them."""
    if isinstance(config, list):
        return [current(item) for item in config]
    if not isinstance(config, dict):
        return config
    found = {key: current(item) for key, item in config.items()}
    if isinstance(found.get("class_path"), str):
        path = found["class_path"] = current_name(kind, found["class_path"])
        if isinstance(found.get("init_args"), dict):
            options = OPTIONS.get(path.replace(":", "."), {})
            found["init_args"] = {options.get(key, key): item for key, item in found["init_args"].items()}
    return found


def first(config: Any) -> Any:
    """Plain values as version 0.1 wrote them: the inverse of `current`, for digests that it left in folders.

    Class names must be import paths.
    """
    if isinstance(config, list):
        return [first(item) for item in config]
    if not isinstance(config, dict):
        return config
    found = {key: first(item) for key, item in config.items()}
    if isinstance(found.get("class_path"), str):
        path = found["class_path"]
        old = {now: before for before, now in OPTIONS.get(path, {}).items()}
        found["class_path"] = next((before for before, now in CLASSES.items() if now == path), path)
        if isinstance(found.get("init_args"), dict):
            found["init_args"] = {old.get(key, key): item for key, item in found["init_args"].items()}
    return found
