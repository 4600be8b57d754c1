"""All metrics of a rollout, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.domains import Cloud, Domain, Grid
from sciml.metrics.pointwise import crmse, max_error, nrmse, rmse, vrmse
from sciml.metrics.spectral import band_gain, log_spectral_distance, resolved_shells, spectrum
from sciml.metrics.stability import invariant_drift
from sciml.metrics.temporal import correlation, correlation_time, gmean
from sciml.trajectory import Field, channel_names


class MetricRow(NamedTuple):
    """One number of a tidy table."""

    metric: str
    lead_time: float
    sample: int
    value: float


class RolloutMetrics:
    """Score a rollout against its reference while both are computed, keeping numbers and no states.

        metrics = RolloutMetrics(grid, dt, pde.fields, initial=u0, invariants=lambda u: pde.invariants(u, grid))
        for pred, ref in zip(iterate(model, u0, n), iterate(solver, u0, n)):   # after dropping u0 itself
            metrics.update(pred, ref)

    A trajectory fails at its first frame that is not finite or whose norm exceeds `factor` times the
    largest norm of its reference so far; from then on all its metrics are NaN and "valid" is 0. Every
    sample keeps its own numbers: reduce them with `aggregate`.

    Metrics per frame: "nrmse" (channels together), "rmse", "vrmse", "max_error" and "mean_error" (each a
    mean over channels, and by channel as "vrmse_<channel>" where there are several), "correlation",
    "valid"; on grids "spectral_distance" and "high_band_gain"; per invariant "drift_<name>" and
    "reference_drift_<name>".

    Args:
        domain: where the states live; cells or nodes are weighted by their volumes, particles equally.
        dt: time between updates [time].
        fields: the quantities behind the channels.
        initial: the states (B, C, *points) before the first update; needed for invariants.
        invariants: state (B, C, *points) -> name -> (B,). Drifts are relative to the larger of |I(u0)| and
            |I(|u0|)|, so that a momentum that starts at zero has a size.
        factor: see above.
        thresholds: of the correlation times.

    Raises:
        ValueError: the states' shape does not fit, or invariants come without an initial state.
    """

    def __init__(
        self,
        domain: Domain,
        dt: float,
        fields: Sequence[Field],
        *,
        initial: Tensor | None = None,
        invariants: Callable[[Tensor], Mapping[str, Tensor]] | None = None,
        factor: float = 10.0,
        thresholds: Sequence[float] = (0.8, 0.9),
    ) -> None:
        if not dt > 0:
            raise ValueError(f"RolloutMetrics got dt={dt}; expected a positive time step.")
        if invariants is not None and initial is None:
            raise ValueError("RolloutMetrics got invariants but no initial state to compare them with.")
        self.domain = domain
        self.dt = float(dt)
        self.channels = channel_names(fields, domain.dimension)
        self.factor = float(factor)
        self.thresholds = tuple(thresholds)
        self._weights = None if isinstance(domain, Cloud) else domain.weights()
        self._grid = domain if isinstance(domain, Grid) else None
        self._invariants = invariants
        self._values: dict[str, list[Tensor]] = {}
        self._spectra: tuple[Tensor, Tensor] | None = None
        self._alive: Tensor | None = None
        self._largest: Tensor | None = None
        self._first: dict[str, tuple[Tensor, Tensor]] = {}
        if initial is not None:
            u = self._checked(initial, "an initial state")
            self._largest = u.flatten(1).norm(dim=1)
            if invariants is not None:
                sizes = invariants(u.abs())
                self._first = {name: (value, sizes[name].abs()) for name, value in invariants(u).items()}

    def _checked(self, u: Tensor, what: str) -> Tensor:
        fits = u.ndim >= 3 and u.shape[1] == len(self.channels)
        if not fits or (not isinstance(self.domain, Cloud) and tuple(u.shape[2:]) != self.domain.shape):
            points = "(N,)" if isinstance(self.domain, Cloud) else self.domain.shape
            raise ValueError(
                f"RolloutMetrics got {what} of shape {tuple(u.shape)}; expected (B, {len(self.channels)}, "
                f"*points) with channels {self.channels} and points {points}."
            )
        return u.detach().to(torch.float64)

    def update(self, pred: Tensor, ref: Tensor) -> None:
        """Score the next frame, (B, C, *points) twice."""
        p, r = self._checked(pred, "a prediction"), self._checked(ref, "a reference")
        if p.shape != r.shape or (self._alive is not None and len(self._alive) != len(p)):
            raise ValueError(
                f"RolloutMetrics got a prediction of shape {tuple(p.shape)} and a reference of "
                f"{tuple(r.shape)}; both need the same samples at every update."
            )
        norm = r.flatten(1).norm(dim=1)
        self._largest = norm if self._largest is None else torch.maximum(self._largest, norm)
        ok = torch.isfinite(p.flatten(1)).all(dim=1) & (
            p.flatten(1).norm(dim=1) <= self.factor * self._largest
        )
        self._alive = ok if self._alive is None else self._alive & ok
        frame = self._frame(p.unsqueeze(1), r.unsqueeze(1))
        for name, (first, size) in self._first.items():
            for prefix, u in (("drift_", p), ("reference_drift_", r)):
                assert self._invariants is not None  # `_first` is empty without
                value = self._invariants(u)[name]
                frame[prefix + name] = invariant_drift(value.unsqueeze(1), first, size)[:, 0]
        for name, values in frame.items():
            kept = values if name.startswith("reference_") else torch.where(self._alive, values, torch.nan)
            self._values.setdefault(name, []).append(kept)
        self._values.setdefault("valid", []).append(self._alive.to(torch.float64))

    def _frame(self, p: Tensor, r: Tensor) -> dict[str, Tensor]:
        """Metrics of one frame, (B, 1, C, *points) twice -> name -> (B,)."""
        w = None if self._weights is None else self._weights.to(p.device)
        out = {"nrmse": nrmse(p, r, w, mode="joint")[:, 0, 0], "correlation": correlation(p, r, w)[:, 0]}
        by_channel = {
            "rmse": rmse(p, r, w),
            "vrmse": vrmse(p, r, w),
            "max_error": max_error(p, r),
            "mean_error": crmse(p, r, w),
        }
        if self._grid is not None:
            both = (spectrum(p, self._grid)[:, 0], spectrum(r, self._grid)[:, 0])
            inner = slice(1, resolved_shells(self._grid) + 1)
            pair = (both[0][..., inner], both[1][..., inner])
            by_channel["spectral_distance"] = log_spectral_distance(*pair).unsqueeze(1)
            by_channel["high_band_gain"] = band_gain(*pair).unsqueeze(1)
            assert self._alive is not None  # set by `update` before
            alive = self._alive.reshape(-1, 1, 1)
            both = (torch.where(alive, both[0], 0.0), torch.where(alive, both[1], 0.0))
            before = self._spectra
            self._spectra = both if before is None else (before[0] + both[0], before[1] + both[1])
        for name, values in by_channel.items():
            out[name] = values[:, 0].mean(dim=1)
            if len(self.channels) > 1:
                for channel, column in zip(self.channels, values[:, 0].unbind(dim=1), strict=True):
                    out[f"{name}_{channel}"] = column
        return out

    def __len__(self) -> int:
        return len(self._values.get("valid", ()))

    def _started(self) -> None:
        if not len(self):
            raise ValueError("RolloutMetrics has scored no frame yet; call update first.")

    @property
    def lead_times(self) -> Tensor:
        """Time of each scored frame (T,), the first at dt."""
        return torch.arange(1, len(self) + 1, dtype=torch.float64) * self.dt

    @property
    def valid(self) -> Tensor:
        """Which frames are before the blow-up, (B, T) of bool."""
        return self.curves()["valid"].bool()

    def curves(self) -> dict[str, Tensor]:
        """Every metric against lead time, name -> (B, T), NaN after a blow-up."""
        self._started()
        return {name: torch.stack(values, dim=1).cpu() for name, values in self._values.items()}

    def summary(self) -> dict[str, Tensor]:
        """One number per trajectory, name -> (B,).

        "blow_up_time" (lead time of the last valid frame), "correlation_time_<threshold>" and
        "gmean_nrmse" of the first hundred frames; both times are censored at the end of the rollout.
        """
        curves = self.curves()
        out = {"blow_up_time": curves["valid"].sum(dim=1) * self.dt}
        for threshold in self.thresholds:
            out[f"correlation_time_{threshold:g}"] = correlation_time(
                curves["correlation"], self.dt, threshold
            )
        out["gmean_nrmse"] = gmean(curves["nrmse"])
        return out

    def spectra(self) -> tuple[Tensor, Tensor]:
        """Spectra (B, C, S) of prediction and reference, averaged over the valid frames.

        Raises:
            ValueError: the domain is not a grid, or nothing was scored.
        """
        self._started()
        if self._spectra is None:
            raise ValueError(f"RolloutMetrics has no spectra on a {type(self.domain).__name__}.")
        count = self.curves()["valid"].sum(dim=1).clamp_min(1.0).reshape(-1, 1, 1)
        return self._spectra[0].cpu() / count, self._spectra[1].cpu() / count

    def rows(self) -> list[MetricRow]:
        """The tidy table: per-frame metrics at their lead times, then those of `summary` at the last."""
        times = self.lead_times.tolist()
        out = []
        for name, values in self.curves().items():
            for sample, line in enumerate(values.tolist()):
                out += [MetricRow(name, t, sample, value) for t, value in zip(times, line, strict=True)]
        for name, numbers in self.summary().items():
            out += [MetricRow(name, times[-1], i, value) for i, value in enumerate(numbers.tolist())]
        return out
