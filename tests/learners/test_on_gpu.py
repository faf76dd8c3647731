"""A fit and a pass on a GPU: repeatable, and the same as on the CPU but for rounding."""

from dataclasses import replace
from pathlib import Path

import material
import pytest
import torch

from dal.data import Rows
from dal.learner import Monitor
from dal.learners.inference import run_pass
from dal.learners.probe_learner import ProbeLearner
from dal.learners.transformer_learner import TransformerLearner
from dal.modules.transformer import TransformerClassifier

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated")]

NAMES = {"logits", "features", "mutual_information"}


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows.from_inputs(*material.tickets(160))


@pytest.fixture(scope="module")
def learner(tiny_bert: Path) -> TransformerLearner:
    options = {"learning_rate": 3e-3, "min_steps": 30, "max_steps": 30, "samples": 4, "precision": "float32"}
    return TransformerLearner(model=str(tiny_bert), device="cuda", **options)


def fitted(learner: TransformerLearner, rows: Rows):
    data = learner.prepare(rows)
    return learner.fit(data, torch.arange(80), rows.labels[:80], seed=0).outputs(data, names=NAMES, seed=1)


def test_the_same_seed_gives_the_same_model_and_samples(learner, rows) -> None:
    first, second = fitted(learner, rows), fitted(learner, rows)
    assert first.logits.is_cuda
    for name in NAMES:
        assert torch.equal(first[name], second[name])


def test_a_fitted_model_predicts_on_the_cpu_what_it_predicts_on_the_gpu(learner, rows, tmp_path) -> None:
    data = learner.prepare(rows)
    predictor = learner.fit(data, torch.arange(80), rows.labels[:80], seed=0)
    predictor.save(tmp_path)
    here = replace(learner, device="cpu").load(tmp_path, data).outputs(data).logits
    torch.testing.assert_close(predictor.outputs(data).logits.cpu(), here, rtol=1e-3, atol=1e-3)


def test_a_probe_learns_the_same_on_both_devices(tiny_bert, rows) -> None:
    found = []
    for device in ("cuda", "cpu"):
        learner = ProbeLearner(str(tiny_bert), device=device, precision="float32")
        data = learner.prepare(rows)
        predictor = learner.fit(data, torch.arange(80), rows.labels[:80], seed=0)
        found.append(predictor.outputs(data, names={"probs"}).probs.cpu())
    torch.testing.assert_close(*found, rtol=1e-2, atol=1e-2)


class Budgets(Monitor):
    """Keeps the budgets to which a pass was reduced."""

    def __init__(self) -> None:
        self.budgets: list[int] = []

    def halved(self, token_budget: int) -> None:
        self.budgets.append(token_budget)


def test_a_batch_that_does_not_fit_on_the_gpu_is_split(learner, rows) -> None:
    data = learner.prepare(rows)
    module = TransformerClassifier(learner.model, data.classes).cuda().eval()
    expected = run_pass(module, data, names={"logits"}, precision="float32").logits
    taken, compute = [], module.compute

    def crowded(batch, names, **options):
        if len(batch["input_ids"]) > 40:
            taken.append(torch.empty(2**50, dtype=torch.uint8, device="cuda"))  # raises what the allocator raises
        return compute(batch, names, **options)

    module.compute, monitor = crowded, Budgets()
    found = run_pass(module, data, names={"logits"}, precision="float32", monitor=monitor).logits
    assert monitor.budgets
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
