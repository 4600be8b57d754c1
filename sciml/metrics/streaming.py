"""All metrics of a rollout, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sciml.domains import Cloud, Domain, Grid
from sciml.metrics.spectral import band_gain, log_spectral_distance, resolved_shells, spectrum
from sciml.metrics.stability import drift_slope, first_run, invariant_drift, moved
from sciml.metrics.temporal import correlation_time, gmean
from sciml.trajectory import Field, channel_names

HIDDEN = "."  # begins the names of numbers that are kept for `summary` and are no metrics themselves

Invariants = Callable[[Tensor], Mapping[str, Tensor]]


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
    mean over channels, and by channel as "vrmse_<channel>" where there are several), "correlation", "movement" (change
    since the frame before over that of the reference), "valid"; on grids "spectral_distance" and "high_band_gain"; per
    invariant "drift_<name>" and "reference_drift_<name>"; those of `extra` under their names. States without space
    have no "vrmse".

    Fields are worked on in their own precision, single or double, and their sums go on in double: in single precision
    metrics carry relative errors of about 1e-6. Each state is transformed once for all spectral metrics. Rollouts of
    any length keep one row of numbers per scored frame, and the last pair of states.

    Args:
        domain: where the states live; cells or nodes are weighted by their volumes, particles equally.
        dt: time between updates [time].
        fields: the quantities behind the channels.
        initial: the states (B, C, *points) before the first update; needed for invariants.
        invariants: state (B, C, *points) -> name -> (B,), called in double precision. Drifts are relative to the larger
            of |I(u0)| and |I(|u0|)|, so that a momentum that starts at zero has a size.
        factor: see above.
        thresholds: of the correlation times.
        every: score every that many frames; the frames between are only watched for a blow-up.
        extra: further metrics by name, (pred, ref) (B, 1, C, *points) -> (B, 1, ...), averaged over what is left.

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
        invariants: Invariants | None = None,
        factor: float = 10.0,
        thresholds: Sequence[float] = (0.8, 0.9),
        every: int = 1,
        extra: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
    ) -> None:
        if not dt > 0:
            raise ValueError(f"RolloutMetrics got dt={dt}; expected a positive time step.")
        if every < 1:
            raise ValueError(f"RolloutMetrics got every={every}; expected at least 1.")
        if invariants is not None and initial is None:
            raise ValueError("RolloutMetrics got invariants but no initial state to compare them with.")
        self.domain = domain
        self.dt = float(dt)
        self.channels = channel_names(fields, domain.dimension)
        self.factor = float(factor)
        self.thresholds = tuple(thresholds)
        self.every = int(every)
        self._grid = domain if isinstance(domain, Grid) else None
        self._weights = None if isinstance(domain, Cloud) else _unequal(domain.weights())
        self._invariants = invariants
        self._extra = dict(extra or {})
        self._names: tuple[str, ...] = ()
        self._masked = torch.empty(0, 1, dtype=torch.bool)  # which metrics end with the trajectory
        self._table = torch.empty(0, 0, 0, dtype=torch.float64)  # (capacity, metrics, B)
        self._scored = 0
        self._frames = 0
        self._lived = torch.empty(0, dtype=torch.int64)
        self._alive: Tensor | None = None
        self._largest: Tensor | None = None
        self._resolved = 0 if self._grid is None else resolved_shells(self._grid)
        self._spectra: Tensor | None = None  # (2, B, C, S), sums over the valid frames
        self._latest: Tensor | None = None
        self._previous: tuple[Tensor, Tensor] | None = None
        self._first: dict[str, tuple[Tensor, Tensor]] = {}
        self._buffers: dict[int, Tensor] = {}
        if initial is not None:
            u = self._checked(initial, "an initial state")
            self._largest = _norm(u)
            self._previous = (u, u)
            if invariants is not None:
                exact = u.double()
                sizes = invariants(exact.abs())
                self._first = {
                    name: (value, sizes[name].abs()) for name, value in invariants(exact).items()
                }

    def _checked(self, u: Tensor, what: str) -> Tensor:
        fits = u.ndim >= 2 and u.shape[1] == len(self.channels)
        points = u.shape[2:]
        fits = fits and (
            len(points) == 1 if isinstance(self.domain, Cloud) else points == self.domain.shape
        )
        if not fits:
            expected = "(N,)" if isinstance(self.domain, Cloud) else self.domain.shape
            raise ValueError(
                f"RolloutMetrics got {what} of shape {tuple(u.shape)}; expected (B, {len(self.channels)}, "
                f"*points) with channels {self.channels} and points {expected}."
            )
        u = u.detach()
        return u if u.dtype in (torch.float32, torch.float64) else u.float()

    def update(self, pred: Tensor, ref: Tensor) -> None:
        """Score the next frame, (B, C, *points) twice."""
        p, r = self._checked(pred, "a prediction"), self._checked(ref, "a reference")
        if p.shape != r.shape or (self._alive is not None and len(self._alive) != len(p)):
            raise ValueError(
                f"RolloutMetrics got a prediction of shape {tuple(p.shape)} and a reference of "
                f"{tuple(r.shape)}; both need the same samples at every update."
            )
        if p.dtype != r.dtype:
            p, r = p.double(), r.double()
        with torch.no_grad():
            self._update(p, r)

    def _update(self, p: Tensor, r: Tensor) -> None:
        norm = _norm(r)
        self._largest = norm if self._largest is None else torch.maximum(self._largest, norm)
        size = _norm(p)  # not finite if any value is not
        ok = torch.isfinite(size) & (size <= self.factor * self._largest)
        if self._alive is None:
            self._alive = ok
            self._lived = torch.zeros_like(ok, dtype=torch.int64)
        else:
            self._alive = self._alive & ok
        self._lived = self._lived + self._alive
        self._frames += 1
        if self._frames % self.every == 0:
            self._keep(p, r, self._alive)
        self._previous = (p, r)

    def _keep(self, p: Tensor, r: Tensor, alive: Tensor) -> None:
        """Write one row of the table, which doubles when it is full."""
        together, by_channel = self._pointwise(p, r)
        if self._grid is not None:
            by_channel.update(self._spectral(p, r))
        hidden = {name: by_channel.pop(name) for name in list(by_channel) if name.startswith(HIDDEN)}
        together.update(self._drifts(p, r))
        for name, metric in self._extra.items():
            together[name] = metric(p.unsqueeze(1), r.unsqueeze(1)).reshape(len(p), -1).mean(dim=1).double()
        together["valid"] = alive.double()
        # A few large tensors: many small ones would take as long as the arithmetic on the fields.
        columns = torch.stack([*by_channel.values(), *hidden.values()])  # (K, B, C)
        blocks = [torch.stack(list(together.values())), columns[: len(by_channel)].mean(dim=2)]
        several = len(self.channels) > 1
        kept = columns if several else columns[len(by_channel) :]
        row = torch.cat([*blocks, kept.transpose(1, 2).reshape(-1, len(p))])
        if not self._names:
            split = [*by_channel, *hidden] if several else list(hidden)
            named = [f"{name}_{channel}" for name in split for channel in self.channels]
            self._names = (*together, *by_channel, *named)
            masked = [name != "valid" and "reference_" not in name for name in self._names]
            self._masked = torch.tensor(masked, device=p.device).unsqueeze(1)
            self._table = row.new_empty(16, *row.shape)
        if self._scored == len(self._table):
            room = self._table.new_empty(max(16, self._scored), *row.shape)
            self._table = torch.cat([self._table, room])
        self._table[self._scored] = torch.where(self._masked & ~alive, torch.nan, row)
        self._scored += 1

    def _drifts(self, p: Tensor, r: Tensor) -> dict[str, Tensor]:
        """Relative change of the invariants of prediction and reference, name -> (B,)."""
        out = {}
        if self._first:
            assert self._invariants is not None  # `_first` is empty without
            for prefix, u in (("drift_", p), ("reference_drift_", r)):
                found = self._invariants(u.double())
                for name, (first, scale) in self._first.items():
                    drift = invariant_drift(found[name].unsqueeze(1), first, scale)
                    out[prefix + name] = drift[:, 0].double()
        return out

    def _pointwise(self, p: Tensor, r: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Metrics of one frame that need no transform: name -> (B,), and name -> (B, C)."""
        flat_p, flat_r = (u.reshape(*u.shape[:2], -1) for u in (p, r))
        count = flat_p.shape[2]
        weights = None if self._weights is None else self._weights.to(flat_p)

        def mean(u: Tensor) -> Tensor:
            # The sum of torch is pairwise, so that single precision loses little before the number goes on in double.
            return (u.mean(dim=2) if weights is None else u @ weights).double()

        means = torch.stack([mean(flat_p), mean(flat_r)])
        single = means.to(flat_p.dtype).unsqueeze(3)
        # Variances from deviations: a difference of large squares would lose them in single precision.
        away_p = torch.sub(flat_p, single[0], out=self._work(0, flat_p))
        away_r = torch.sub(flat_r, single[1], out=self._work(1, flat_r))
        work = self._work(2, flat_p)
        var_p, var_r, cov = (
            mean(torch.mul(a, b, out=work))
            for a, b in ((away_p, away_p), (away_r, away_r), (away_p, away_r))
        )
        error = torch.sub(flat_p, flat_r, out=away_p)
        mean_error, mean_r = mean(error).abs(), means[1]
        square_error = mean(torch.mul(error, error, out=work))
        square_r = var_r + mean_r.square()
        # Pearson over channels and points together: within the channels, and between their means.
        between = means - means.mean(dim=2, keepdim=True)
        sums = torch.stack(
            [
                square_error,
                square_r,
                var_p + between[0].square(),
                var_r + between[1].square(),
                cov + between[0] * between[1],
            ]
        ).sum(dim=2)
        tiny = torch.finfo(torch.float64).tiny
        out = {
            "nrmse": (sums[0] / sums[1].clamp_min(tiny)).sqrt(),
            "correlation": sums[4] / (sums[2].sqrt() * sums[3].sqrt()).clamp_min(tiny),
            "movement": self._movement(p, r),
        }
        by_channel = {"rmse": square_error.sqrt()}
        if count > 1:
            concentration = 1 / count if weights is None else float(weights.double().square().sum())
            by_channel["vrmse"] = (square_error / (var_r / (1 - concentration) + 1e-7)).sqrt()
        by_channel["max_error"] = error.abs_().amax(dim=2).double()
        by_channel["mean_error"] = mean_error
        by_channel[f"{HIDDEN}square_error"] = square_error
        by_channel[f"{HIDDEN}reference_mean"] = mean_r
        by_channel[f"{HIDDEN}reference_square"] = square_r
        return out, by_channel

    def _movement(self, p: Tensor, r: Tensor) -> Tensor:
        if self._previous is None:
            return torch.full((len(p),), torch.inf, dtype=torch.float64, device=p.device)
        before_p, before_r = self._previous
        work = self._work(2, p)
        change = _norm(torch.sub(p, before_p, out=work)).double()
        return moved(change, _norm(torch.sub(r, before_r, out=work)).double())

    def _work(self, slot: int, like: Tensor) -> Tensor:
        """One of a few buffers that all frames share: fresh memory for every difference would cost more than it."""
        kept = self._buffers.get(slot)
        if (
            kept is None
            or kept.dtype != like.dtype
            or kept.device != like.device
            or kept.numel() != like.numel()
        ):
            kept = self._buffers[slot] = torch.empty(like.numel(), dtype=like.dtype, device=like.device)
        return kept.view(like.shape)

    def _spectral(self, p: Tensor, r: Tensor) -> dict[str, Tensor]:
        """Metrics of one frame from the two spectra, name -> (B, C)."""
        assert self._grid is not None and self._alive is not None  # `update` sees to both
        both = torch.stack([spectrum(u.unsqueeze(1), self._grid)[:, 0] for u in (p, r)]).double()
        self._latest = both
        counted = torch.where(self._alive.reshape(-1, 1, 1), both, 0.0)
        self._spectra = counted if self._spectra is None else self._spectra + counted
        pair = both[..., 1 : self._resolved + 1]
        return {"spectral_distance": log_spectral_distance(*pair), "high_band_gain": band_gain(*pair)}

    def __len__(self) -> int:
        return self._scored

    @property
    def frames(self) -> int:
        """Number of updates, scored or not."""
        return self._frames

    def _started(self) -> None:
        if not len(self):
            raise ValueError("RolloutMetrics has scored no frame yet; call update first.")

    @property
    def alive(self) -> Tensor:
        """Which trajectories have not blown up yet, (B,) of bool."""
        if self._alive is None:
            raise ValueError("RolloutMetrics has scored no frame yet; call update first.")
        return self._alive

    @property
    def lived(self) -> Tensor:
        """Number of frames before the blow-up, (B,) of int64, every frame counted."""
        return self._lived.cpu()

    @property
    def lead_times(self) -> Tensor:
        """Time of each scored frame (T,), the first at dt times `every`."""
        return torch.arange(1, len(self) + 1, dtype=torch.float64) * (self.dt * self.every)

    @property
    def valid(self) -> Tensor:
        """Which scored frames are before the blow-up, (B, T) of bool."""
        return self._column("valid").bool()

    def _column(self, name: str) -> Tensor:
        """One metric against lead time, (B, T)."""
        self._started()
        return self._table[: self._scored, self._names.index(name)].T.cpu()

    def curves(self) -> dict[str, Tensor]:
        """Every metric against lead time, name -> (B, T), NaN after a blow-up."""
        self._started()
        table = self._table[: self._scored].permute(1, 2, 0).cpu()
        pairs = zip(self._names, table, strict=True)
        return {name: values.clone() for name, values in pairs if not name.startswith(HIDDEN)}

    def valid_prediction_time(self, threshold: float = 0.4, exponent: float | None = None) -> Tensor:
        """Lead time of the last scored frame before the standardised error exceeds a threshold, (B,).

        As `sciml.metrics.valid_prediction_time` of states standardised channel by channel with the mean and the
        deviation of all reference states scored: the error is then sqrt(mean_c <e_c^2> / sigma_c^2). In the unit of dt,
        or in Lyapunov times with the leading `exponent` of the reference system. Censored at the last scored frame.
        """
        error = torch.zeros(len(self._lived), len(self), dtype=torch.float64)
        for channel in self.channels:
            mean = self._column(f"{HIDDEN}reference_mean_{channel}").mean()
            variance = self._column(f"{HIDDEN}reference_square_{channel}").mean() - mean.square()
            error += self._column(f"{HIDDEN}square_error_{channel}") / variance.clamp_min(
                torch.finfo(torch.float64).tiny
            )
        beyond = ~((error / len(self.channels)).sqrt() <= threshold)  # NaN after a blow-up is beyond
        index = torch.arange(len(self))
        first = torch.where(beyond, index, len(self)).amin(dim=1)
        return first.double() * (self.dt * self.every * (1.0 if exponent is None else exponent))

    def summary(self) -> dict[str, Tensor]:
        """One number per trajectory, name -> (B,).

        "blow_up_time" (lead time of the last valid frame), "correlation_time_<threshold>", "freeze_time" (where ten
        scored frames in a row begin that move less than a hundredth of the reference), "valid_prediction_time_0.4" and
        "gmean_nrmse" of the first hundred scored frames; times are censored at the end of the rollout. Per invariant
        "drift_max_<name>" and "drift_slope_<name>" [1/time], with those of the reference.
        """
        curves = self.curves()
        spacing = self.dt * self.every
        out = {"blow_up_time": self.lived.double() * self.dt}
        for threshold in self.thresholds:
            out[f"correlation_time_{threshold:g}"] = correlation_time(
                curves["correlation"], spacing, threshold
            )
        still = first_run(curves["movement"] < 0.01, 10)
        frozen = (still + 1) * spacing - self.dt  # the frame before the first that hardly moved
        out["freeze_time"] = torch.where(still < len(self), frozen, self._frames * self.dt)
        out["valid_prediction_time_0.4"] = self.valid_prediction_time()
        out["gmean_nrmse"] = gmean(curves["nrmse"])
        for prefix in ("drift_", "reference_drift_"):
            for name in self._first:
                drift = curves[prefix + name]
                finite = torch.where(torch.isfinite(drift), drift, -torch.inf).amax(dim=1)
                out[f"{prefix}max_{name}"] = torch.where(finite >= 0, finite, torch.nan)
                out[f"{prefix}slope_{name}"] = drift_slope(drift, spacing)
        return out

    def spectra(self) -> tuple[Tensor, Tensor]:
        """Spectra (B, C, S) of prediction and reference, averaged over the valid frames.

        Raises:
            ValueError: the domain is not a grid, or nothing was scored.
        """
        self._started()
        if self._spectra is None:
            raise ValueError(f"RolloutMetrics has no spectra on a {type(self.domain).__name__}.")
        count = self._column("valid").sum(dim=1).clamp_min(1.0).reshape(-1, 1, 1)
        pred, ref = self._spectra.cpu() / count
        return pred, ref

    def latest_spectra(self) -> tuple[Tensor, Tensor]:
        """Spectra (B, C, S) of prediction and reference at the last scored frame, at no further cost.

        Raises:
            ValueError: the domain is not a grid, or nothing was scored since these metrics were made or loaded.
        """
        self._started()
        if self._latest is None:
            raise ValueError(f"RolloutMetrics has no spectra on a {type(self.domain).__name__}.")
        pred, ref = self._latest
        return pred, ref

    def merge(self, other: RolloutMetrics) -> None:
        """Append the samples of another chunk of initial states, scored at the same lead times.

        Raises:
            ValueError: the other one has other metrics, other lead times or another channel.
        """
        mine = (self.dt, self.every, self.channels, self._names, self._frames, self._scored)
        theirs = (other.dt, other.every, other.channels, other._names, other._frames, other._scored)
        if mine != theirs:
            raise ValueError(
                f"RolloutMetrics cannot merge {other._scored} frames of {other._names} every {other.every} x "
                f"{other.dt} into {self._scored} of {self._names} every {self.every} x {self.dt}; score both alike."
            )
        self._started()
        device = self._table.device
        self._table = torch.cat([m._table[: m._scored].to(device) for m in (self, other)], dim=2)
        self._lived = torch.cat([self._lived, other._lived.to(device)])
        self._alive = torch.cat([self.alive, other.alive.to(device)])
        self._largest = _joined(self._largest, other._largest)
        self._spectra = _joined(self._spectra, other._spectra, 1)
        self._latest = _joined(self._latest, other._latest, 1)
        self._previous = _joined_pair(self._previous, other._previous)
        self._first = {
            name: (
                torch.cat([first, other._first[name][0].to(device)]),
                torch.cat([size, other._first[name][1].to(device)]),
            )
            for name, (first, size) in self._first.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """All that `update` has gathered, as tensors and plain values, to be saved with the rollout's last state."""
        return {
            "dt": self.dt,
            "every": self.every,
            "channels": list(self.channels),
            "names": list(self._names),
            "masked": self._masked,
            "table": self._table[: self._scored].clone(),
            "frames": self._frames,
            "lived": self._lived,
            "alive": self._alive,
            "largest": self._largest,
            "spectra": self._spectra,
            "previous": self._previous,
            "first": dict(self._first),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            ValueError: it was taken with other channels or another time step.
        """
        mine = (self.dt, self.every, list(self.channels))
        theirs = (state["dt"], state["every"], list(state["channels"]))
        if mine != theirs:
            raise ValueError(
                f"RolloutMetrics with (dt, every, channels) = {mine} got the state of one with {theirs}."
            )
        self._names = tuple(state["names"])
        self._masked = state["masked"]
        self._table = state["table"].clone()
        self._scored = len(self._table)
        self._frames = int(state["frames"])
        self._lived = state["lived"]
        self._alive = state["alive"]
        self._largest = state["largest"]
        self._spectra = state["spectra"]
        self._previous = state["previous"]
        self._first = dict(state["first"])
        self._latest = None

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


def _norm(u: Tensor) -> Tensor:
    """Euclidean norm of each sample (B,)."""
    return torch.linalg.vector_norm(u.reshape(len(u), -1), dim=1)


def _unequal(weights: Tensor) -> Tensor | None:
    """Weights (N,) that add up to one, or None if they are all the same."""
    flat = weights.flatten()
    return None if bool((flat == flat[0]).all()) else flat / flat.sum()


def _joined(first: Tensor | None, second: Tensor | None, dim: int = 0) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second.to(first.device)], dim=dim)


def _joined_pair(
    first: tuple[Tensor, Tensor] | None, second: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor] | None:
    if first is None or second is None:
        return None
    return torch.cat([first[0], second[0].to(first[0])]), torch.cat([first[1], second[1].to(first[1])])
