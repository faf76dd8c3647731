"""`dal export FOLDER --model DIR`: write the model of the current labels to a folder of its own."""

import argparse

from dal.commands.paths import check_sources, sources_of
from dal.commands.terminal import say
from dal.experiments.console import Console, reading
from dal.experiments.interrupts import interruptible
from dal.experiments.saved_model import check_target
from dal.experiments.stored_model import find, read_model
from dal.store.atomic_files import named, typed


def export_model(options: argparse.Namespace) -> None:
    """Train on the current labels, unless the stored model is that of these, and save the model.

    Raises:
        ConfigError: the folder of the model holds something else, or the learner cannot be saved.
        SessionError: nothing is labeled yet.
    """
    check_target(options.model, force=options.force)
    place = find(options.folder, options.cell)
    check_sources(options.model, sources_of(place.experiment))
    with interruptible(None) as check, Console(stderr=True) as reporter:
        reporter.stage(reading(place.experiment.data))
        with read_model(place, reporter.monitor(check)) as model:
            reporter.stage("training and measuring the model")
            model.save(options.model, force=options.force)
            lines = model.trust.splitlines()
            reporter.clear()
    for line in lines:
        say(line)
    say(f"written: {named(options.model)}, the model; `dal predict {typed(options.model)} FILE` predicts with it")
