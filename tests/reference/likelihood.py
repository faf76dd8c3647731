"""A label's log-probability by one full pass per text and label, nothing shared."""

import torch


@torch.no_grad()
def label_log_prob(model, prompt: list[int], label: list[int]) -> float:
    """The sum over the label's tokens of the log-probability (nats) that each has after all before it."""
    logits = model(input_ids=torch.tensor([prompt + label])).logits[0].double()
    total = 0.0
    for place, token in enumerate(label):
        total += logits[len(prompt) + place - 1].log_softmax(-1)[token].item()
    return total
