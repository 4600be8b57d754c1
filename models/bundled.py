"""Several time steps in one call of a network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciml.models.wrappers import Map


class Bundled(nn.Module):
    """A network that gives m frames at once, as a step (temporal bundling).

    Fewer calls for the same time, and fewer occasions for errors to feed on themselves; in exchange the
    frames of a bundle are all made from the same input. As a step it gives the first frame; `rollout`,
    `iterate` and objectives with `bundle=m` take all of them (`sciml.step.ahead`).

    With `growing`, the network's l-th output is multiplied by l: inside `Residual` the frames are
    u + l d_l, so that the outputs are rates of change and alike in size (Brandstetter, Worrall and Welling,
    ICLR 2022, arXiv 2202.03376, eq. 9).

    A network that sees n > 1 frames acts on states of n frames side by side as channels, oldest first, and
    gives such states. `Residual` around it would add the wrong frames; set `residual` here instead.

    Args:
        f: map (B, n C, *points) -> (B, m C, *points), the first frame's channels first.
        frames: m.
        history: n.
        growing: multiply the l-th output by l.
        residual: add the newest given frame to each.

    Raises:
        ValueError: a number is below 1, or the network's channels do not divide into m frames.
    """

    def __init__(
        self, f: Map, frames: int, history: int = 1, growing: bool = True, residual: bool = False
    ) -> None:
        super().__init__()
        if frames < 1 or history < 1:
            raise ValueError(f"Bundled got frames={frames}, history={history}; expected at least 1.")
        self.f = f
        self.bundle = int(frames)
        self.history = int(history)
        self.growing = growing
        self.residual = residual

    def ahead(self, u: Tensor) -> Tensor:
        """The next m states, (B, n C, *points) -> (B, m, n C, *points)."""
        m, n = self.bundle, self.history
        if u.shape[1] % n:
            raise ValueError(f"Bundled got {u.shape[1]} channels; they do not divide into {n} frames.")
        channels = u.shape[1] // n
        found = self.f(u)
        if found.shape[1] != m * channels:
            raise ValueError(
                f"Bundled got {found.shape[1]} channels from its network; {m} frames of {channels} channels need "
                f"out_channels: {m * channels}."
            )
        frames = found.unflatten(1, (m, channels))
        if self.growing:
            count = torch.arange(1, m + 1, dtype=u.dtype, device=u.device)
            frames = frames * count.reshape(-1, *[1] * (u.ndim - 1))
        if self.residual:
            frames = frames + u[:, -channels:].unsqueeze(1)
        if n == 1:
            return frames
        line = torch.cat([u.unflatten(1, (n, channels)), frames], dim=1)
        return torch.stack([line[:, last : last + n].flatten(1, 2) for last in range(1, m + 1)], dim=1)

    def forward(self, u: Tensor) -> Tensor:
        return self.ahead(u)[:, 0]
