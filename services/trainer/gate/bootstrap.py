"""Paired bootstrap over rows: is a difference between two models on the same rows more than noise?

B. Efron and R. Tibshirani, An Introduction to the Bootstrap (1993), chapter 13, the percentile interval; paired as in P. Koehn,
Statistical Significance Tests for Machine Translation Evaluation (EMNLP 2004).
"""

from collections.abc import Sequence

import msgspec
import numpy as np

_BATCH = 1000


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A mean difference with what resampling says of it.

    Attributes:
        mean: over all rows, weighted.
        low: with the stated confidence the true mean is not below this (one-sided).
        high: nor, by itself, above this.
        rows: how many were compared.
    """

    mean: float
    low: float
    high: float
    rows: int


def paired_difference(
    differences: Sequence[float], weights: Sequence[float], *, samples: int, confidence: float, seed: int
) -> Difference:
    """The weighted mean of per-row differences and its percentile bounds.

    Args:
        differences: N of them, one per row.
        weights: N positive weights, such as the rows' tokens.
        samples: how often the rows are drawn anew, with replacement.
        confidence: of each bound by itself, such as 0.95.
        seed: of the drawing, so that the same sheets give the same verdict.
    """
    values, weight = np.asarray(differences, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    count = len(values)
    if not count:
        return Difference(mean=0.0, low=0.0, high=0.0, rows=0)
    random = np.random.default_rng(seed)
    means = np.empty(samples)
    for start in range(0, samples, _BATCH):  # so many rows times samples need not fit in memory at once
        drawn = random.integers(0, count, size=(min(_BATCH, samples - start), count))
        means[start : start + len(drawn)] = (values[drawn] * weight[drawn]).sum(axis=1) / weight[drawn].sum(axis=1)
    low, high = np.quantile(means, [1.0 - confidence, confidence])
    return Difference(mean=float(np.average(values, weights=weight)), low=float(low), high=float(high), rows=count)
