"""Regression trees on the last few states."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Domain
from sciml.extras import require
from sciml.models.forecasters.base import Forecaster, histories, state_size


class RandomForest(Forecaster):
    """The mean of regression trees, each grown on states drawn with replacement from what was seen.

    A tree splits the space of the last `delays` states into boxes and answers with the mean of what followed those in
    one. Forecasts are piecewise constant, never leave the range of what was seen, and need no normalising. Growing is
    scikit-learn's (extra `forest`); the trees are kept as buffers, so that forecasts need this package alone and are
    the same numbers as scikit-learn's.

    Args:
        in_channels: C.
        delays: how many states.
        trees: their number.
        leaf: fewest pieces of history in a box.
        features: part of the numbers among which each split chooses.
        increments: answer with how the state changed, and not what it became: forecasts then do not jump, and may leave
            the range of what was seen.
        domain: where the points lie; none for states without space.

    Raises:
        ValueError: a number is out of range.
        ModuleNotFoundError: from `fit`, scikit-learn is missing; the message names the extra.

    Breiman, Machine Learning 45 (2001) 5-32.
    """

    roots: Tensor
    below: Tensor
    feature: Tensor
    threshold: Tensor
    value: Tensor
    depth: Tensor

    # Of these the lengths follow from the trees.
    _grown = ("below", "feature", "threshold", "value")

    def __init__(
        self,
        in_channels: int,
        delays: int = 5,
        trees: int = 100,
        leaf: int = 1,
        features: float = 1.0,
        increments: bool = False,
        domain: Domain | None = None,
    ) -> None:
        size = state_size(in_channels, domain, "RandomForest")
        if min(delays, trees, leaf) < 1 or not 0 < features <= 1:
            raise ValueError(
                f"RandomForest got delays={delays}, trees={trees}, leaf={leaf}, features={features}; expected at least "
                "1 of each, and a part above 0."
            )
        super().__init__(size, delays)
        self.leaf, self.features, self.increments = leaf, float(features), increments
        # Nodes of all trees in one row; a leaf is its own child, and a forest that was not grown one leaf.
        self.register_buffer("roots", torch.zeros(trees, dtype=torch.int64))
        self.register_buffer("below", torch.zeros(1, 2, dtype=torch.int64))
        self.register_buffer("feature", torch.zeros(1, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("value", torch.zeros(1, size, dtype=torch.float64))
        self.register_buffer("depth", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def fit(self, trajectories: Tensor, generator: torch.Generator | None = None) -> None:
        data = self._checked(trajectories, self.history + 1)
        ensemble = require("sklearn.ensemble", extra="forest", purpose="RandomForest.fit")
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        pieces, following = histories(data, self.history)
        if self.increments:
            following = following - pieces[:, -1]
        forest = ensemble.RandomForestRegressor(
            n_estimators=len(self.roots),
            min_samples_leaf=self.leaf,
            max_features=self.features,
            random_state=int(torch.randint(2**31 - 1, (), generator=generator)),
        )
        answers = following if self.size > 1 else following[:, 0]
        forest.fit(pieces.flatten(1).cpu().numpy(), answers.cpu().numpy())
        self._keep([tree.tree_ for tree in forest.estimators_])

    def _keep(self, trees: list[Any]) -> None:
        """Take over scikit-learn's trees, one behind the other."""
        counts = [tree.node_count for tree in trees]
        roots = np.cumsum([0, *counts[:-1]])
        below = np.concatenate(
            [
                np.where(tree.feature[:, None] < 0, np.arange(tree.node_count)[:, None], both) + root
                for tree, root in zip(trees, roots, strict=True)
                for both in [np.stack([tree.children_left, tree.children_right], axis=1)]
            ]
        )
        grown = {
            "below": below,
            "feature": np.concatenate([tree.feature for tree in trees]).clip(min=0),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "value": np.concatenate([tree.value[:, :, 0] for tree in trees]),
        }
        for name, found in grown.items():
            old = getattr(self, name)
            setattr(self, name, torch.as_tensor(found).to(old))
        self.roots.copy_(torch.as_tensor(roots))
        self.depth.fill_(max(tree.max_depth for tree in trees))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in self._grown:
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.value.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def begin(self, history: Tensor) -> Tensor:
        return history.double().flatten(1)

    def advance(self, carried: Tensor) -> Tensor:
        line = carried.float().double()  # the precision in which the trees compare
        node = self.roots.expand(len(line), -1)
        for _ in range(int(self.depth)):
            right = line.gather(1, self.feature[node]) > self.threshold[node]
            node = self.below[node, right.long()]
        new = self.value[node].mean(dim=1)
        if self.increments:
            new = new + self.show(carried)
        return torch.cat([carried[:, self.size :], new], dim=1)

    def show(self, carried: Tensor) -> Tensor:
        return carried[:, -self.size :]
