"""Logistic regression with an L2 penalty: the linear probe of every measure of what activations tell. Symbols: n rows, k columns, y true or false.

    minimise over w, b:   |w|^2 / 2 + C sum_i a_i log(1 + exp(-s_i (w . x_i + b))),     s_i = +1 where y_i, else -1; a_i weights, 1 by default

b is not penalised. With both classes present the minimum is unique: no seed, no order of rows and no choice of solver is part of the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

Matrix = NDArray[np.float64]
Truth = NDArray[np.bool_]

_MOST_STEPS = 1000
_GRADIENT = 1e-7  # largest slope at the minimum, where slopes at the start are of the order of 1 (see `_rescaled`)


@dataclass(frozen=True, eq=False, slots=True)
class Probe:
    """A linear probe: logit = w . x + b, true where it is positive.

    weights: [k] in the unit of 1 / x; bias: one number."""

    weights: Matrix
    bias: float

    def logits(self, x: ArrayLike) -> Matrix:
        """w . x + b of every row of [n, k]; [n]. ValueError for another width."""
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.weights.size:
            raise ValueError(
                f"this probe reads [n, {self.weights.size}], got {rows.shape}; take the columns it was fitted on"
            )
        return rows @ self.weights + self.bias

    def says(self, x: ArrayLike) -> Truth:
        """Whether the logit of every row is positive; [n]."""
        return self.logits(x) > 0


def fit_logistic(x: ArrayLike, y: ArrayLike, *, C: float = 1.0, balanced: bool = False) -> Probe:
    """The probe at the minimum above, by L-BFGS on centred and rescaled columns (the same minimum, reached in a few steps).

    x: [n, k] finite; y: [n] booleans, both values present; C: weight of the data against the penalty, above 0.
    balanced: a_i = n / (2 n_class), so that both classes weigh alike. Equals `sklearn.linear_model.LogisticRegression(C=C)`, and with
    `class_weight="balanced"` where balanced. ValueError for other input; ArithmeticError where the minimum was not reached in 1,000 steps."""
    rows, truth = check_rows(x, y)
    rows = rows.astype(np.float64)
    if not C > 0:
        raise ValueError(f"C weighs the data against the penalty and is above 0, got {C}; 1 is usual")
    n, positives = truth.size, int(truth.sum())
    weight = np.where(truth, n / (2 * positives), n / (2 * (n - positives))) if balanced else np.ones(n)
    weight = C * weight
    mean = np.average(rows, axis=0, weights=weight)
    centred = rows - mean
    scale = 1 / np.sqrt(1 + np.square(centred).T @ weight / 4)  # the curvature of every column at w = 0 becomes 1
    bias_scale = 2 / np.sqrt(weight.sum())
    scaled, bias = _minimum(centred * scale, truth, weight, scale, bias_scale)
    weights = scaled * scale
    return Probe(weights, bias * bias_scale - float(mean @ weights))


def check_rows(x: ArrayLike, y: ArrayLike) -> tuple[NDArray[Any], Truth]:
    """x as [n, k] and y as [n] booleans. ValueError for shapes that do not fit, values that are no finite numbers, and one class only."""
    rows, truth = np.asarray(x), np.asarray(y)
    if rows.ndim != 2 or rows.size == 0 or truth.shape != rows.shape[:1]:
        raise ValueError(
            f"a probe wants rows [n, k], not empty, and one label a row; got {rows.shape} and {truth.shape}"
        )
    if truth.dtype != np.bool_:
        raise ValueError(f"labels say true or false, got an array of {truth.dtype}; compare: labels == 'one class'")
    if rows.dtype.kind not in "biuf":
        raise ValueError(f"a probe reads real numbers, got an array of {rows.dtype}")
    if not np.isfinite(rows).all():
        at = np.argwhere(~np.isfinite(rows))[0].tolist()
        raise ValueError(
            f"row {at[0]} holds {rows[at[0], at[1]]} in column {at[1]}; find the text that made it, do not drop it"
        )
    if truth.all() or not truth.any():
        raise ValueError(
            f"a probe tells two classes apart: all {truth.size} rows are {bool(truth[0])}; draw rows of the other class"
        )
    return rows, truth


def _minimum(design: Matrix, truth: Truth, weight: Matrix, scale: Matrix, bias_scale: float) -> tuple[Matrix, float]:
    """(t, c) where the penalised loss of w = t * scale, b = c * bias_scale is least."""
    signs, penalty = np.where(truth, 1.0, -1.0), scale**2

    def loss(theta: Matrix) -> tuple[float, Matrix]:
        t, c = theta[:-1], theta[-1]
        margin = signs * (design @ t + c * bias_scale)
        pull = -signs * weight * expit(-margin)
        gradient = np.append(penalty * t + design.T @ pull, bias_scale * pull.sum())
        return float(penalty @ t**2 / 2 + weight @ np.logaddexp(0, -margin)), gradient

    slope = _GRADIENT * np.sqrt(weight.sum())
    options = {"maxiter": _MOST_STEPS, "maxfun": 4 * _MOST_STEPS, "gtol": slope, "ftol": 0.0, "maxcor": 20}
    found: Any = minimize(loss, np.zeros(scale.size + 1), jac=True, method="L-BFGS-B", options=options)
    # the line search gives up where rounding of the loss hides the last descent; what counts is how flat it is there
    steepest = float(np.abs(found.jac).max())
    if not steepest <= 100 * slope:
        raise ArithmeticError(
            f"logistic regression on {truth.size} rows of {scale.size} columns did not reach its minimum in {found.nit} steps "
            f"(slope {steepest:.2g}, wanted {slope:.2g}): {found.message}; are some columns 10^8 times larger than others?"
        )
    return found.x[:-1], float(found.x[-1])
