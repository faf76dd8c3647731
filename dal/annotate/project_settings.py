"""Settings of a project that the annotation service needs, read without torch."""

import math
from dataclasses import dataclass
from pathlib import Path

from dal.config.kinds import KIND, PROJECT, kind_of
from dal.config.settings_tree import plain, read
from dal.errors import ConfigError
from dal.store.atomic_files import named, typed
from dal.store.similar_names import similar_entry

_CONFIG = "config.yaml"


@dataclass(frozen=True)
class ProjectSettings:
    """Settings of a project.

    Attributes:
        name: name of its folder.
        multilabel: whether a text has any number of classes.
        price_per_hour: dollars for an hour of annotation; None if unknown.
    """

    name: str
    multilabel: bool = False
    price_per_hour: float | None = None

    @classmethod
    def of(cls, folder: Path) -> "ProjectSettings":
        """Read the settings of a project's folder.

        Raises:
            ConfigError: the folder is none of a project, or its config cannot be read.
        """
        if not folder.exists() and (hint := similar_entry(folder, folders=True)):
            raise ConfigError(f"there is no folder {named(folder)}{hint}")
        if not folder.is_dir():
            raise ConfigError(f"{named(folder)} is no folder: make a project with dal init {typed(folder)} --data FILE")
        if not (folder / _CONFIG).is_file():
            raise ConfigError(
                f"{named(folder)} holds no project: make one in another folder with dal init FOLDER --data FILE"
            )
        config = plain(read(folder / _CONFIG))
        if config.get(KIND) != PROJECT:
            raise ConfigError(
                f"{named(folder)} is a folder of dal {kind_of(folder)}, not a project: make one in another folder with "
                "dal init FOLDER --data FILE"
            )
        data = config.get("data")
        options = data.get("init_args", data) if isinstance(data, dict) else {}
        price = config.get("price_per_hour")
        if isinstance(price, float) and not math.isfinite(price):
            raise ConfigError(f"{named(folder / _CONFIG)}: price_per_hour must be dollars for an hour, not {price}")
        return cls(
            name=folder.resolve().name,
            multilabel=options.get("multilabel") is True,
            price_per_hour=float(price) if isinstance(price, int | float) and not isinstance(price, bool) else None,
        )
