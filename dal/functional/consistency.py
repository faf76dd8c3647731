"""Whether sampled models answer as the model itself does."""

import torch
from jaxtyping import Float
from torch import Tensor

from dal.functional.checking import finite, floats


@torch.no_grad()
def inconsistency(
    logits: Float[Tensor, "N C"], vote_shares: Float[Tensor, "N C"], *, multilabel: bool = False
) -> Float[Tensor, " N"]:
    """Share of the sampled models that predict something else than the model itself, (N,), between 0 and 1.

    `vote_shares` says which share of the samples votes for each class. With `multilabel`, a class is predicted where
    its logit is positive, and the result is that of the class with the largest share against it: no more than the
    share of the samples whose set of classes differs, which the shares alone do not tell.

    Gupte et al. 2024, "Revisiting Active Learning in the Era of Vision Foundation Models".

    >>> import torch
    >>> inconsistency(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.75, 0.25]]))
    tensor([0.7500])
    """
    logits = finite(floats(logits, "logits", 2), "logits")
    vote_shares = finite(floats(vote_shares, "vote_shares", 2), "vote_shares")
    if logits.shape != vote_shares.shape:
        shapes = f"{tuple(logits.shape)} and {tuple(vote_shares.shape)}"
        raise ValueError(f"logits and vote_shares must be of one shape, not {shapes}")
    if multilabel:
        return ((logits > 0).to(vote_shares.dtype) - vote_shares).abs().amax(1)
    predicted = logits.argmax(1, keepdim=True)
    return 1 - vote_shares.gather(1, predicted).squeeze(1)
