"""Recall at a precision and average precision, with every threshold tried in turn."""


def recall_at_precision(scores: list[float], positive: list[bool], precision: float) -> float | None:
    """The best recall over all thresholds `score >= t` whose precision is at least `precision`."""
    best = None if not any(positive) else 0.0
    for threshold in set(scores):
        claimed = [has for score, has in zip(scores, positive, strict=True) if score >= threshold]
        if best is not None and sum(claimed) / len(claimed) >= precision:
            best = max(best, sum(claimed) / sum(positive))
    return best


def average_precision(scores: list[float], positive: list[bool]) -> float:
    """The sum over the distinct thresholds of the precision there, times the recall that is gained."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        claimed = [has for score, has in zip(scores, positive, strict=True) if score >= threshold]
        recall = sum(claimed) / sum(positive)
        total += (recall - before) * sum(claimed) / len(claimed)
        before = recall
    return total
