"""Strategies that read what a language model makes of a text, before any label."""

from dataclasses import dataclass

from torch.nn import functional as F

from dal.functional.central import central_rows
from dal.functional.clustering import kmeans
from dal.strategy import Query, Selection, Strategy


@dataclass(frozen=True)
class ALPS(Strategy):
    """The central row of each of n clusters of texts whose words surprise a language model in the same places.

    A text's vector holds `-log p(token t | text)` for a random 15% of its tokens and 0 elsewhere (`surprisal`, which
    the learner reads off its checkpoint's own masked-language-model head), and is brought to unit length. k-means with
    k = n; from each cluster the row nearest the center, the largest cluster first. The score is how many rows of the
    pool each stands for, the note `inertia` that of the clustering. It reads no label and no trained model: after the
    cold start another strategy should take over (`Phases`).

    Yuan, Lin and Boyd-Graber 2020, "Cold-start Active Learning through Self-supervised Language Modeling".
    """

    needs = frozenset({"surprisal"})
    multilabel = True
    paper = "Yuan et al. 2020"
    advice = "A cold start for encoders with a masked-language-model head. Try ClusterCenters first: it is simpler."

    def select(self, query: Query) -> Selection:
        """n positions, largest cluster first."""
        surprisal = query.pool.surprisal  # (N, T)
        reached = surprisal.any(0)  # (T,): places that no text reaches tell nothing
        reached[0] = True
        x = F.normalize(surprisal[:, reached], dim=1)
        clusters = kmeans(x, query.n, generator=query.generator)
        positions, sizes = central_rows(x, clusters)
        return Selection(positions, sizes.to(x.dtype), {"inertia": clusters.inertia})
