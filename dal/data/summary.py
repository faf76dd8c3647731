"""What loading a data set did, in counts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dal.errors import printable


@dataclass(frozen=True)
class Summary:
    """Counts of what was read, skipped and dropped. `str()` of it reads well.

    Attributes:
        source: the file, hub name or folder of the pool.
        rows: rows read for the pool, before anything was left out.
        pool: rows of the pool.
        labeled: rows of the pool with a label.
        duplicates: rows of the pool whose text stands in an earlier one; they are kept.
        empty: rows skipped for an empty text, in the pool and the test.
        overlap: rows dropped from the pool because their text stands in the test or the validation share.
        sampled_out: rows left out by `limit` and `test_limit`.
        test: rows of the test.
        test_source: where the test came from; empty when it was held out.
        test_unlabeled: rows left out of the test because they have no label.
        validation: rows of the validation share.
        classes: class name -> labeled rows of the pool.
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
            (self.overlap, "dropped from the pool, their text stands in the test or validation"),
            (self.sampled_out, "left out by the limits"),
            (self.test_unlabeled, "left out of the test, they have no label"),
            (self.duplicates, "kept with a text that stands in the pool before"),
        ]
        parts += [f"{count:,} {what}" for count, what in left_out if count]
        lines = ["; ".join(parts)]
        if self.classes:
            shown = [f"{printable(name)} {count:,}" for name, count in list(self.classes.items())[:20]]
            more = f", and {len(self.classes) - 20} more" if len(self.classes) > 20 else ""
            lines.append(f"{len(self.classes)} classes: " + ", ".join(shown) + more)
        return "\n".join(lines)
