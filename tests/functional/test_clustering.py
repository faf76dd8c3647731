import numpy as np
import pytest
import torch
from reference import centers as reference
from sklearn.cluster import KMeans

from dal.functional import blocks
from dal.functional.clustering import Clusters, distinct_medoids, kmeans, medoids
from functional.made import normal, outer, seeded


class TestKMeans:
    @pytest.mark.parametrize("k", [1, 4, 30])
    def test_distances_inertia_and_assignment_belong_to_the_centers(self, k):
        x = normal(200, 5)
        clusters = kmeans(x, k, generator=seeded())
        table = reference.distances(x.numpy(), clusters.centers.numpy())
        assert clusters.assignment.tolist() == table.argmin(1).tolist()
        np.testing.assert_allclose(clusters.distances, table.min(1))
        assert clusters.inertia == pytest.approx(reference.inertia(x.numpy(), clusters.centers.numpy()))

    def test_every_center_is_the_mean_of_its_cluster(self):
        x = normal(200, 5)
        clusters = kmeans(x, 6, generator=seeded(), tolerance=0.0)
        for c in range(6):
            torch.testing.assert_close(clusters.centers[c], x[clusters.assignment == c].mean(0))

    def test_finds_well_separated_clusters(self):
        middles = torch.eye(5, dtype=torch.float64) * 100
        x = middles.repeat_interleave(20, 0) + normal(100, 5)
        assignment = kmeans(x, 5, generator=seeded()).assignment.view(5, 20)
        assert torch.equal(assignment, assignment[:, :1].expand(-1, 20))
        assert len(assignment[:, 0].unique()) == 5

    def test_is_about_as_good_as_scikit_learn(self):
        x = normal(500, 6)
        ours = np.mean([kmeans(x, 10, generator=seeded(s)).inertia for s in range(5)])
        theirs = np.mean([KMeans(10, n_init=1, random_state=s).fit(x.numpy()).inertia_ for s in range(5)])
        assert ours <= 1.05 * theirs

    @pytest.mark.parametrize("k", [20, 60])
    def test_is_within_two_percent_of_scikit_learn_where_a_plain_seeding_misses_clusters(self, k):
        middles = 6 * normal(40, 16, 5, torch.float32)
        x = middles[torch.arange(4000) % 40] + normal(4000, 16, 6, torch.float32)
        ours = np.mean([kmeans(x, k, generator=seeded(s)).inertia for s in range(8)])
        theirs = np.mean([KMeans(k, n_init=1, random_state=s).fit(x.numpy()).inertia_ for s in range(8)])
        assert ours <= 1.02 * theirs

    def test_finds_the_same_minimum_as_scikit_learn_from_the_same_start(self):
        x = normal(500, 6)
        clusters = kmeans(x, 10, generator=seeded(), init=x[:10], tolerance=0.0)
        theirs = KMeans(10, init=x[:10].numpy(), n_init=1, tol=0, algorithm="lloyd").fit(x.numpy())
        np.testing.assert_allclose(clusters.centers, theirs.cluster_centers_, atol=1e-9)
        assert clusters.assignment.tolist() == theirs.labels_.tolist()

    def test_starts_at_positions_as_at_the_points_there(self):
        x, at = normal(100, 3), torch.tensor([5, 50, 7])
        there, same = (kmeans(x, 3, generator=seeded(), init=init) for init in (at, x[at]))
        assert torch.equal(there.centers, same.centers)

    def test_without_iterations_the_start_is_the_clustering(self):
        x = normal(100, 3)
        clusters = kmeans(x, 3, generator=seeded(), init=x[:3], iterations=0)
        assert torch.equal(clusters.centers, x[:3])
        assert clusters.inertia == pytest.approx(reference.inertia(x.numpy(), x[:3].numpy()))

    def test_whole_weights_count_as_repeated_points(self):
        x = normal(60, 3)
        weights = torch.arange(60, dtype=torch.float64) % 4
        repeated = x.repeat_interleave(weights.long(), 0)
        weighted = kmeans(x, 5, generator=seeded(), weights=weights, init=x[1:6], tolerance=0.0)
        expected = kmeans(repeated, 5, generator=seeded(), init=x[1:6], tolerance=0.0)
        torch.testing.assert_close(weighted.centers, expected.centers)
        assert weighted.inertia == pytest.approx(expected.inertia)

    def test_the_seeding_looks_for_the_weight(self):
        x = torch.cat([normal(500, 2), normal(500, 2) + 50, normal(500, 2) - 50])
        weights = torch.cat([torch.ones(1000), torch.zeros(500)])
        clusters = kmeans(x, 2, generator=seeded(), weights=weights)
        assert clusters.inertia < 3000  # the third heap weighs nothing, so no center goes there

    def test_a_cluster_that_loses_all_its_points_starts_again_elsewhere(self):
        x = torch.cat([normal(20, 2), normal(20, 2) + 50, normal(20, 2) - 50])
        start = torch.tensor([[0.0, 0], [200, 200], [300, 300]], dtype=torch.float64)
        clusters = kmeans(x, 3, generator=seeded(), init=start)
        assert len(clusters.assignment.unique()) == 3
        assert clusters.inertia < 300

    @pytest.mark.parametrize("init", [torch.tensor([0, 9]), torch.tensor([0]), torch.zeros(2, 3), torch.zeros(3, 2)])
    def test_starts_that_are_not_k_points_are_refused(self, init):
        with pytest.raises((ValueError, TypeError), match=r"init|Type-check"):
            kmeans(normal(9, 2), 2, generator=seeded(), init=init)

    def test_weights_that_are_negative_are_refused(self):
        with pytest.raises(ValueError, match="not negative"):
            kmeans(normal(9, 2), 2, generator=seeded(), weights=torch.arange(9.0) - 1)

    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_points_that_are_all_equal_make_one_cluster(self, k):
        clusters = kmeans(torch.ones(5, 3), k, generator=seeded())
        assert clusters.inertia == 0
        assert clusters.assignment.tolist() == [0] * 5

    def test_the_same_seed_gives_the_same_clusters(self):
        x = normal(300, 4)
        first, second = (kmeans(x, 9, generator=seeded(3)) for _ in range(2))
        assert torch.equal(first.centers, second.centers)

    def test_fewer_distinct_points_than_clusters_leave_none_uncovered(self):
        x = torch.tensor([[0.0], [0.0], [1.0], [1.0], [1.0]])
        clusters = kmeans(x, 4, generator=seeded())
        assert clusters.inertia == 0
        assert clusters.centers.shape == (4, 1)

    def test_as_many_clusters_as_points_are_the_points(self):
        x = normal(20, 3)
        clusters = kmeans(x, 20, generator=seeded())
        assert clusters.inertia == pytest.approx(0, abs=1e-20)
        assert len(clusters.assignment.unique()) == 20

    def test_points_far_from_the_origin_cluster_alike(self):
        x = normal(200, 4, dtype=torch.float32)
        near, far = kmeans(x, 5, generator=seeded()), kmeans(x + 64, 5, generator=seeded())
        assert near.inertia == pytest.approx(far.inertia, rel=0.05)

    def test_does_not_depend_on_the_size_of_blocks(self, monkeypatch):
        x = normal(200, 4)
        whole = kmeans(x, 7, generator=seeded())
        monkeypatch.setattr(blocks, "ELEMENTS", 100)
        cut = kmeans(x, 7, generator=seeded())
        assert torch.equal(cut.assignment, whole.assignment)
        torch.testing.assert_close(cut.centers, whole.centers)

    def test_outer_products_are_refused(self):
        with pytest.raises((TypeError, ValueError), match=r"k-means|kmeans"):
            kmeans(outer(5, 2, 2), 2, generator=seeded())


def clusters_around(x: torch.Tensor, centers: torch.Tensor) -> Clusters:
    return kmeans(x, len(centers), generator=seeded(), init=centers, iterations=0)


class TestMedoids:
    def test_are_the_members_nearest_the_centers(self):
        x = normal(200, 4)
        clusters = kmeans(x, 12, generator=seeded())
        table = reference.distances(x.numpy(), clusters.centers.numpy())
        for c, row in enumerate(medoids(x, clusters).tolist()):
            members = [i for i in range(200) if clusters.assignment[i] == c]
            assert row == min(members, key=lambda i, c=c: table[i, c])

    @pytest.mark.parametrize("offset", [0.0, 1000.0])
    def test_the_first_of_two_rows_stands_for_them(self, offset):
        x = normal(400, 16, dtype=torch.float32) + offset
        x[::2] += 100 * torch.arange(200)[:, None]
        x[1::2] += 100 * torch.arange(200)[:, None]
        clusters = kmeans(x, 200, generator=seeded(), init=torch.arange(0, 400, 2))
        assert medoids(x, clusters).tolist() == list(range(0, 400, 2))

    def test_of_a_cluster_without_members_is_no_row(self):
        x = torch.tensor([[0.0], [1.0], [1.5]])
        clusters = clusters_around(x, torch.tensor([[0.0], [9.0], [1.0]]))
        assert medoids(x, clusters).tolist() == [0, 3, 1]

    def test_clusters_of_other_points_are_refused(self):
        clusters = clusters_around(torch.zeros(3, 1), torch.zeros(1, 1))
        with pytest.raises(ValueError, match="of 3 points, not of these 2"):
            medoids(torch.zeros(2, 1), clusters)


class TestDistinctMedoids:
    def test_are_the_medoids_where_every_cluster_has_members(self):
        x = normal(100, 4)
        clusters = kmeans(x, 12, generator=seeded())
        assert torch.equal(distinct_medoids(x, clusters), medoids(x, clusters))

    def test_fill_up_with_the_nearest_rows_not_yet_taken(self):
        x = torch.tensor([[0.0], [0.5], [4.0], [7.0], [9.0]])
        clusters = clusters_around(x, torch.tensor([[0.0], [0.0], [9.0], [0.0]]))
        assert medoids(x, clusters).tolist() == [0, 5, 4, 5]
        assert distinct_medoids(x, clusters).tolist() == [0, 1, 4, 2]

    @pytest.mark.parametrize("k", [1, 3, 6])
    def test_are_different_rows_even_of_equal_points(self, k):
        x = torch.ones(6, 2)
        rows = distinct_medoids(x, kmeans(x, k, generator=seeded()))
        assert len(set(rows.tolist())) == k
        assert max(rows) < 6
