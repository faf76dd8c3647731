import pytest
import torch
from torch.nn import functional as F

from dal.errors import ConfigError
from dal.functional.coverage import max_coverage, pure_radius
from dal.strategies.covering import ProbCover
from dal.strategy import Query, choose
from dal.testing import check_strategy
from strategies.queries import of, query


def on_circle(degrees: list[float]) -> torch.Tensor:
    angles = torch.tensor(degrees).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1)


class TestProbCover:
    def test_is_greedy_coverage_from_the_labeled_rows(self):
        selection = choose(ProbCover(delta=0.8), query(6))
        asked = query(6)
        x, labeled = (F.normalize(part.embeddings, dim=1) for part in (asked.pool, asked.labeled))
        cover = max_coverage(x, 6, 0.8, centers=labeled, generator=asked.generator)
        assert torch.equal(selection.positions[: len(cover.positions)], cover.positions)
        assert selection.scores[: len(cover.gains)].tolist() == cover.gains.tolist()
        assert selection.notes["delta"] == 0.8
        assert selection.notes["coverage"] == pytest.approx(float(cover.covered.float().mean()))

    def test_hand_computed_example(self):
        x = on_circle([0, 10, 20, 100, 110, 200]) * 5
        selection = choose(ProbCover(delta=0.2), of({"embeddings": x}, 3))  # a chord of 11.5 degrees
        assert selection.positions[0] == 1
        assert selection.positions[1] in (3, 4)
        assert selection.positions[2] == 5
        assert selection.scores.tolist() == [3, 2, 1]
        assert selection.notes["coverage"] == 1

    def test_what_labeled_rows_cover_is_not_asked_for(self):
        x = on_circle([0, 1, 2, 90])
        asked = of({"embeddings": x}, 1, labeled={"embeddings": on_circle([1])}, labels=[0])
        assert choose(ProbCover(delta=0.2), asked).positions.tolist() == [3]

    def test_once_all_is_covered_the_farthest_rows_come_next(self):
        x = on_circle([0, 1, 2, 5, 90, 91])
        selection = choose(ProbCover(delta=0.2), of({"embeddings": x}, 4))
        assert selection.scores.tolist() == [4, 2, 0, 0]
        first = selection.positions[0].item()  # any of the first four covers them all
        assert selection.positions[2].item() == (3 if first != 3 else 0)

    def test_the_radius_keeps_nearly_all_balls_within_one_cluster(self):
        x = on_circle([*range(0, 20), *range(100, 120)])
        selection = choose(ProbCover(clusters=2, purity=1.0), of({"embeddings": x}, 1))
        clusters = torch.arange(40) // 20
        assert selection.notes["delta"] == pytest.approx(pure_radius(x, clusters, purity=1.0), rel=1e-5)
        assert selection.scores.tolist() == [20]

    def test_one_cluster_makes_every_ball_hold_everything(self):
        selection = choose(ProbCover(clusters=1), query(1, labeled=0))
        assert selection.notes == {"delta": 2.0, "coverage": 1.0}

    def test_clusters_are_as_many_as_the_classes_that_labels_have_shown(self):
        x = on_circle([*range(0, 20), *range(120, 140), *range(240, 260)])
        labeled = {"embeddings": on_circle([10, 130, 250])}
        asked = of({"embeddings": x}, 1, labeled=labeled, labels=[0, 4, 9])
        given = of({"embeddings": x}, 1, labeled=labeled, labels=[0, 4, 9])
        assert choose(ProbCover(), asked).notes == choose(ProbCover(clusters=3), given).notes

    def test_multilabel_outputs_tell_the_number_of_classes(self):
        asked, again = (query(3, multilabel=True, classes=5) for _ in range(2))
        assert choose(ProbCover(), asked).notes == choose(ProbCover(clusters=5), again).notes

    def test_some_rows_stand_for_a_large_pool_and_any_row_can_be_chosen(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.eye(4).repeat_interleave(100, 0) + 0.01 * torch.randn(400, 4, generator=generator)
        selection = choose(ProbCover(delta=0.5, targets=50), of({"embeddings": x}, 4))
        assert sorted((selection.positions // 100).tolist()) == [0, 1, 2, 3]
        assert float(selection.scores.sum()) == pytest.approx(400)

    def test_equals_are_decided_by_chance(self):
        x = torch.eye(20)
        picks = {choose(ProbCover(delta=0.1), of({"embeddings": x}, 1, seed=s)).positions.item() for s in range(20)}
        assert len(picks) > 5

    def test_equal_rows_with_labels_of_one_class_are_no_trouble(self):
        pool = query(20, rows=20, repeat=20).pool
        asked = Query(pool, 20, torch.Generator(), pool.take([0, 1]), labels=torch.tensor([3, 3]))
        selection = choose(ProbCover(), asked)
        assert selection.scores.tolist() == [0.0] * 20
        assert selection.notes["coverage"] == 1

    @pytest.mark.parametrize(
        "options", [{"delta": -0.1}, {"delta": 2.5}, {"purity": 0.0}, {"purity": 1.1}, {"clusters": 0}, {"targets": 0}]
    )
    def test_an_option_out_of_range_is_refused(self, options):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} of ProbCover"):
            ProbCover(**options)

    @pytest.mark.parametrize("strategy", [ProbCover(), ProbCover(delta=0.0, targets=20)], ids=str)
    def test_keeps_its_contract(self, strategy):
        check_strategy(strategy, rows=4_000)
