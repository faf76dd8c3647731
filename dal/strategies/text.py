"""Cold-start selection from the losses of a pretrained language model."""

from dataclasses import dataclass

from torch.nn import functional as F

from dal.functional.central import central_rows
from dal.functional.clustering import kmeans
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class ALPS(Strategy):
    """The row nearest the center of each of n k-means clusters of surprisal vectors (masked-language-model losses).

    The vector of a text holds `-log p(token t | text)` for a random 15% of its tokens and 0 elsewhere (`surprisal`,
    computed by the masked-language-model head of the learner's checkpoint), scaled to unit length. k-means with k = n;
    from each cluster the row nearest the center, the largest cluster first. The score is the size of the cluster, the
    note `inertia` the inertia of the clustering. It uses neither labels nor a trained model, so another strategy should
    follow after the cold start (`Phases`).

    Yuan, Lin and Boyd-Graber 2020, "Cold-start Active Learning through Self-supervised Language Modeling".
    """

    needs = frozenset({"surprisal"})
    multilabel = True
    paper = "Yuan et al. 2020"
    advice = "A cold start for encoders with a masked-language-model head. Try ClusterCenters first: it is simpler."

    def select(self, query: Query) -> Selection:
        """Select n positions, largest cluster first."""
        surprisal = query.pool.surprisal  # (N, T)
        nonzero = surprisal.any(0)  # (T,): columns of zeros do not change any distance
        nonzero[0] = True  # so that at least one column is left
        x = F.normalize(surprisal[:, nonzero], dim=1)
        clusters = kmeans(x, query.n, generator=query.generator)
        positions, sizes = central_rows(x, clusters)
        return Selection(positions, sizes.to(x.dtype), {"inertia": clusters.inertia})
