"""The figures of a reply's header in words, as on the page (`page/status_line.js`)."""

from typing import Any

from dal.annotate.service_contract import Reply
from dal.errors import counted, shortened


def status_words(header: Reply, *, project: str = "") -> list[str]:
    """Parts of the status line, those that there are.

    Name, answers, pace, money, age of the ranking, trainer, recall of the candidates, verdict of the stopping rule.

    Example:
        >>> header = {"answered": 3, "rows": 60, "per_hour": None, "dollars": None, "ranking": None, "stop": None}
        >>> status_words(header | {"trainer": {"state": "starting"}})
        ['3 of 60 answered', 'random order: no model yet', 'the model is loading']
    """
    words = [project] if project else []
    words.append(f"{header['answered']:,} of {header['rows']:,} answered")
    if header["per_hour"]:
        words.append(f"{round(header['per_hour']):,} an hour")
    if header["dollars"]:
        words.append(f"${header['dollars']:,.2f}")
    if header.get("check") is not None:
        return [*words, f"check {header['check']['number']}, without hints"]
    words += [_ranking_words(header["ranking"]), _trainer_words(header["trainer"])]
    words.append((header["ranking"] or {}).get("recall") or "")
    stop = header["stop"]
    if stop is not None and stop.get("stop"):
        words.append(f"Enough labels? {stop['text']}")
    return [word for word in words if word]


def empty_words(header: Reply) -> str:
    """Why no text is shown."""
    check, stop = header.get("check"), header["stop"]
    if check is not None and stop is not None:
        return f"Check {check['number']}: {stop['text']}."
    if header.get("waiting"):
        return "The next texts are being selected."
    if not header["rows"]:
        return "The project has no texts yet."
    declined = f" {counted(header['declined'], 'text was', 'texts were')} declined." if header["declined"] else ""
    others = counted(header["pending"], "text waits", "texts wait")
    return f"No text is left to answer.{f' {others} for other people.' if header['pending'] else ''}{declined}"


def _ranking_words(ranking: Reply | None) -> str:
    if ranking is None:
        return "random order: no model yet"
    since = ranking["answers_since"]
    age = f"from {counted(since, 'answer')} ago" if since else "up to date"
    return f"{ranking['strategy']}, {age}"


def _trainer_words(trainer: dict[str, Any]) -> str:
    state, stage = trainer.get("state"), trainer.get("stage")
    if state == "failed":
        reason = shortened(str(trainer.get("error") or "no reason given"), 300)
        return f"training failed: {reason}; the last ranking goes on"
    if state == "starting":
        return "the model is loading"
    if state == "stopped":
        return "no training"
    if state != "working":
        return ""
    place = f" {trainer.get('done') or 0:,} of {trainer['total']:,}" if trainer.get("total") else ""
    return f"training{f': {stage}' if stage else ''}{place}"
