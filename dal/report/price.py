"""Price of a label, and the value of saved labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dal.evaluation import Efficiency
from dal.evaluation.cost import LLM, WEAK
from dal.report.measures import figure_of, number
from dal.report.run_reading import Run, sources_of


@dataclass(frozen=True)
class LabelPrice:
    """Price of a label, as far as it is known.

    Attributes:
        label: dollars per label; None when unknown.
        hour: dollars per hour of the annotator; None when the price is per label.
        seconds: annotator's seconds per label.
    """

    label: float | None = None
    hour: float | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, run: Run) -> "LabelPrice":
        """Price from the config (`price_per_label`, or `price_per_hour` with `seconds_per_label`), or the records."""
        keys = ("price_per_label", "price_per_hour", "seconds_per_label")
        label, hour, seconds = (float(v) if number(v := run.config.get(key)) else None for key in keys)
        spent = [(cell.last, figure_of(cell.last, "labels")) for cell in run.cells]
        if seconds is None:
            seconds = _per_label(spent, "cost.annotator_seconds")
        if label is None and hour is not None and seconds is not None:
            return cls(hour * seconds / 3600, hour, seconds)
        return cls(label if label is not None else _per_label(spent, "cost.labels"), None, seconds)

    def saving(self, saved: Efficiency | None) -> str:
        """Sentence on the value of the saved labels, from the fewest to the most; empty when it is zero."""
        price, (least, most) = self.label or 0.0, (None, None) if saved is None else saved.saved
        if not price or most is None or most <= 0:
            return ""
        high = dollars(most * price)
        if least is None or least <= 0:
            return f"At {self.words} it saves at most {high}, perhaps nothing."
        low = dollars(least * price).removesuffix(" dollars")
        return f"At {self.words} it saves {low} to {high}."

    @property
    def words(self) -> str:
        """The price in words, per label or per hour as it was given."""
        if self.hour is None or self.seconds is None:
            return f"{dollars(self.label or 0.0)} a label"
        return f"{span(self.seconds)} a label and {dollars(self.hour)} an hour"


def people_price(run: Run) -> float | None:
    """Dollars per answer of a person, computed as in `dal.evaluation.costs`; None when unknown."""
    label, hour, seconds = (
        float(v) if number(v := run.config.get(key)) else None
        for key in ("price_per_label", "price_per_hour", "seconds_per_label")
    )
    if seconds is None:
        seconds = _seconds(run)
    timed = hour * seconds / 3600 if hour is not None and seconds is not None else None
    known = [part for part in (label, timed) if part is not None]
    return sum(known) if known else None


def _seconds(run: Run) -> float | None:
    """Mean seconds per answer of a person over all cells; None when unknown."""
    total = answers = 0.0
    for cell in run.cells:
        for name, source in sources_of(cell).items():
            seconds, count = figure_of(source, "seconds"), figure_of(source, "answers")
            if name not in (LLM, WEAK) and seconds and count:
                total, answers = total + seconds, answers + count
    return total / answers if answers else None


def _per_label(spent: list[tuple[Mapping[str, Any], float | None]], key: str) -> float | None:
    """Mean over cells of a record's value per label; None where it is missing or zero."""
    parts = [(figure_of(record, key), labels) for record, labels in spent]
    known = [value / labels for value, labels in parts if value and labels]
    return sum(known) / len(known) if known else None


def dollars(amount: float) -> str:
    """An amount in words: three significant digits from a thousand on, cents below ten."""
    if abs(amount) >= 1000:
        step = 10 ** (len(str(int(abs(amount)))) - 3)
        return f"{round(amount / step) * step:,} dollars"
    whole = abs(amount) >= 10 or amount == int(amount)
    return f"{amount:.0f} dollars" if whole else f"{amount:.2f} dollars"


def span(seconds: float) -> str:
    """A time in hours, minutes or seconds."""
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
