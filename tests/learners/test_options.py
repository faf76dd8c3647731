"""An option without a meaning is refused when the learner is made, in one line that names it."""

import math
import os
from pathlib import Path

import pytest

from dal.errors import ConfigError, LearnerError
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.module_learner import ModuleLearner
from dal.learners.probe_learner import ProbeLearner
from dal.learners.sklearn_committee import SklearnCommittee
from dal.learners.tfidf_learner import TfidfLearner
from dal.learners.training.devices import device_of
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.adapting import LoRA
from dal.modules.linear import LinearClassifier
from dal.modules.loading import locate

NO_NUMBER = [math.nan, True, "3", [1]]
COUNT = [0, -1, 2.5, 2.0, *NO_NUMBER]
POSITIVE = [0, -1.0, math.inf, *NO_NUMBER]
NO_NAME = ["", "  ", "a\0b", "a\nb", 3]
NO_DEVICE = ["", "gpu", "cuda:x", "meta", 3, None]
REFUSED = {
    TransformerLearner: {
        "model": [*NO_NAME, None],
        "max_length": COUNT,
        "epochs": COUNT,
        "min_steps": [-1, 2.0, *NO_NUMBER],
        "max_steps": COUNT,
        "batch_size": COUNT,
        "learning_rate": POSITIVE,
        "head_learning_rate": POSITIVE,
        "weight_decay": [-0.1, math.inf, *NO_NUMBER],
        "warmup_ratio": [-0.1, 1.1, *NO_NUMBER],
        "gradient_clip_val": POSITIVE,
        "target_train_loss": [-1.0, *NO_NUMBER],
        "patience": COUNT,
        "class_weights": ["even", True, 1],
        "warm_start": [1, "yes", None],
        "freeze": [-1, 1.0, *NO_NUMBER],
        "lora": [True, {"rank": 3}],
        "dropout": [-0.1, 1.1, *NO_NUMBER],
        "pooling": ["", "mean", True],
        "head": ["", "adjusted", True],
        "freeze_embeddings": [1, None],
        "objective": ["f1", 0.5],
        "samples": [1, *COUNT],
        "mc_mode": ["", "Head", None, 1],
        "prior_precision": POSITIVE,
        "attention_dropout": [0, None],
        "precision": ["bf16", None, 32],
        "token_budget": COUNT,
        "trainer": [3, "trainer"],
        "device": NO_DEVICE,
        "trunk": ["frozen", True, 2],
        "layers": [2, *COUNT],
        "adapt": [True, 500, {"steps": 3}],
        "shards": [17, *COUNT],
        "cached_as": ["float32", "half", True],
    },
    ProbeLearner: {
        "model": NO_NAME,
        "max_length": COUNT,
        "l2": POSITIVE,
        "head": ["plain", True],
        "description_strength": [-1.0, *NO_NUMBER],
        "self_training": ["yes", True, 1],
        "objective": ["f1", 1],
        "class_weights": ["even", True],
        "samples": [1, *COUNT],
        "posterior": ["normal", None],
        "precision": ["half", None],
        "token_budget": COUNT,
        "device": NO_DEVICE,
        "cached_as": ["float32", "half", True],
    },
    SklearnCommittee: {
        "model": NO_NAME,
        "max_length": COUNT,
        "estimators": ["logistic", (1, 2), ()],
        "repeats": COUNT,
        "bootstrap": [None, 1],
        "class_weights": ["even"],
        "precision": ["half"],
        "token_budget": COUNT,
        "device": NO_DEVICE,
        "cached_as": ["float32", "half", True],
    },
    ModuleLearner: {
        "build": [3, "Net", None],
        "epochs": COUNT,
        "min_steps": [-1, 2.0, *NO_NUMBER],
        "max_steps": COUNT,
        "batch_size": COUNT,
        "gradient_clip_val": POSITIVE,
        "target_train_loss": [-1.0, *NO_NUMBER],
        "patience": COUNT,
        "class_weights": ["even", True, 1],
        "warm_start": [1, "yes", None],
        "samples": [1, *COUNT],
        "mc_mode": ["", "Head", 1],
        "prior_precision": POSITIVE,
        "precision": ["bf16", None, 32],
        "pass_batch": COUNT,
        "trainer": [3, "trainer"],
        "device": NO_DEVICE,
        "shards": [33, *COUNT],
    },
    TfidfLearner: {"C": POSITIVE, "ngrams": COUNT, "class_weights": ["even"]},
    LoRA: {
        "rank": COUNT,
        "alpha": POSITIVE,
        "dropout": [-0.1, 1.0, *NO_NUMBER],
        "layers": ["query", [], [3]],
    },
}
GIVEN = {ModuleLearner: {"build": lambda classes, multilabel: LinearClassifier(4, classes, multilabel=multilabel)}}
CASES = [
    (kind, name, value) for kind, options in REFUSED.items() for name, values in options.items() for value in values
]


@pytest.mark.parametrize("kind", REFUSED)
def test_every_option_has_values_that_are_refused(kind):
    assert set(REFUSED[kind]) == set(kind.__dataclass_fields__)


@pytest.mark.parametrize(("kind", "name", "value"), CASES)
def test_an_option_without_a_meaning_is_refused_by_its_name(kind, name, value):
    with pytest.raises(ConfigError) as caught:
        kind(**GIVEN.get(kind, {}) | {name: value})
    message = str(caught.value)
    assert name in message or (name in ("estimators", "repeats") and "members" in message)
    assert "\n" not in message


@pytest.mark.parametrize("value", [1, *COUNT])
def test_a_committee_needs_members(value):
    with pytest.raises(ConfigError, match="members of CommitteeLearner must be"):
        CommitteeLearner(ProbeLearner(model=None), members=value)


@pytest.mark.parametrize("learner", ["probe", None, ProbeLearner])
def test_a_committee_is_made_of_a_learner(learner):
    with pytest.raises(ConfigError, match="learner of CommitteeLearner must be a learner"):
        CommitteeLearner(learner)


def test_what_has_a_meaning_is_taken():
    TransformerLearner(
        target_train_loss=math.inf, dropout=1, gradient_clip_val=None, patience=None, max_steps=None, device="cuda:1"
    )
    TransformerLearner(min_steps=0, warmup_ratio=0, weight_decay=0, head_learning_rate=None, lora=LoRA())
    ProbeLearner(model=None, l2=1)


def test_freezing_and_low_rank_updates_exclude_each_other_before_anything_is_loaded():
    with pytest.raises(ConfigError, match="exclude each other"):
        TransformerLearner(freeze=1, lora=LoRA())


def test_a_device_that_is_not_there_is_said_in_one_line():
    with pytest.raises(LearnerError, match="available here: set device to auto or cpu"):
        device_of("cuda:99")


@pytest.mark.parametrize(
    "name", ["", " ", "a\0b", "~nobody-of-this-name/model", "./" + "n" * 5000, "n" * 5000 + "/a/b"]
)
def test_a_model_that_names_nothing_is_refused_in_one_line(name):
    with pytest.raises(LearnerError) as caught:
        locate(name)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_a_file_is_no_model_folder(tmp_path: Path):
    (tmp_path / "weights.safetensors").write_bytes(b"")
    for name in (tmp_path / "weights.safetensors", str(tmp_path / "weights.safetensors")):
        with pytest.raises(LearnerError, match="is a file: give the folder that contains it"):
            locate(name)
    with pytest.raises(LearnerError, match="does not exist"):
        locate(str(tmp_path / "weights.safetensors" / "inside"))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_said_in_one_line(tmp_path: Path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(LearnerError, match="cannot be read: Permission denied"):
        locate(str(tmp_path / "closed" / "model"))
