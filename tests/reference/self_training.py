"""Self-training of a linear head, row by row, with an optimiser of another library."""

import numpy as np
from scipy.optimize import minimize, minimize_scalar


def fit(features, targets, weights, penalty, prior):
    """Layer (C, D + 1) of a penalised multinomial regression."""

    def loss(flat):
        layer = flat.reshape(prior.shape)
        total = penalty / 2 * ((layer - prior) ** 2).sum()
        slope = penalty * (layer - prior)
        for x, y, w in zip(features, targets, weights, strict=True):
            p = softmax(layer @ x)
            total -= w * np.log(p[y.argmax()])
            slope += w * np.outer(p - y, x)
        return total, slope.ravel()

    return minimize(loss, prior.ravel(), jac=True, method="BFGS", options={"gtol": 1e-8}).x.reshape(prior.shape)


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def adjustment(targets, weights, strength):
    """Shift of the logits by class."""
    counts = [sum(w * y[c] for y, w in zip(targets, weights, strict=True)) + 0.5 for c in range(targets.shape[1])]
    return np.array([-strength * np.log(count / sum(counts)) for count in counts])


def student(features, targets, weights, pool, penalty, prior, strength):
    """Layer after one pass: the confident half of each predicted class, five times the weight of the labels."""
    teacher = fit(features, targets, weights, penalty, prior)
    shift = adjustment(targets, weights, 0.5)
    predicted = [softmax(teacher @ x + shift) for x in pool]
    codes = [int(p.argmax()) for p in predicted]
    kept = []
    for row, (p, code) in enumerate(zip(predicted, codes, strict=True)):
        same = [q.max() for q, other in zip(predicted, codes, strict=True) if other == code]
        if p.max() >= np.quantile(same, 0.5):
            kept.append(row)
    each = 5.0 * sum(weights) / len(kept)
    all_features = np.concatenate([features, pool[kept]])
    all_targets = np.concatenate([targets, np.eye(targets.shape[1])[[codes[row] for row in kept]]])
    all_weights = np.concatenate([weights, np.full(len(kept), each)])
    layer = fit(all_features, all_targets, all_weights, penalty, prior)
    layer[:, -1] += adjustment(all_targets, all_weights, strength)

    def entropy(log_temperature):
        total = 0.0
        for x in pool:
            total -= softmax(teacher @ x) @ np.log(softmax(layer @ x / np.exp(log_temperature)))
        return total

    found = minimize_scalar(entropy, bounds=(-1.2, 2.3), method="bounded", options={"xatol": 1e-7})
    return layer / np.exp(found.x)
