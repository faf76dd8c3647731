"""What modules, classes and options were called in earlier versions, and what they are called now.

Stored files of existing folders are read under both names without a warning. In a user's own config and code an old
name works until version 0.3, and warns once.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar, cast

from dal.errors import RenamedWarning, renaming_note

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

#: Module in version 0.1 -> module now.
MODULES: dict[str, str] = {
    "dal.labels": "dal.store.label_store",
    "dal.events": "dal.store.events",
    "dal.proposals": "dal.store.proposals",
    "dal.unread": "dal.store.unread_answers",
    "dal.checks": "dal.store.accuracy_samples",
    "dal.runfolder": "dal.store.run_folder",
    "dal.durable": "dal.store.atomic_files",
    "dal.evaluation.calibration": "dal.evaluation.calibration_measures",
    "dal.evaluation.projection": "dal.evaluation.map_projection",
    "dal.modules.base": "dal.modules.active_module",
    "dal.database": "dal.store.sqlite_files",
    "dal.spreadsheet": "dal.store.spreadsheet",
    "dal.learners.cache": "dal.store.cache_folder",
    "dal.plugins": "dal.config.plugins",
    "dal.source": "dal.config.source_code",
    "dal.config.classes": "dal.config.class_names",
    "dal.config.static": "dal.config.without_imports",
    "dal.config.tree": "dal.config.settings_tree",
    "dal.config.importing": "dal.config.allowed_code",
    "dal.data.classes": "dal.data.label_codes",
    "dal.data.values": "dal.data.label_values",
    "dal.data.parts": "dal.data.table_rows",
    "dal.data.read": "dal.data.load_table",
    "dal.data.source": "dal.data.file_source",
    "dal.data.split": "dal.data.seeded_samples",
    "dal.data.text": "dal.data.text_data",
    "dal.candidates": "dal.strategies.candidates",
    "dal.stopping.composition": "dal.stopping.rule",
    "dal.stopping.predictions": "dal.stopping.prediction_rules",
    "dal.stopping.scores": "dal.stopping.score_rules",
    "dal.stopping.budgets": "dal.stopping.budget_rules",
    "dal.stopping.record": "dal.stopping.recorded_figures",
    "dal.inference": "dal.learners.inference",
    "dal.learners.transformer": "dal.learners.transformer_learner",
    "dal.learners.module": "dal.learners.module_learner",
    "dal.learners.probe": "dal.learners.probe_learner",
    "dal.learners.tfidf": "dal.learners.tfidf_learner",
    "dal.learners.sklearn": "dal.learners.sklearn_committee",
    "dal.learners.committee": "dal.learners.committee_learner",
    "dal.learners.fitting": "dal.learners.training.fitting",
    "dal.learners.network": "dal.learners.training.network",
    "dal.learners.predictor": "dal.learners.training.network_predictor",
    "dal.learners.devices": "dal.learners.training.devices",
    "dal.learners.labels": "dal.learners.training.training_labels",
    "dal.learners.saved": "dal.learners.training.saved_files",
    "dal.learners.tensors": "dal.learners.training.tensor_rows",
    "dal.learners.embeddings": "dal.learners.text.embeddings",
    "dal.learners.tokens": "dal.learners.text.tokens",
    "dal.learners.texts": "dal.learners.text.tokenizers",
    "dal.learners.surprisal": "dal.learners.text.surprisal",
    "dal.learners.heads": "dal.learners.heads.head_posteriors",
    "dal.learners.last_layer": "dal.learners.heads.last_layer",
    "dal.learners.held_out": "dal.learners.heads.held_out",
    "dal.llm.client": "dal.llm.clients.client",
    "dal.llm.hosted": "dal.llm.clients.hosted",
    "dal.llm.anthropic_client": "dal.llm.clients.anthropic_client",
    "dal.llm.openai_client": "dal.llm.clients.openai_client",
    "dal.llm.wire": "dal.llm.clients.provider",
    "dal.llm.sending": "dal.llm.clients.sending",
    "dal.llm.batching": "dal.llm.clients.batching",
    "dal.llm.pacing": "dal.llm.clients.rate_limits",
    "dal.llm.failures": "dal.llm.clients.retries",
    "dal.llm.prices": "dal.llm.clients.prices",
    "dal.llm.extra_body": "dal.llm.clients.extra_body",
    "dal.llm.cache": "dal.llm.clients.replies_and_spending",
    "dal.llm.causal": "dal.llm.local_models.causal_model",
    "dal.llm.generation": "dal.llm.local_models.generation",
    "dal.llm.local": "dal.llm.local_models.local_client",
    "dal.llm.prompts": "dal.llm.prompting.prompts",
    "dal.llm.templating": "dal.llm.prompting.templating",
    "dal.llm.fence": "dal.llm.prompting.fence",
    "dal.llm.parsing": "dal.llm.prompting.reply_parsing",
    "dal.llm.nearest": "dal.llm.prompting.nearest_examples",
    "dal.llm.consistency": "dal.llm.confidence.answer_consistency",
    "dal.llm.likelihood": "dal.llm.confidence.likelihood",
    "dal.llm.verbalized": "dal.llm.confidence.verbalized",
    "dal.llm.recalibration": "dal.llm.confidence.recalibration",
    "dal.llm.trust": "dal.llm.confidence.trust",
    "dal.llm.learner": "dal.llm.llm_learner",
    "dal.llm.asking": "dal.llm.questioner",
    "dal.oracles.oracle": "dal.oracle",
    "dal.oracles.llm": "dal.oracles.llm_oracle",
    "dal.oracles.storing": "dal.oracles.answering",
    "dal.weak": "dal.oracles.weak_labels",
    "dal.progress": "dal.session.pool_state",
    "dal.present_model": "dal.session.current_model",
    "dal.chooser": "dal.session.acquisition",
    "dal.choice": "dal.session.acquisition",
    "dal.classes": "dal.session.answer_values",
    "dal.batch_plan": "dal.session.batch_plan",
    "dal.duplicates": "dal.session.near_duplicates",
    "dal.memory": "dal.session.distance_memory",
    "dal.session": "dal.session.session",
    "dal.evaluation.audit": "dal.evaluation.labeler_audit",
    "dal.evaluation.batch": "dal.evaluation.batch_quality",
    "dal.evaluation.checked": "dal.evaluation.checked_inputs",
    "dal.evaluation.autolabel": "dal.evaluation.automatic_labels",
    "dal.experiment": "dal.experiments.experiment",
    "dal.compare": "dal.experiments.comparison",
    "dal.round_lines": "dal.experiments.round_record",
    "dal.measuring": "dal.experiments.round_measures",
    "dal.spaces": "dal.experiments.embedding_space",
    "dal.loggers": "dal.experiments.loggers",
    "dal.reporter": "dal.experiments.console",
    "dal.interrupts": "dal.experiments.interrupts",
    "dal.grid": "dal.experiments",
    "dal.grid.executor": "dal.experiments.executor",
    "dal.grid.processes": "dal.experiments.processes",
    "dal.grid.cluster": "dal.experiments.ray_cluster",
    "dal.grid.first_round": "dal.experiments.first_round",
    "dal.grid.successor": "dal.experiments.successor",
    "dal.sheet": "dal.annotate.sheet",
    "dal.commands.checking": "dal.commands.accuracy_estimate",
    "dal.commands.labeling": "dal.commands.automatic_labeling",
    "dal.commands.auditing": "dal.commands.audit_report",
    "dal.commands.opening": "dal.experiments.stored_model",
    "dal.commands.places": "dal.commands.paths",
    "dal.commands.settings": "dal.commands.experiment_settings",
    "dal.commands.troubles": "dal.commands.error_lines",
    "dal.report.reading": "dal.report.run_reading",
    "dal.report.parts": "dal.report.page_parts",
    "dal.testing.report": "dal.testing.conformance_report",
    "dal.report.sections.curves": "dal.report.sections.learning_curves",
    "dal.report.plots.curves": "dal.report.plots.curve_plot",
    "dal.report.sections.calibration": "dal.report.sections.calibration_diagrams",
    "dal.report.drawing": "dal.report.shapes",
    "dal.report.plots.ahead": "dal.report.plots.forecast_plot",
    "dal.report.plots.marks": "dal.report.plots.dot_plot",
    "dal.report.sections.answered": "dal.report.sections.answer_sources",
    "dal.report.sections.batches": "dal.report.sections.batch_measures",
    "dal.report.sections.chosen": "dal.report.sections.selections",
    "dal.report.sections.made": "dal.report.sections.provenance",
    "dal.report.sections.needed": "dal.report.sections.label_savings",
    "dal.report.sections.successor": "dal.report.sections.successor_table",
}

#: Import path in version 0.1 -> import path now, of classes and functions with another name, or whose module was split.
CLASSES: dict[str, str] = {
    "dal.checks.Check": "dal.store.accuracy_samples.AccuracySample",
    "dal.choice.Asked": "dal.session.queried_batch.QueriedBatch",
    "dal.choice.Seeds": "dal.session.seeds.Seeds",
    "dal.choice.Stream": "dal.session.seeds.Stream",
    "dal.choice.check_needs": "dal.session.checked_arguments.check_needs",
    "dal.choice.is_whole": "dal.session.checked_arguments.is_whole",
    "dal.choice.reads_trained": "dal.session.checked_arguments.reads_trained",
    "dal.choice.require_kind": "dal.session.checked_arguments.require_kind",
    "dal.chooser.Chooser": "dal.session.acquisition.Acquisition",
    "dal.classes.Classes": "dal.session.answer_values.AnswerDecoder",
    "dal.commands.labeling.Held": "dal.experiments.held_out_labels.HeldOut",
    "dal.commands.opening.Model": "dal.experiments.stored_model.StoredModel",
    "dal.commands.opening.load": "dal.experiments.stored_model.open_model",
    "dal.commands.settings.require_folder": "dal.experiments.stored_experiments.require_folder",
    "dal.commands.settings.stored_config": "dal.experiments.stored_experiments.stored_config",
    "dal.data.columns.Column": "dal.data.columns.TextColumn",
    "dal.data.columns.Pairs": "dal.data.columns.TextPairs",
    "dal.data.source.Source": "dal.data.file_source.FileSource",
    "dal.data.source.Wanted": "dal.data.file_source.ColumnRequest",
    "dal.evaluation.curves.Comparison": "dal.evaluation.curves.CurveComparison",
    "dal.evaluation.curves.Pairs": "dal.evaluation.curves.PairedCurves",
    "dal.evaluation.Drawn": "dal.evaluation.unbiased.WeightedSample",
    "dal.evaluation.doubts": "dal.evaluation.noise.label_issues",
    "dal.evaluation.extrapolation.Distance": "dal.evaluation.extrapolation.LabelForecast",
    "dal.evaluation.extrapolation.Outlook": "dal.evaluation.extrapolation.ScoreForecast",
    "dal.evaluation.noise.Doubts": "dal.evaluation.noise.LabelIssues",
    "dal.evaluation.noise.doubts": "dal.evaluation.noise.label_issues",
    "dal.evaluation.unbiased.Drawn": "dal.evaluation.unbiased.WeightedSample",
    "dal.events.State": "dal.store.log_state.StoreState",
    "dal.events.Work": "dal.store.log_state.AnnotationTotals",
    "dal.events.standing": "dal.store.log_state.current_answers",
    "dal.experiment.Cell": "dal.experiments.results.Cell",
    "dal.experiment.FREE": "dal.experiments.folder_config.FREE",
    "dal.experiment.MEASURED": "dal.experiments.folder_config.MEASURED",
    "dal.experiment.Results": "dal.experiments.results.Results",
    "dal.experiment.sign": "dal.experiments.folder_config.check_config",
    "dal.functional.herding.Herd": "dal.functional.herding.HerdingState",
    "dal.functional.joint.Batch": "dal.functional.joint.JointBatch",
    "dal.functional.window.Pace": "dal.functional.window.WindowSchedule",
    "dal.grid.executor.Beside": "dal.experiments.executor.SubprocessExecutor",
    "dal.grid.executor.Ended": "dal.experiments.executor.CellResult",
    "dal.grid.executor.Here": "dal.experiments.executor.InProcessExecutor",
    "dal.interrupts.Check": "dal.experiments.interrupts.InterruptCheck",
    "dal.functional.lightweight_law": "dal.functional.lightweight_coreset_distribution",
    "dal.learner.UNREAD": "dal.learner.UNPARSED_SHARE",
    "dal.learner.watched": "dal.learner.recorded_outputs",
    "dal.learners.fitting.Batches": "dal.learners.training.length_batches.BatchSampler",
    "dal.learners.fitting.Course": "dal.learners.training.fitting.TrainingSchedule",
    "dal.learners.probe.ProbePredictor": "dal.learners.probe_predictor.ProbePredictor",
    "dal.learners.probe.embedded": "dal.learners.probe_predictor.embedded",
    "dal.llm.cache.Batch": "dal.llm.clients.replies_and_spending.RemoteBatch",
    "dal.llm.cache.Elsewhere": "dal.llm.clients.replies_and_spending.RequestedElsewhere",
    "dal.llm.cache.Granted": "dal.llm.clients.replies_and_spending.Reservation",
    "dal.llm.cache.Short": "dal.llm.clients.replies_and_spending.BudgetExceeded",
    "dal.llm.causal.Read": "dal.llm.local_models.causal_model.PromptState",
    "dal.llm.client.Price": "dal.llm.clients.client.PriceBound",
    "dal.llm.failures.Failure": "dal.llm.clients.retries.RequestFailure",
    "dal.llm.failures.Kind": "dal.llm.clients.retries.FailureKind",
    "dal.llm.generation.Answer": "dal.llm.local_models.generation.GeneratedAnswer",
    "dal.llm.nearest.Shots": "dal.llm.prompting.nearest_examples.ExamplePool",
    "dal.llm.recalibration.Doubt": "dal.llm.confidence.recalibration.ModelUncertainty",
    "dal.llm.trust.auroc": "dal.evaluation.metrics.confidence_auroc",
    "dal.llm.trust.calibration_error": "dal.evaluation.calibration_measures.confidence_calibration_error",
    "dal.llm.trust.reliability": "dal.evaluation.calibration_measures.confidence_reliability",
    "dal.llm.wire.Answer": "dal.llm.clients.provider.ProviderAnswer",
    "dal.llm.wire.Wire": "dal.llm.clients.provider.Provider",
    "dal.loggers.Following": "dal.experiments.loggers.RoundLogger",
    "dal.memory.Kept": "dal.session.distance_memory.CachedBounds",
    "dal.memory.Memory": "dal.strategy.Memory",
    "dal.oracles.labeler.Opinions": "dal.oracles.labeler.LabelerAnswers",
    "dal.oracles.oracle.Record": "dal.oracle.StoredAnswers",
    "dal.oracles.oracle.Said": "dal.oracle.Annotation",
    "dal.outputs.FOLDS": "dal.outputs.REDUCTIONS",
    "dal.outputs.fold": "dal.outputs.reduce_samples",
    "dal.oracles.storing.let_answer": "dal.oracles.answering.answer_pending",
    "dal.present_model.PresentModel": "dal.session.current_model.CurrentModel",
    "dal.progress.Progress": "dal.session.pool_state.PoolState",
    "dal.proposals.apart": "dal.store.proposals.unbilled",
    "dal.report.drawing.LOOKS": "dal.report.shapes.STYLES",
    "dal.report.drawing.Look": "dal.report.shapes.Style",
    "dal.report.drawing.Words": "dal.report.shapes.Text",
    "dal.report.parts.Column": "dal.report.page_parts.TableColumn",
    "dal.report.parts.Fold": "dal.report.page_parts.Details",
    "dal.report.parts.Said": "dal.report.page_parts.Statement",
    "dal.report.parts.Side": "dal.report.page_parts.PlotRow",
    "dal.report.plots.ahead.Ahead": "dal.report.plots.forecast_plot.Forecast",
    "dal.report.plots.ahead.ahead": "dal.report.plots.forecast_plot.forecast_plot",
    "dal.report.plots.marks.marks": "dal.report.plots.dot_plot.dot_plot",
    "dal.report.plots.marks.matrix": "dal.report.plots.dot_plot.overlap_matrix",
    "dal.report.price.Price": "dal.report.price.LabelPrice",
    "dal.report.reading.Cell": "dal.report.run_reading.CellRecord",
    "dal.report.verdict.Verdict": "dal.report.verdict.Conclusion",
    "dal.reporter.duration": "dal.experiments.heartbeat.duration",
    "dal.runfolder.CONFIG": "dal.config.stored.CONFIG",
    "dal.runfolder.Lock": "dal.store.folder_lock.Lock",
    "dal.runfolder.describe": "dal.config.stored.describe",
    "dal.runfolder.environment": "dal.experiments.environment.environment",
    "dal.runfolder.held": "dal.store.folder_lock.held",
    "dal.runfolder.read_config": "dal.config.stored.read_config",
    "dal.runfolder.record_environment": "dal.experiments.environment.record_environment",
    "dal.runfolder.write_config": "dal.config.stored.write_config",
    "dal.sheet.Labels": "dal.data.label_cells.SheetLabels",
    "dal.sheet.parse": "dal.data.label_cells.parse",
    "dal.source.Source": "dal.config.source_code.ModuleSource",
    "dal.stopping.All": "dal.stopping.rule.AllOf",
    "dal.stopping.Any": "dal.stopping.rule.AnyOf",
    "dal.stopping.composition.All": "dal.stopping.rule.AllOf",
    "dal.stopping.composition.Any": "dal.stopping.rule.AnyOf",
    "dal.stopping.composition.Composed": "dal.stopping.rule.ComposedRule",
    "dal.strategies.composition.Composed": "dal.strategies.composition.ComposedStrategy",
    "dal.testing.report.Failure": "dal.testing.conformance_report.CheckFailure",
    "dal.testing.report.Skipped": "dal.testing.conformance_report.CheckSkipped",
}

#: What a short name stands for, such as "stopping rule" -> short name in version 0.1 -> short name now.
NAMES: dict[str, dict[str, str]] = {"stopping rule": {"All": "AllOf", "Any": "AnyOf"}}

#: Present import path of a class or function -> option or keyword in version 0.1 -> its name now.
OPTIONS: dict[str, dict[str, str]] = {
    "dal.evaluation.breakdown.per_group": {"most": "max_groups"},
    "dal.evaluation.dawid_skene.dawid_skene": {"most": "max_rounds"},
    "dal.evaluation.labeler_audit.Share": {"found": "successes", "of": "trials"},
    "dal.evaluation.unbiased.Estimate": {"of": "population"},
    "dal.evaluation.unbiased.accuracy": {"of": "population"},
    "dal.evaluation.unbiased.estimate": {"of": "population"},
    "dal.evaluation.unbiased.lure_weights": {"of": "population"},
    "dal.learners.module_learner.ModuleLearner": {"clip": "gradient_clip_val", "stop_below": "target_train_loss"},
    "dal.learners.transformer_learner.TransformerLearner": {
        "clip": "gradient_clip_val",
        "stop_below": "target_train_loss",
    },
    "dal.oracle.Annotation": {"beside": "proposals"},
    "dal.session.queried_batch.QueriedBatch": {"why": "reason"},
    "dal.oracles.router.Router": {"machines": "models"},
    "dal.stopping.budget_rules.Dollars": {"most": "max_dollars"},
    "dal.stopping.budget_rules.Hours": {"most": "max_hours"},
    "dal.stopping.budget_rules.Labels": {"most": "max_labels"},
    "dal.stopping.prediction_rules.ClassificationChange": {"most": "max_change"},
    "dal.stopping.score_rules.Plateau": {"least_gain": "min_gain", "least_rounds": "min_rounds"},
    "dal.strategies.candidates.CandidateQuery": {"unasked": "unlabeled"},
    "dal.strategy.Selection": {"why": "reason"},
}

#: Present import path of a class -> attribute or method in version 0.1 -> its name now. Options are attributes anyway.
ATTRIBUTES: dict[str, dict[str, str]] = {
    "dal.learner.Learner": {"unknown": "has_unknown_class"},
    "dal.learner.Predictor": {"unreadable": "unparsed_responses"},
    "dal.modules.active_module.ActiveModule": {"follow": "features_from_trunk"},
    "dal.session.session.Session": {"leave": "export_model", "adopt": "import_model"},
    "dal.evaluation.dawid_skene.Consensus": {"judged": "predict"},
    "dal.oracle.Oracle": {"said": "annotate"},
    "dal.experiments.comparison.Comparison": {"described": "stored_config"},
    "dal.experiments.experiment.Experiment": {
        "described": "stored_config",
        "is_over": "is_finished",
        "start_of": "initial_strategy",
    },
    "dal.evaluation.curves.Curve": {"upto": "truncated"},
    "dal.stopping.backtest.Backtest": {"lost": "loss", "saved": "labels_saved"},
}


def current_name(kind: str | None, name: str) -> str:
    """The present short name or import path of what version 0.1 called `name`; any other name as it is."""
    short = NAMES.get(kind or "", {}).get(name)
    if short is not None:
        return short
    path = name.replace(":", ".")
    module, _, attribute = path.rpartition(".")
    if path in CLASSES:
        return CLASSES[path]
    return f"{MODULES[module]}.{attribute}" if module in MODULES else name


def first_name(path: str) -> str:
    """What version 0.1 called the thing at a present import path: the inverse of `current_name`."""
    for before, now in CLASSES.items():
        if now == path:
            return before
    module, _, attribute = path.rpartition(".")
    return next((f"{before}.{attribute}" for before, now in MODULES.items() if now == module), path)


def renamed_options(cls: Any) -> Mapping[str, str]:
    """Old name -> present name of the options of a class or function."""
    return OPTIONS.get(f"{getattr(cls, '__module__', '')}.{getattr(cls, '__qualname__', '')}", {})


def current(config: Any, kind: str | None = None) -> Any:
    """Plain values of a stored config under the present names, as far as the table knows them."""
    if isinstance(config, list):
        return [current(item) for item in config]
    if not isinstance(config, dict):
        return config
    found = {key: current(item) for key, item in config.items()}
    if isinstance(found.get("class_path"), str):
        path = found["class_path"] = current_name(kind, found["class_path"])
        if isinstance(found.get("init_args"), dict):
            options = OPTIONS.get(path.replace(":", "."), {})
            found["init_args"] = {options.get(key, key): item for key, item in found["init_args"].items()}
    return found


def first(config: Any) -> Any:
    """Plain values as version 0.1 wrote them: the inverse of `current`, for digests that it left in folders.

    Class names must be import paths.
    """
    if isinstance(config, list):
        return [first(item) for item in config]
    if not isinstance(config, dict):
        return config
    found = {key: first(item) for key, item in config.items()}
    if isinstance(found.get("class_path"), str):
        path = found["class_path"]
        old = {now: before for before, now in OPTIONS.get(path, {}).items()}
        found["class_path"] = first_name(path)
        if isinstance(found.get("init_args"), dict):
            found["init_args"] = {old.get(key, key): item for key, item in found["init_args"].items()}
    return found


def accepts_old_options(cls: type[T]) -> type[T]:
    """A class decorator: options and attributes of `OPTIONS` work under their old names, with a `RenamedWarning`."""
    cls.__init__ = accepts_old_keywords(cls.__init__, cls)  # type: ignore[method-assign]
    for old, now in renamed_options(cls).items():
        _add_old_attribute(cls, old, now, _warn_of_option)
    return cls


def accepts_old_attributes(cls: type[T]) -> type[T]:
    """A class decorator: attributes and methods of `ATTRIBUTES` work under their old names, with a `RenamedWarning`."""
    for old, now in ATTRIBUTES.get(f"{cls.__module__}.{cls.__qualname__}", {}).items():
        _add_old_attribute(cls, old, now, _warn_of_attribute)
    return cls


def accepts_old_keywords(function: F, owner: Any = None) -> F:
    """A function decorator: keywords of `OPTIONS` work under their old names, with a `RenamedWarning`.

    Args:
        function: what is called.
        owner: class or function with the entry in `OPTIONS`; None for `function` itself.
    """
    owner = function if owner is None else owner
    renamed = renamed_options(owner)

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        for old in [name for name in options if name in renamed]:
            _warn_of_option(owner, old, renamed[old])
            if renamed[old] in options:
                raise TypeError(f"{owner.__name__}: {old} was renamed to {renamed[old]}, which is given as well")
            options[renamed[old]] = options.pop(old)
        return function(*args, **options)

    return cast(F, call)


def _add_old_attribute(cls: type, old: str, now: str, warn: Callable[[Any, str, str], None]) -> None:
    """Add a property `old` to a class that warns and reads or sets `now`."""

    def read(self: Any) -> Any:
        warn(cls, old, now)
        return getattr(self, now)

    def write(self: Any, value: Any) -> None:
        warn(cls, old, now)
        setattr(self, now, value)

    setattr(cls, old, property(read, write, doc=f"Renamed to `{now}`."))


def accept_old_attribute(cls: type, old: str, now: str) -> None:
    """Set the class attribute `now` of a plugin's class that declares it under its old name, and warn."""
    if old in vars(cls) and now not in vars(cls):
        setattr(cls, now, vars(cls)[old])
        _warn_of_attribute(cls, old, now, stacklevel=4)


def accept_old_flags(cls: Any, flags: Mapping[str, str]) -> None:
    """Set `needs` of a plugin's class that declares it by flags, whose names are the keys, and warn."""
    declared = [old for old in flags if old in vars(cls)]
    if not declared or "needs" in vars(cls):
        return
    before = cls.needs if isinstance(cls.needs, frozenset) else frozenset()
    if any(isinstance(vars(cls)[old], property) for old in declared):
        cls.needs = property(lambda self: frozenset(need for old, need in flags.items() if getattr(self, old, False)))
    else:
        wanted = {flags[old] for old in declared if vars(cls)[old]}
        cls.needs = frozenset(before - {flags[old] for old in declared} | wanted)
    _warn_of_attribute(cls, " and ".join(declared), "needs", stacklevel=4)


def _warn_of_attribute(cls: type, old: str, now: str, stacklevel: int = 3) -> None:
    warnings.warn(renaming_note(f"{cls.__name__}.{old}", now), RenamedWarning, stacklevel)


def _warn_of_option(cls: type, old: str, now: str) -> None:
    warnings.warn(renaming_note(f"the option {old} of {cls.__name__}", now), RenamedWarning, stacklevel=3)


# -- imports ---------------------------------------------------------------------------------------------------------


def renamed_attributes(module: str) -> Callable[[str], Any]:
    """A `__getattr__` for a module that still exists, with the old names of what it holds or held."""

    def attribute(name: str) -> Any:
        path = f"{module}.{name}"
        if path not in CLASSES and (module not in MODULES or name.startswith("_")):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return _renamed(path)

    return attribute


def _renamed(path: str, stacklevel: int = 3) -> Any:
    """The thing that version 0.1 called `path`."""
    now = current_name(None, path)
    module, _, attribute = now.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    warnings.warn(renaming_note(path, now), RenamedWarning, stacklevel)
    return found


class _OldModule(ModuleType):
    """A module of version 0.1, whose names are looked up where they are now."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return _renamed(f"{self.__name__}.{name}")


class OldModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of `MODULES`, where no file has the name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The specification of an old module; None for any other."""
        if fullname not in MODULES:
            return None
        is_package = any(name.startswith(f"{fullname}.") for name in MODULES)
        return importlib.machinery.ModuleSpec(fullname, self, is_package=is_package)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """A module that looks its names up when they are read."""
        return _OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is to be run."""
