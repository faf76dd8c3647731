"""Ridge regression on class indicators without each fold, by an explicit least-squares problem for each."""

import numpy as np


def fold_predictions(points, labels, targets, folds, penalty):
    classes = int(labels.max()) + 1
    seen, fold = [0] * classes, []
    before = [int((labels < c).sum()) for c in range(classes)]
    for label in labels:  # classes follow each other, and the points of a class each other
        fold.append((before[label] + seen[label]) % folds)
        seen[label] += 1
    predicted = []
    for left_out in [None, *range(folds)]:
        rows = [i for i in range(len(points)) if fold[i] != left_out]
        x = np.array([[*points[i], 10.0] for i in rows])
        x = np.vstack([x, np.sqrt(penalty) * np.eye(x.shape[1])])
        y = np.array([[float(labels[i] == c) for c in range(classes)] for i in rows])
        y = np.vstack([y, np.zeros((x.shape[1], classes))])
        weights = np.linalg.lstsq(x, y, rcond=None)[0]
        predicted.append([int(np.argmax(np.array([*target, 10.0]) @ weights)) for target in targets])
    return predicted
