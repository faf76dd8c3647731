"""Text data of a project folder: its own rows, without those that were retired."""

from dataclasses import dataclass

from dal.data.data_paths import path_of
from dal.data.file_source import FileSource
from dal.data.project_table import read_project
from dal.data.text_data import TextData


@dataclass(frozen=True)
class ProjectData(TextData):
    """Rows of a project, see `dal.store.project_rows`.

    Args:
        retired: ids of rows that are left out of the pool. Their answers stay in the log.
    """

    retired: frozenset[str] = frozenset()

    def _pool_source(self) -> FileSource:
        return read_project(path_of(self.path), self._wanted(frozenset()), retired=self.retired)
