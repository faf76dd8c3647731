import numpy as np
import pytest
import torch
from reference import centers as reference
from sklearn.cluster import KMeans

from dal.functional import blocks
from dal.functional.clustering import kmeans
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
