"""Queries over made-up outputs, as a session would hand them to a strategy."""

import torch

from dal.outputs import Outputs
from dal.strategy import Query


def made_up(rows: int, *, classes: int = 4, seed: int = 0, multilabel: bool = False, repeat: int = 1) -> Outputs:
    """Random logits, features, embeddings and 5 samples of `rows` rows; `repeat` > 1 repeats every row as often."""
    generator = torch.Generator().manual_seed(seed)
    distinct = -(-rows // repeat)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(distinct, *shape, generator=generator).repeat(repeat, *(1 for _ in shape))[:rows]

    return Outputs(
        {"logits": draw(classes), "features": draw(8), "embeddings": draw(6), "mc_logits": draw(5, classes)},
        length=rows,
        multilabel=multilabel,
    )


def query(
    n: int,
    rows: int = 60,
    labeled: int = 10,
    *,
    classes: int = 4,
    seed: int = 0,
    multilabel: bool = False,
    repeat: int = 1,
) -> Query:
    generator = torch.Generator().manual_seed(seed + 1)
    if multilabel:
        labels = torch.rand(labeled, classes, generator=generator) > 0.5
    else:
        labels = torch.randint(classes, (labeled,), generator=generator)
    return Query(
        pool=made_up(rows, classes=classes, seed=seed, multilabel=multilabel, repeat=repeat),
        labeled=made_up(labeled, classes=classes, seed=seed + 7, multilabel=multilabel),
        labels=labels,
        n=n,
        generator=torch.Generator().manual_seed(seed),
    )


def of(pool: dict, n: int, *, labeled: dict | None = None, labels: list[int] | None = None, seed: int = 0) -> Query:
    """A query over given tensors."""
    return Query(
        pool=Outputs(pool),
        labeled=Outputs(labeled or {}, length=len(labels or [])),
        labels=torch.tensor(labels or [], dtype=torch.int64),
        n=n,
        generator=torch.Generator().manual_seed(seed),
    )
