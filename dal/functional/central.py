"""Representative rows of clusters, with the cluster sizes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from dal.functional.clustering import Clusters, distinct_medoids


@torch.no_grad()
def central_rows(x: Float[Tensor, "N D"], clusters: Clusters) -> tuple[Int64[Tensor, " k"], Int64[Tensor, " k"]]:
    """Positions of k distinct rows (k,), one for each cluster, and the cluster sizes (k,), largest cluster first.

    A cluster is represented by the row nearest its center, or if empty by the nearest row left (`distinct_medoids`).

    >>> from dal.functional.clustering import kmeans
    >>> x = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
    >>> central_rows(x, kmeans(x, 2, generator=torch.Generator().manual_seed(0)))
    (tensor([1, 3]), tensor([3, 1]))
    """
    sizes = torch.bincount(clusters.assignment, minlength=len(clusters.centers))
    order = sizes.argsort(descending=True, stable=True)
    return distinct_medoids(x, clusters)[order], sizes[order]
