"""Metrics of past rounds, as strategies see them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

#: Metrics of one round, by name.
Metrics = Mapping[str, float]

_SCORE = "accuracy"  # present in every set of scores


class RoundMetrics(Sequence[Metrics]):
    """Numbers of the recorded rounds, oldest first, and the scores of the current model if none are recorded for it.

    The model is fitted and scored when the metrics are first read, so a strategy that ignores them causes no work.

    Args:
        lines: lines of `metrics.jsonl`. Their numbers are used; everything else is left out.
        score: function that scores the current model, or returns None if that is impossible. Called only if the last
            line has no scores.
    """

    def __init__(self, lines: Sequence[Mapping[str, Any]], score: Callable[[], Metrics | None]) -> None:
        self._recorded = tuple(
            {name: value for name, value in line.items() if isinstance(value, int | float)} for line in lines
        )
        self._score = score
        self._all: tuple[Metrics, ...] | None = None

    def _read(self) -> tuple[Metrics, ...]:
        if self._all is None:
            scored = bool(self._recorded) and _SCORE in self._recorded[-1]
            current = None if scored else self._score()
            self._all = self._recorded if current is None else (*self._recorded, current)
        return self._all

    def __len__(self) -> int:
        return len(self._read())

    @overload
    def __getitem__(self, index: int) -> Metrics: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Metrics, ...]: ...

    def __getitem__(self, index: int | slice) -> Metrics | tuple[Metrics, ...]:
        return self._read()[index]

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, tuple | RoundMetrics) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RoundMetrics({len(self._recorded)} recorded rounds)"  # without scoring a model

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (list(self),)
