"""Stripes that grow at their ends: the pattern "worms" of The Well's Gray-Scott set.

Theirs: 128 x 128 points on (-1, 1)^2, steps of 1, 1001 frames of 10, 200 samples of each of six pairs of feed and kill
rates, from random Fourier series or clusters of Gaussians. Ours: the same times and stored points out of 256 x 256,
on which fronts are resolved, fewer samples, and the numbers of the starts, which are not given. A sample takes about a
minute and 131 MB; `steps` and `dt` of a recipe based on this one store less.
"""

from __future__ import annotations

from sciml.datasets.recipes._gray_scott import pattern

RECIPE = pattern("worms")
