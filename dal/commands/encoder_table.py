"""`dal encoders`: compare the encoder of a folder with others by its labels."""

from collections.abc import Sequence

from dal.commands.terminal import escape_controls, say
from dal.evaluation.encoder_scores import EncoderScore
from dal.experiments.console import Console, reading
from dal.experiments.interrupts import interruptible
from dal.experiments.stored_model import Place, read_model
from dal.learners.encoder_comparison import EncoderComparison, p_value


def print_comparison(place: Place, models: Sequence[str] | None) -> int:
    """Run `dal encoders` and return the exit code."""
    with interruptible(None) as check, Console(stderr=True) as reporter:
        reporter.stage(reading(place.experiment.data))
        with read_model(place, reporter.monitor(check)) as model:
            found = model.compare_encoders(models, reporter.stage)
            reporter.clear()
    for name, reason in found.left_out.items():
        say(f"{name} was left out: {reason}")
    if found.compared < found.labels and found.scores:
        say(f"{found.compared} of {found.labels} labeled rows were compared, drawn at random")
    for line in _table(found):
        print(escape_controls(line))
    print(escape_controls(found.advice))
    return 0


def _table(found: EncoderComparison) -> list[str]:
    """Lines of the table; none without scores."""
    if not found.scores:
        return []
    heads = ("encoder", "predicted", "95 % interval", "chance", "lead over own")
    rows = [heads, *(_row(score, found.own) for score in found.scores)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = (
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        for row in rows
    )
    return [*("  ".join(cells).rstrip() for cells in lines), ""]


def _row(score: EncoderScore, own: str | None) -> tuple[str, ...]:
    lead = "" if score.lead is None else f"{100 * score.lead:+.0f} points (p {p_value(score.p_lead)})"
    return (
        f"{score.name} (own)" if score.name == own else score.name,
        f"{100 * score.share:.0f} %",
        f"{100 * score.low:.0f} to {100 * score.high:.0f} %",
        f"{100 * score.chance:.0f} % (p {p_value(score.p_chance)})",
        lead,
    )
