"""What a label costs, and what labels that were saved are worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dal.evaluation import Efficiency
from dal.evaluation.cost import MACHINE, WEAK
from dal.report.measures import figure_of, number
from dal.report.run_reading import Run, sources_of


@dataclass(frozen=True)
class LabelPrice:
    """The price of labels, as far as it is known.

    Attributes:
        label: dollars for one; None when unknown.
        hour: dollars for an hour of the person who answers; None when the price is by the label.
        seconds: of that person for one label.
    """

    label: float | None = None
    hour: float | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, run: Run) -> "LabelPrice":
        """That of the config (`price_per_label`, or `price_per_hour` with `seconds_per_label`), else of the records."""
        keys = ("price_per_label", "price_per_hour", "seconds_per_label")
        label, hour, seconds = (float(v) if number(v := run.config.get(key)) else None for key in keys)
        spent = [(cell.last, figure_of(cell.last, "labels")) for cell in run.cells]
        if seconds is None:
            seconds = _per_label(spent, "cost.annotator_seconds")
        if label is None and hour is not None and seconds is not None:
            return cls(hour * seconds / 3600, hour, seconds)
        return cls(label if label is not None else _per_label(spent, "cost.labels"), None, seconds)

    def saving(self, saved: Efficiency | None) -> str:
        """What the labels that were saved would have cost, from the fewest to the most; empty when it is nothing."""
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
        """The price as it was given."""
        if self.hour is None or self.seconds is None:
            return f"{dollars(self.label or 0.0)} a label"
        return f"{span(self.seconds)} a label and {dollars(self.hour)} an hour"


def people_price(run: Run) -> float | None:
    """Dollars for one answer of a person, as `dal.evaluation.costs` reckons; None when unknown."""
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
    """What an answer of a person took, on the whole, as far as it is known."""
    taken = answers = 0.0
    for cell in run.cells:
        for name, said in sources_of(cell).items():
            seconds, count = figure_of(said, "seconds"), figure_of(said, "answers")
            if name not in (MACHINE, WEAK) and seconds and count:
                taken, answers = taken + seconds, answers + count
    return taken / answers if answers else None


def _per_label(spent: list[tuple[Mapping[str, Any], float | None]], key: str) -> float | None:
    """The mean over cells of what is under a key, by label; None where nothing or zero is."""
    parts = [(figure_of(record, key), labels) for record, labels in spent]
    known = [value / labels for value, labels in parts if value and labels]
    return sum(known) / len(known) if known else None


def dollars(amount: float) -> str:
    """An amount as a person would say it: three digits that count from a thousand on, cents below ten."""
    if abs(amount) >= 1000:
        step = 10 ** (len(str(int(abs(amount)))) - 3)
        return f"{round(amount / step) * step:,} dollars"
    whole = abs(amount) >= 10 or amount == int(amount)
    return f"{amount:.0f} dollars" if whole else f"{amount:.2f} dollars"


def span(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"
