"""A saved model that is damaged is refused in one line, or is still a model: never a traceback."""

import json
import random
import shutil
from contextlib import suppress
from pathlib import Path

import material
import pytest
import torch
from safetensors.torch import load_file, save_file

from dal.data import Rows
from dal.errors import LearnerError
from dal.learners.committee_learner import CommitteeLearner
from dal.learners.module_learner import ModuleLearner
from dal.learners.probe_learner import ProbeLearner
from dal.learners.sklearn_committee import SklearnCommittee
from dal.learners.tfidf_learner import TfidfLearner
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.linear import LinearClassifier


def plain_module(classes: int, multilabel: bool) -> LinearClassifier:
    return LinearClassifier(16, classes, multilabel=multilabel, dropout=0.1)


MADE = {
    "module": lambda: ModuleLearner(plain_module, max_steps=2, min_steps=1),
    "module with draws": lambda: ModuleLearner(plain_module, max_steps=2, min_steps=1, mc_mode="laplace"),
    "probe": lambda: ProbeLearner(model=None),
    "probe of resamples": lambda: ProbeLearner(model=None, posterior="bootstrap", samples=3),
    "committee": lambda: CommitteeLearner(ProbeLearner(model=None), members=2, bootstrap=True),
    "sklearn": lambda: SklearnCommittee(model=None, estimators=("logistic", "sklearn.naive_bayes.GaussianNB")),
    "tfidf": TfidfLearner,
}
DAMAGES = {
    "empty": lambda text: b"",
    "cut": lambda text: text[: len(text) // 2],
    "no text": lambda text: b"\xff\xfe\x00" + text,
    "a list": lambda text: b"[1, 2]",
    "deep": lambda text: b'{"classes": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a long number": lambda text: b'{"classes": ' + b"9" * 6000 + b"}",
    "other kinds": lambda text: json.dumps({key: {"a": 1} for key in json.loads(text)}).encode(),
    "nothing in it": lambda text: b"{}",
}


def rows_for(name: str) -> Rows:
    return Rows.from_inputs(*(material.tickets(60) if name == "tfidf" else material.clusters(60)))


@pytest.fixture(scope="module", params=MADE)
def saved(request, tmp_path_factory):
    learner, rows = MADE[request.param](), rows_for(request.param)
    data = learner.prepare(rows)
    predictor = learner.fit(data, torch.arange(40), rows.labels[:40], seed=0)
    folder = tmp_path_factory.mktemp("saved") / "model"
    predictor.save(folder)
    return learner, data, folder


def refused(learner, data, folder: Path) -> str:
    with pytest.raises(LearnerError) as caught:
        learner.load(folder, data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def loaded(learner, data, folder: Path):
    """The model, or None where it was refused."""
    with suppress(LearnerError):
        return learner.load(folder, data)


def files(folder: Path, kind: str) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob(f"*.{kind}"))


@pytest.mark.parametrize("damage", DAMAGES)
def test_facts_that_are_damaged_are_refused_by_the_name_of_the_file(saved, tmp_path, damage):
    learner, data, folder = saved
    for name in files(folder, "json"):
        copy = Path(shutil.copytree(folder, tmp_path / str(name).replace("/", "-")))
        (copy / name).write_bytes(DAMAGES[damage]((copy / name).read_bytes()))
        message = refused(learner, data, copy)
        assert name.name in message
        assert "fitted again" in message


def test_a_file_that_is_missing_is_refused_by_its_name(saved, tmp_path):
    learner, data, folder = saved
    for name in [*files(folder, "json"), *files(folder, "safetensors")]:
        copy = Path(shutil.copytree(folder, tmp_path / str(name).replace("/", "-")))
        (copy / name).unlink()
        assert name.name in refused(learner, data, copy)
        (copy / name).mkdir()
        assert name.name in refused(learner, data, copy)
    refused(learner, data, tmp_path / "nowhere")


def test_weights_that_are_cut_or_garbled_are_refused(saved, tmp_path):
    learner, data, folder = saved
    for name in files(folder, "safetensors"):
        whole = (folder / name).read_bytes()
        copy = Path(shutil.copytree(folder, tmp_path / str(name).replace("/", "-")))
        for broken in (b"", whole[:7], whole[: len(whole) // 2], b"\xff" * 64 + whole[64:], whole + b"more"):
            (copy / name).write_bytes(broken)
            assert name.name in refused(learner, data, copy)


def test_weights_of_another_shape_or_not_finite_are_refused(saved, tmp_path):
    learner, data, folder = saved
    for name in files(folder, "safetensors"):
        copy = Path(shutil.copytree(folder, tmp_path / str(name).replace("/", "-")))
        tensors = load_file(folder / name)
        for key, value in tensors.items():
            wrong = [value[None], {k: v for k, v in tensors.items() if k != key}]
            if value.is_floating_point():
                wrong.append(torch.full_like(value, torch.nan))
            if value.dim():
                wrong.append(torch.cat([value, value[:1]]))
            for other in wrong:
                save_file(other if isinstance(other, dict) else tensors | {key: other.contiguous()}, copy / name)
                again = loaded(learner, data, copy)
                if again is not None:  # one row more or less to train on is a model, too
                    assert torch.isfinite(again.outputs(data).logits).all()


def test_random_bytes_never_cause_anything_but_a_model_or_one_line(saved, tmp_path):
    learner, data, folder = saved
    drawn = random.Random(0)
    for name in [*files(folder, "json"), *files(folder, "safetensors")]:
        whole = (folder / name).read_bytes()
        copy = Path(shutil.copytree(folder, tmp_path / str(name).replace("/", "-")))
        for _ in range(25):
            broken = bytearray(whole)
            for _ in range(drawn.randint(1, 4)):
                broken[drawn.randrange(min(len(broken), 600))] = drawn.randrange(256)
            (copy / name).write_bytes(bytes(broken))
            predictor = loaded(learner, data, copy)
            if predictor is not None:
                predictor.outputs(data, names={"probs"})


def test_a_model_of_another_kind_of_labels_is_refused(tmp_path):
    learner, rows = ProbeLearner(model=None), rows_for("probe")
    data = learner.prepare(rows)
    learner.fit(data, torch.arange(40), rows.labels[:40], seed=0).save(tmp_path / "model")
    data.multilabel = True
    with pytest.raises(LearnerError, match="trained for one class per row, the data has several"):
        learner.load(tmp_path / "model", data)


def test_a_long_list_of_classes_is_shortened_in_the_message(tmp_path):
    learner, rows = ProbeLearner(model=None), rows_for("probe")
    data = learner.prepare(rows)
    learner.fit(data, torch.arange(40), rows.labels[:40], seed=0).save(tmp_path / "model")
    data.classes = tuple(f"class {i}" for i in range(10_000))
    with pytest.raises(LearnerError, match="was trained for the classes") as caught:
        learner.load(tmp_path / "model", data)
    assert len(str(caught.value)) < 900


def test_a_damaged_transformer_is_refused_in_one_line(tiny_bert, tmp_path):
    rows = Rows.from_inputs(*material.tickets(20))
    learner = TransformerLearner(model=str(tiny_bert), samples=2)
    data = learner.prepare(rows)
    module = learner._module(str(tiny_bert), data, lora=None, freeze=0, pooling=None)
    learner._predictor(module).save(tmp_path / "model")
    for name, broken in {
        "config.json": [b"", b"[]", b'{"a": ' + b"[" * 3000, b'{"model_type": "bert", "hidden_size": "x"}', b"{}"],
        "model.safetensors": [b"", b"nonsense", b"\xff" * 100],
    }.items():
        for content in broken:
            copy = Path(shutil.copytree(tmp_path / "model", tmp_path / "copy", dirs_exist_ok=True))
            (copy / name).write_bytes(content)
            message = refused(learner, data, copy)
            assert "model" in message
            shutil.rmtree(copy)
