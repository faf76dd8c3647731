"""`dal annotate --check N`: draw texts to check the model by, ask them, and print the accuracy."""

from pathlib import Path

from dal.annotate.accuracy_check import AccuracyCheck, open_check
from dal.annotate.project_settings import ProjectSettings
from dal.commands.check_process import draw_in_process, report_in_process
from dal.commands.terminal import say
from dal.errors import counted
from dal.store.accuracy_samples import AccuracySample, read_checks
from dal.store.folder_lock import held
from dal.store.label_reader import LabelReader
from dal.store.run_folder import LABELS


def open_or_draw(folder: Path, n: int, *, random: bool) -> AccuracyCheck:
    """Go on with the last check of the folder if it has this size and lacks answers; otherwise draw a new one.

    Args:
        folder: folder of the project.
        n: number of texts.
        random: whether each text is drawn with the same probability.
    """
    ProjectSettings.of(folder)  # an error of the folder comes before seconds of loading
    with held(folder):  # so does one about a process that has it open
        sample = _unfinished(folder, n, random)
    if sample is None:
        sample = draw_in_process(folder, n, random=random)
        say(
            f"{len(sample.ids):,} of {sample.population:,} texts without a label were drawn to check the model of "
            f"{sample.labels:,} labels"
        )
    else:
        say(f"going on with check {sample.number}: {len(sample.answers):,} of {len(sample.ids):,} texts are answered")
    check = open_check(folder, sample, report=lambda each: report_in_process(folder, each.number))
    if check.classes_changed:
        say("classes were changed since the check began: it shows those of that time")
    return check


def _unfinished(folder: Path, n: int, random: bool) -> AccuracySample | None:
    """The last sample of this size and kind, if it lacks answers and has some, or is about the present labels."""
    samples = read_checks(folder)
    if not samples:
        return None
    last = samples[-1]
    size = len(last.ids)
    if last.answered == size or (last.uniform == 1) != random or (size != n and not size == last.population < n):
        return None
    if last.answers:
        return last
    with LabelReader(folder / LABELS, access="read") as log:
        return last if log.labels_event == last.event else None


def print_result(check: AccuracyCheck, *, keep: bool) -> bool:
    """Print the accuracy if all texts are answered, and make labels of the answers if `keep`; return whether they are.

    Without all answers it says how many there are.
    """
    sample, found = check.sample, check.result()
    if found is None:
        answered = f"{len(sample.answers):,} of {len(sample.ids):,} texts"
        say(f"{answered} of the check are answered: the accuracy needs all of them")
        return False
    results, notes = found
    print(*results, sep="\n")
    for note in notes:
        say(note)
    if check.labels_changed:
        say("labels were added or changed since the sample was drawn: this is the accuracy of the model at that time")
    if keep:
        stored, left_out = check.keep()
        say(f"{stored:,} answers are now labels: the next model is trained on them, so they cannot evaluate it")
        if left_out:
            say(f"{counted(left_out, 'answer')} of retired classes or texts became no labels")
    return True
