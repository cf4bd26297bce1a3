"""Writes scores.json: scikit-learn's and SciPy's values of the scores of `flatness evaluate`, for src/bayes/tests.rs.

    python tools/score_fixture.py > tests/fixtures/scores.json
"""
import json

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import entropy
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, log_loss, roc_auc_score

BINS = 15
rng = np.random.default_rng(0)


def calibration_error(correct, confidence, strategy):
    """From scikit-learn's curve, with the number of rows in each of its bins."""
    shares, means = calibration_curve(correct, confidence, n_bins=BINS, strategy=strategy)
    edges = np.linspace(0, 1, BINS + 1)
    edges = edges if strategy == "uniform" else np.percentile(confidence, edges * 100)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=BINS)
    return np.sum(counts[counts > 0] * np.abs(shares - means)) / len(correct)


def detection(positive, score):
    return [
        roc_auc_score(positive, score),
        average_precision_score(positive, score),
        average_precision_score(~positive, -score),
    ]


def average(models):
    """Logarithms of the mean probabilities, their entropy and the mutual information."""
    logs = log_softmax(models, axis=2)
    mean = logsumexp(logs, axis=0) - np.log(len(models))
    entropies = entropy(np.exp(mean), axis=1)
    return mean, entropies, entropies - entropy(np.exp(logs), axis=2).mean(axis=0)


def case(name, models, labels, outside):
    classes = models.shape[2]
    logs, entropies, information = average(models)
    p = np.exp(logs)
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    _, other_entropies, _ = average(outside)
    out = np.arange(len(entropies) + len(other_entropies)) >= len(entropies)

    def scaled_nll(log_t):
        return log_loss(labels, np.exp(log_softmax(logs / np.exp(log_t), axis=1)), labels=range(classes))

    best = minimize_scalar(scaled_nll, bounds=(-3, 3), method="bounded", options={"xatol": 1e-12})
    return {
        "name": name,
        "classes": classes,
        "models": [model.ravel().tolist() for model in models],
        "labels": labels.tolist(),
        "outside": [model.ravel().tolist() for model in outside],
        "expected": {
            "accuracy": accuracy_score(labels, p.argmax(axis=1)),
            "nll": log_loss(labels, p, labels=range(classes)),
            "brier": brier_score_loss(labels, p, labels=range(classes), scale_by_half=False),
            "ece": calibration_error(correct, confidence, "uniform"),
            "ece_equal_mass": calibration_error(correct, confidence, "quantile"),
            "predictive_entropy": entropies.mean(),
            "mutual_information": information.mean(),
            "errors": detection(~correct, -confidence),
            "outside": detection(out, np.concatenate([entropies, other_entropies])),
            "temperature": np.exp(best.x),
            "scaled_nll": best.fun,
        },
    }


def outputs(models, rows, classes, scale):
    return np.round(scale * rng.normal(size=(models, rows, classes)), 3)


def drawn(models):
    """Labels that the models are half right about."""
    likely = models.mean(axis=0).argmax(axis=1)
    return np.where(rng.random(len(likely)) < 0.5, likely, rng.integers(0, models.shape[2], len(likely)))


def cases():
    one = outputs(1, 64, 4, 2.0)
    yield case("one model", one, drawn(one), outputs(1, 40, 4, 1.0))
    several = outputs(3, 50, 3, 1.5)
    yield case("three models", several, drawn(several), outputs(3, 30, 3, 0.5))
    two = outputs(1, 70, 2, 3.0)
    yield case("two classes", two, drawn(two), outputs(1, 25, 2, 1.0))
    # Every row five times: equal scores, of right and of wrong answers.
    ties = np.repeat(outputs(1, 12, 3, 1.0), 5, axis=1)
    yield case("ties", ties, drawn(ties), np.repeat(ties[:, ::10], 3, axis=1))


print("[" + ",\n".join(json.dumps(case) for case in cases()) + "]")
