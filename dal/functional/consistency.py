"""Agreement between sampled predictions and the prediction of the model itself."""

import torch
from jaxtyping import Float
from torch import Tensor

from dal.functional.checked_tensors import finite, floats


@torch.no_grad()
def inconsistency(
    logits: Float[Tensor, "N C"], vote_shares: Float[Tensor, "N C"], *, multilabel: bool = False
) -> Float[Tensor, " N"]:
    """Share of the samples whose prediction differs from that of the model, (N,), between 0 and 1.

    `vote_shares` is the share of the samples that vote for each class. With `multilabel`, a class is predicted if its
    logit is positive, and the result is the largest share of disagreeing samples over the classes: a lower bound of the
    share of samples whose label set differs, which cannot be computed from the vote shares.

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
