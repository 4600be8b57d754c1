"""Experts that combine the same basis functions, each so that an equation's residual is smallest at its own points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.constraints.least_squares import Backward, LeastSquares, solve_least_squares
from sciml.constraints.partitions import BlockPartition, Partition
from sciml.constraints.pointwise import PointwiseResidual
from sciml.constraints.several_processes import common, gathered, rank_and_size

Initial = Literal["rows", "exact"]
Shown = Literal["all", "own"]
Unconverged = Literal["detach", "drop"]

# Keeps the slope of a root at zero finite.
_TINY = 1e-24


@dataclass(frozen=True)
class EquationFit:
    """Solutions of a batch, and how good they are. Sizes are those of root mean squares in units of u.

    Attributes:
        u: (B, T, 1, *points).
        coefficients: w (B, K, N), of each expert.
        residual: of the equation at all points where it is asked for, times its `weight`, (B,); differentiable.
        initial, sides: by how much the start and the conditions on the sides are missed, (B,), the first relative to the
            size of the start; differentiable.
        sampled: residual at the points that each expert was given, (B, K).
        jump: difference of neighbouring experts where they meet, (B,); zero for a single one.
        iterations, gradient, condition, converged: of each search, (B, K), as in `LeastSquares`.
        counted: samples that a loss should count, (B,).
    """

    u: Tensor
    coefficients: Tensor
    residual: Tensor
    initial: Tensor
    sides: Tensor
    sampled: Tensor
    jump: Tensor
    iterations: Tensor
    gradient: Tensor
    condition: Tensor
    converged: Tensor
    counted: Tensor

    def report(self) -> str:
        """One sentence on what has not converged; empty where all has."""
        bad = ~self.converged
        if not bool(bad.any()):
            return ""
        samples = int(bad.any(dim=1).sum())
        return (
            f"{samples} of {len(bad)} samples have experts that did not converge ({int(bad.sum())} of {bad.numel()} "
            f"searches, gradients up to {float(self.gradient[bad].max()):.2g}, conditions up to "
            f"{float(self.condition[bad].max()):.2g})"
        )


class EquationExperts(nn.Module):
    """Combine basis functions on a grid of times and places so that an equation's residual is smallest.

        u = B w_k where expert k is responsible,    w_k = argmin mean |F|^2 + mean |start missed|^2 + mean |sides missed|^2

    F is taken at the points of expert k, or at `points` of them; conditions are those of the whole box. One expert is
    PI-HC; several, each with points and coefficients of its own, are PI-HC-MoE. All experts of all samples are searched
    for at once, in double precision (`solve_least_squares`), and with `backward="implicit"` gradients are those of the
    minima. The residual is as small as N functions allow, never zero: `EquationFit` says how small, also at points that no
    expert was given, and how far neighbours are apart.

    Where torch.distributed is initialised each process solves its share of the experts, whose number the processes must
    divide, and all get the whole solution and the gradients that a single process would have. They must be given the
    same functions, and generators in the same state.

    Args:
        residual: the equation, its grid, and the conditions on its sides.
        partition: who is responsible where; one expert for everything if left out.
        points: at which an expert asks for its equation: drawn anew at each call in training, always the same in
            evaluation; all that it has if left out, or if it has fewer.
        initial: "rows" makes the start a condition among others; "exact" takes u = u0 + growth (t/T) B w, which has it.
        growth: see above [1].
        zero_mean: subtract the mean over space from each function at each time; for fields whose mean is known to stay.
        shown: whether an expert sees the start and the sides as a whole or those at its own points.
        initial_weight, side_weight: of the root mean squares, beside one for the equation.
        neighbours: weight of agreement with the experts next to one, on the points to both sides of a face and thereby
            in value and slope. The search is then repeated `rounds` times towards the mean of what both had; independent
            within a round. 0 leaves faces open.
        rounds: see above.
        ridge, max_iterations, tolerance, backward: as of `solve_least_squares`.
        unconverged: samples with a search that has not converged have no gradient through their coefficients; "detach"
            counts them nevertheless, "drop" takes them out of `counted`.

    Raises:
        ValueError: an option is unknown, a number is out of range, or the partition does not fit.

    Negiar, Mahoney and Krishnapriyan, ICLR 2023 (arXiv 2207.08675); Chalapathi, Du and Krishnapriyan, ICLR 2024 (arXiv
    2402.13412), section 3.
    """

    def __init__(
        self,
        residual: PointwiseResidual,
        partition: Partition | None = None,
        points: int | None = None,
        *,
        initial: Initial = "rows",
        growth: float = 1.0,
        zero_mean: bool = False,
        shown: Shown = "all",
        initial_weight: float = 1.0,
        side_weight: float = 1.0,
        neighbours: float = 0.0,
        rounds: int = 1,
        ridge: float = 1e-4,
        max_iterations: int = 50,
        tolerance: float = 1e-9,
        backward: Backward = "implicit",
        unconverged: Unconverged = "detach",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("initial", initial, get_args(Initial)),
            ("shown", shown, get_args(Shown)),
            ("backward", backward, get_args(Backward)),
            ("unconverged", unconverged, get_args(Unconverged)),
        ):
            if value not in known:
                raise ValueError(f"EquationExperts got {name}={value!r}; expected one of {list(known)}.")
        if (points is not None and points < 1) or rounds < 1 or not growth > 0:
            raise ValueError(
                f"EquationExperts got points={points}, rounds={rounds}, growth={growth}; expected at least one point and "
                "round, and a positive growth."
            )
        if min(initial_weight, side_weight, neighbours, ridge) < 0:
            raise ValueError(
                f"EquationExperts got initial_weight={initial_weight}, side_weight={side_weight}, "
                f"neighbours={neighbours}, ridge={ridge}; expected zero or more of each."
            )
        self.residual = residual
        self.partition = partition or BlockPartition((1,) * len(residual.shape))
        self.points, self.initial, self.growth, self.zero_mean = points, initial, growth, zero_mean
        self.shown = shown
        self.initial_weight, self.side_weight = initial_weight, side_weight
        self.neighbours, self.rounds = neighbours, rounds
        self.ridge, self.max_iterations, self.tolerance = ridge, max_iterations, tolerance
        self.backward: Backward = backward
        self.unconverged = unconverged

        labels = self.partition.labels(residual.shape)
        where = residual.where.flatten().cpu()
        own = [((labels.flatten() == k) & where).nonzero().squeeze(1) for k in range(self.experts)]
        if min(len(index) for index in own) == 0:
            empty = [k for k, index in enumerate(own) if len(index) == 0]
            raise ValueError(
                f"EquationExperts got experts {empty} without a point at which the equation holds: the first time and "
                f"bounded sides have none. Take fewer blocks than {self.partition}."
            )
        index, mask = _padded(own)
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("own", index, persistent=False)  # (K, most)
        self.register_buffer("owned", mask, persistent=False)
        place, partner, meets = _faces(labels, self.experts)
        self.register_buffer("face", place, persistent=False)  # (K, s) points beside faces
        self.register_buffer("partner", partner, persistent=False)
        self.register_buffer("meets", meets, persistent=False)
        inside = residual.interior.flatten().nonzero().squeeze(1)
        self.register_buffer("inside", inside, persistent=False)  # places at which the start counts
        self.inside: Tensor
        self.register_buffer("row_weights", self._row_weights(labels), persistent=False)  # (K, rows)
        self.register_buffer("side_data", residual.side_data(), persistent=False)
        volumes = residual.grid.weights() / residual.grid.volume
        self.register_buffer("volumes", volumes, persistent=False)
        self.labels: Tensor
        self.own: Tensor
        self.owned: Tensor
        self.face: Tensor
        self.partner: Tensor
        self.meets: Tensor
        self.row_weights: Tensor
        self.side_data: Tensor
        self.volumes: Tensor

    @property
    def experts(self) -> int:
        """K."""
        return self.partition.count

    def _row_weights(self, labels: Tensor) -> Tensor:
        """Weights of the start's rows, where they are rows, and of the sides' for each expert."""
        parts = []
        start = labels[0].flatten()[self.inside] if self.initial == "rows" else labels.new_zeros(0)
        sides = labels.flatten()[self.residual.side_places()]
        for holder, weight in ((start, self.initial_weight), (sides, self.side_weight)):
            seen = torch.ones(self.experts, len(holder), dtype=torch.float64)
            if self.shown == "own":
                seen = (holder == torch.arange(self.experts).unsqueeze(1)).double()
            parts.append(weight * seen / seen.sum(dim=1, keepdim=True).clamp(min=1.0).sqrt())
        return torch.cat(parts, dim=1)

    def forward(
        self, basis: Tensor, start: Tensor, generator: torch.Generator | None = None
    ) -> EquationFit:
        """Solutions from basis functions (B, N, T, *points) and initial states (B, 1, *points).

        The generator draws the points in training, where an expert does not take all that it has.

        Raises:
            ValueError: shapes do not fit the residual's grid, or the processes do not divide the experts.
        """
        self._check(basis, start)
        functions, base = self._functions(basis.double(), start.double())
        z, offset = self._features(functions, base)
        rows, targets = self._conditions(functions, base, start.double())
        flat = functions.flatten(2)
        index, mask = self._drawn(generator)
        mine = self._mine()
        found, w = self._search(
            common(z),
            common(offset),
            common(rows),
            common(targets),
            common(flat),
            index[mine],
            mask[mine],
            mine,
        )
        u = self._combined(flat.unsqueeze(2), w)[:, 0]
        u = (u if base is None else u + base.flatten(1)).reshape(len(start), *self.residual.shape)
        r = self._weighted(self._combined(z, w) + offset)
        initial, sides = self._missed(u, start.double())
        converged = _by_expert(found.converged, len(start))
        enough = converged.all(dim=1) if self.unconverged == "drop" else torch.ones_like(converged[:, 0])
        return EquationFit(
            u.unsqueeze(2).to(start.dtype),
            w,
            _size(r),
            initial,
            sides,
            # The mean of a search is over squares that were divided by their number, and over places left empty.
            _by_expert(found.residual, len(start)).double() * index.shape[1] ** 0.5,
            self._jump(flat, w),
            _by_expert(found.iterations, len(start)),
            _by_expert(found.gradient, len(start)),
            _by_expert(found.condition, len(start)),
            converged,
            enough,
        )

    def measure(self, u: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Residual, missed start and missed sides of any u (B, T, 1, *points), (B,) each, as in `EquationFit`."""
        field = u[:, :, 0].double()
        z = self.residual.quantities(field).flatten(2)
        known = self.residual.known()
        r = self._weighted(z if known is None else z + known.flatten(1))
        return (_size(r), *self._missed(field, start.double()))

    def loss(
        self, residual: Tensor, initial: Tensor, sides: Tensor, counted: Tensor | None = None
    ) -> Tensor:
        """Sum of the three sizes (B,) in the weights of the search, mean over the samples that count."""
        each = residual + self.initial_weight * initial + self.side_weight * sides
        if counted is None:
            return each.mean()
        return torch.where(counted, each, 0.0).sum() / counted.sum().clamp(min=1)

    def _weighted(self, z: Tensor) -> Tensor:
        """Residuals (B, m) where the equation is asked for, in units of u, from quantities at all points."""
        where = self.residual.where.flatten()
        return (self.residual(z) * self.residual.weight.flatten())[:, where]

    def _functions(self, basis: Tensor, start: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is combined (B, N, T, *points), and what is there anyway (B, T, *points)."""
        if self.zero_mean:
            axes = tuple(range(3, basis.ndim))
            basis = basis - (basis * self.volumes).sum(dim=axes, keepdim=True)
        if self.initial == "rows":
            return basis, None
        time = self.residual.times - self.residual.times[0]
        ramp = self.growth * (time / time[-1]).reshape(-1, *[1] * self.residual.grid.dimension)
        return basis * ramp, start.expand(-1, basis.shape[2], *start.shape[2:])

    def _features(self, functions: Tensor, base: Tensor | None) -> tuple[Tensor, Tensor]:
        """Quantities of every function (B, N, F, n), and those that are there anyway (B, F, n)."""
        z = self.residual.quantities(functions.flatten(0, 1)).flatten(2).unflatten(0, functions.shape[:2])
        offset = (
            z.new_zeros(len(z), *z.shape[2:]) if base is None else self.residual.quantities(base).flatten(2)
        )
        known = self.residual.known()
        return z, offset if known is None else offset + known.flatten(1)

    def _conditions(self, functions: Tensor, base: Tensor | None, start: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, N, q) and what they should be (B, q), not yet weighted."""
        sides = self.residual.sides(functions.flatten(0, 1)).unflatten(0, functions.shape[:2])
        wanted = self.side_data.expand(len(start), -1)
        if base is not None:
            return sides, wanted - self.residual.sides(base)
        return (
            torch.cat((functions[:, :, 0].flatten(2)[..., self.inside], sides), dim=2),
            torch.cat((start.flatten(1)[:, self.inside], wanted), dim=1),
        )

    def _drawn(self, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Points of each expert (K, m), and which of them are there."""
        if self.points is None or self.points >= self.own.shape[1]:
            return self.own, self.owned
        if not self.training:
            generator = torch.Generator().manual_seed(0)
        device = None if generator is None else generator.device
        keys = torch.rand(self.own.shape, generator=generator, device=device).to(self.own.device)
        order = torch.where(self.owned, keys, -1.0).topk(self.points, dim=1).indices
        return self.own.gather(1, order), self.owned.gather(1, order)

    def _mine(self) -> slice:
        """Experts of this process."""
        rank, size = rank_and_size()
        if self.experts % size:
            raise ValueError(
                f"EquationExperts got {self.experts} experts for {size} processes; expected a number that they divide."
            )
        share = self.experts // size
        return slice(rank * share, (rank + 1) * share)

    def _search(
        self,
        z: Tensor,
        offset: Tensor,
        rows: Tensor,
        targets: Tensor,
        functions: Tensor,
        index: Tensor,
        mask: Tensor,
        mine: slice,
    ) -> tuple[LeastSquares, Tensor]:
        """What this process's experts find, gathered from all: searches in the order (expert, sample), and w (B, K, N)."""
        count, n = len(z), z.shape[1]
        scale = mask.double()  # the root of a sum of booleans would be single
        scale = scale / scale.sum(dim=1, keepdim=True).sqrt() * self.residual.weight.flatten()[index]
        scale = scale.repeat_interleave(
            count, dim=0
        )  # experts first, so that processes' parts are joined as they are
        own_rows = _per_expert(rows[:, :, None] * self.row_weights[mine], (2, 0, 3, 1))
        own_targets = _per_expert(targets[:, None] * self.row_weights[mine], (1, 0, 2))
        features = _per_expert(z[..., index], (3, 0, 2, 4, 1))
        known = _per_expert(offset[..., index], (2, 0, 1, 3))

        def equation(values: Tensor) -> Tensor:
            return scale * self.residual(values)

        def slopes(values: Tensor) -> Tensor:
            return scale.unsqueeze(1) * self.residual.slopes(values)

        # From zero: searches that began at what meets the conditions best, or at ones, ended in worse minima of
        # diffusion-sorption.
        begin: Tensor | None = None
        beside = _per_expert(functions[..., self.face[mine]], (2, 0, 3, 1))  # (K B, s, N)
        meets = self.meets[mine].double()
        meets = self.neighbours * meets / meets.sum(dim=1, keepdim=True).clamp(min=1.0).sqrt()
        meets = meets.repeat_interleave(count, dim=0)
        w: Tensor | None = None
        for _ in range(1 + (self.rounds if self.neighbours else 0)):
            all_rows, all_targets = own_rows, own_targets
            if w is not None:
                both = common(w)
                theirs = both[:, self.partner[mine]].transpose(0, 1).flatten(0, 1)  # (K B, s, N)
                ours = both[:, mine].transpose(0, 1).flatten(0, 1).unsqueeze(1)
                middle = (beside * (0.5 * (theirs + ours))).sum(dim=2)
                all_rows = torch.cat((own_rows, beside * meets.unsqueeze(2)), dim=1)
                all_targets = torch.cat((own_targets, middle * meets), dim=1)
            found = solve_least_squares(
                equation,
                features,
                all_rows,
                all_targets,
                start=begin,
                ridge=self.ridge,
                max_iterations=self.max_iterations,
                tolerance=self.tolerance,
                backward=self.backward,
                offset=known,
                slopes=slopes,
            )
            begin = found.coefficients.detach()
            w = gathered(found.coefficients).reshape(self.experts, count, n).transpose(0, 1)
        assert w is not None
        every = (found.residual, found.gradient, found.iterations, found.converged, found.condition)
        residual, gradient, iterations, converged, condition = (gathered(t) for t in every)
        return LeastSquares(w, residual, gradient, iterations, converged, condition), w

    def _combined(self, values: Tensor, w: Tensor) -> Tensor:
        """Each point's values by its own expert, (B, N, F, n) and (B, K, N) -> (B, F, n)."""
        if self.experts == 1:
            return torch.einsum("bnfi,bn->bfi", values, w[:, 0])
        labels = self.labels.flatten()
        order = labels.argsort(stable=True)
        parts = []
        for k, place in enumerate(order.split(labels.bincount(minlength=self.experts).tolist())):
            parts.append(torch.einsum("bnfi,bn->bfi", values[..., place], w[:, k]))
        return torch.cat(parts, dim=2)[..., order.argsort()]

    @torch.no_grad()
    def _jump(self, functions: Tensor, w: Tensor) -> Tensor:
        if not bool(self.meets.any()):
            return functions.new_zeros(len(functions))
        between = w.unsqueeze(2) - w[:, self.partner]  # (B, K, s, N)
        jump = torch.einsum("bnks,bksn->bks", functions[..., self.face], between) * self.meets
        return (jump.square().sum(dim=(1, 2)) / self.meets.sum()).sqrt()

    def _missed(self, u: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        wanted = start.flatten(1)[:, self.inside]
        begin = (u[:, 0].flatten(1)[:, self.inside] - wanted).square().sum(dim=1)
        initial = (begin / wanted.square().sum(dim=1).clamp(min=_TINY) + _TINY).sqrt()
        sides = self.residual.sides(u) - self.side_data
        return initial, _size(sides) if sides.shape[1] else torch.zeros_like(initial)

    def _check(self, basis: Tensor, start: Tensor) -> None:
        shape = self.residual.shape
        if basis.ndim != 2 + len(shape) or basis.shape[2:] != shape:
            raise ValueError(
                f"EquationExperts got functions of shape {tuple(basis.shape)}; expected (B, N, {', '.join(map(str, shape))})."
            )
        if start.shape != (len(basis), 1, *shape[1:]):
            raise ValueError(
                f"EquationExperts got initial states of shape {tuple(start.shape)}; expected {(len(basis), 1, *shape[1:])}."
            )


def _size(r: Tensor) -> Tensor:
    """Root mean square of (B, m), with a finite slope at zero."""
    return (r.square().mean(dim=1) + _TINY).sqrt()


def _by_expert(values: Tensor, count: int) -> Tensor:
    """(K B,) -> (B, K)."""
    return values.reshape(-1, count).T


def _per_expert(values: Tensor, order: tuple[int, ...]) -> Tensor:
    """Axes in an order that begins with expert and sample, which become one."""
    return values.permute(order).flatten(0, 1)


def _padded(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Numbers of different lengths in one table, and which of its entries are there."""
    most = max(len(part) for part in parts)
    table = torch.zeros(len(parts), most, dtype=torch.int64)
    there = torch.zeros(len(parts), most, dtype=torch.bool)
    for row, mark, part in zip(table, there, parts, strict=True):
        row[: len(part)], mark[: len(part)] = part, True
    return table, there


def _faces(labels: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each expert the points on both sides of its faces, and who is on the other side, (K, s) with a mask."""
    every = torch.arange(labels.numel()).reshape(labels.shape)
    pieces = []
    for axis in range(labels.ndim):
        size = labels.shape[axis] - 1
        a, b = labels.narrow(axis, 0, size).flatten(), labels.narrow(axis, 1, size).flatten()
        i, j = every.narrow(axis, 0, size).flatten(), every.narrow(axis, 1, size).flatten()
        apart = a != b
        a, b, i, j = a[apart], b[apart], i[apart], j[apart]
        pieces.append(
            torch.stack((torch.cat((a, a, b, b)), torch.cat((i, j, i, j)), torch.cat((b, b, a, a))))
        )
    who, place, partner = torch.cat(pieces, dim=1)
    mine = [(who == k).nonzero().squeeze(1) for k in range(count)]
    index, there = _padded(mine)
    if not len(who):
        return index, index, there
    return place[index], partner[index], there
