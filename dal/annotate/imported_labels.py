"""Known labels that are imported into a project: a preview of what storing them does, and the storing."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from dal.errors import counted, printable
from dal.store.events import Answer
from dal.store.label_log import IMPORTED, LabelLog
from dal.store.row_state import NEW, PENDING, RETIRED

_PAGE = 5_000  # rows whose states are read at a time
_SHOWN = 5  # ids in a message


@dataclass(frozen=True)
class LabelImport:
    """Labels to import, compared with the answers in the log.

    Attributes:
        labels: class names by row id, of the rows to store: a tuple for multi-label data, else a single name.
        same: number of rows whose answer in the log is the same.
        other: ids of rows that have another answer in the log, which stays.
        retired: number of rows that were retired, whose labels are not stored.
        unlabeled: number of rows of the file without a label.
    """

    labels: Mapping[str, str | tuple[str, ...]]
    same: int
    other: tuple[str, ...]
    retired: int
    unlabeled: int

    @classmethod
    def of(
        cls, labels: Mapping[str, tuple[str, ...]], rows: int, *, multilabel: bool, log: LabelLog | None = None
    ) -> "LabelImport":
        """Compare labels with a log.

        Args:
            labels: class names by row id.
            rows: number of rows of the file, with and without a label.
            multilabel: whether a row may have several classes.
            log: the log; None for a new project.
        """
        kept: dict[str, str | tuple[str, ...]] = {}
        same, retired, other = 0, 0, list[str]()
        ids = list(labels)
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            states = {} if log is None else log.states(page)
            for row_id in page:
                value: str | tuple[str, ...] = labels[row_id] if multilabel else labels[row_id][0]
                state = states.get(row_id)
                if state is None or state.state in (NEW, PENDING):
                    kept[row_id] = value
                elif state.state == RETIRED:
                    retired += 1
                elif log is not None and state.answer is not None and log.reading(state.answer) == value:
                    same += 1
                else:
                    other.append(row_id)
        return cls(kept, same, tuple(other), retired, rows - len(labels))

    def without(self, ids: Collection[str]) -> "LabelImport":
        """The import without the labels of some rows."""
        return replace(self, labels={row_id: value for row_id, value in self.labels.items() if row_id not in ids})

    @property
    def counts(self) -> dict[str, int]:
        """Number of rows to store for each class, most frequent first; "" for none of them."""
        counts: Counter[str] = Counter()
        for given in self.labels.values():
            counts.update((given,) if isinstance(given, str) else given or ("",))
        return dict(counts.most_common())

    @property
    def lines(self) -> list[str]:
        """The preview, a line for each fact."""
        classes = ", ".join(f"{printable(name) or 'none of them'} {count:,}" for name, count in self.counts.items())
        found = (
            [f"{counted(len(self.labels), 'known label')}: {classes}"] if self.labels else ["no known label to store"]
        )
        if self.unlabeled:
            found.append(f"{counted(self.unlabeled, 'row has', 'rows have')} no label")
        if self.same:
            found.append(f"{counted(self.same, 'row has', 'rows have')} the same answer already")
        if self.other:
            some = ", ".join(printable(row_id, 40) for row_id in self.other[:_SHOWN])
            more = f" and {len(self.other) - _SHOWN:,} more" if len(self.other) > _SHOWN else ""
            found.append(
                f"{counted(len(self.other), 'row has', 'rows have')} another answer, which stays: {some}{more}"
            )
        if self.retired:
            found.append(f"{counted(self.retired, 'row is', 'rows are')} retired; such labels are not stored")
        return found

    def store(self, log: LabelLog, *, who: str = "") -> None:
        """Store the labels as answers with the source "import", in one transaction."""
        log.tell([Answer(row_id, value, who, IMPORTED) for row_id, value in self.labels.items()])
