"""Rounds as they are recorded, made up for tests."""

from collections.abc import Sequence
from typing import Any

from dal.stopping import History


def spent(**changes: float) -> History:
    line = {"answers": 0, "dollars": 0.0, "unpriced": 0, "hours": 0.0, "untimed": 0} | changes
    return History(({"round": 0, "labels": line["answers"], "spent": line},))


def scores(values: Sequence[float], metric: str = "accuracy", rows: int = 200, batch: int = 20) -> History:
    return History(
        tuple(
            {"round": i, "labels": batch * (i + 1), "validation": {metric: value, "rows": rows}}
            for i, value in enumerate(values)
        )
    )


def stop_set(predictions: Sequence[int], **changes: Any) -> dict[str, Any]:
    record = {"of": "a pool", "wanted": 2000, "multilabel": False, "classes": 2, "labeled": [], "uncertainty": 0.5}
    return {**record, "predictions": list(predictions), **changes}


def predicted(*rounds: dict[str, Any]) -> History:
    return History(tuple({"round": i, "labels": 20 * (i + 1), "stop_set": record} for i, record in enumerate(rounds)))
