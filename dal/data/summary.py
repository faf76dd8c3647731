"""Counts of what loading a data set read, skipped and dropped."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dal.errors import printable


@dataclass(frozen=True)
class Summary:
    """Row counts of a loaded data set. `str()` formats them for reading.

    Attributes:
        source: file, hub name or folder of the pool.
        rows: rows read for the pool, before any were left out.
        pool: rows of the pool.
        labeled: labeled rows of the pool.
        duplicates: rows of the pool that repeat the text of an earlier row; they are kept.
        empty: rows skipped because their text is empty, in the pool and the test.
        overlap: rows dropped from the pool because their text also occurs in the test or validation rows.
        sampled_out: rows left out by `limit` and `test_limit`.
        test: rows of the test.
        test_source: file or split of the test; empty if it was held out.
        test_unlabeled: rows left out of the test because they have no label.
        validation: validation rows.
        classes: class name -> number of labeled rows of the pool.
    """

    source: str = ""
    rows: int = 0
    pool: int = 0
    labeled: int = 0
    duplicates: int = 0
    empty: int = 0
    overlap: int = 0
    sampled_out: int = 0
    test: int = 0
    test_source: str = ""
    test_unlabeled: int = 0
    validation: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.source}: pool of {self.pool:,} rows, {self.labeled:,} labeled"]
        if self.test:
            parts.append(f"test of {self.test:,}" + (f" from {self.test_source}" if self.test_source else " held out"))
        if self.validation:
            parts.append(f"{self.validation:,} rows for validation")
        left_out = [
            (self.empty, "skipped with an empty text"),
            (self.overlap, "dropped from the pool, their text also occurs in the test or validation"),
            (self.sampled_out, "left out by the limits"),
            (self.test_unlabeled, "left out of the test, they have no label"),
            (self.duplicates, "kept that repeat the text of an earlier row of the pool"),
        ]
        parts += [f"{count:,} {what}" for count, what in left_out if count]
        lines = ["; ".join(parts)]
        if self.classes:
            shown = [f"{printable(name)} {count:,}" for name, count in list(self.classes.items())[:20]]
            more = f", and {len(self.classes) - 20} more" if len(self.classes) > 20 else ""
            lines.append(f"{len(self.classes)} classes: " + ", ".join(shown) + more)
        return "\n".join(lines)
