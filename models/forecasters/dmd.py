"""Linear dynamics of states or of delays."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.domains import Domain
from sciml.models.forecasters.base import Forecaster, histories, in_parts, state_size
from sciml.models.forecasters.dictionary import Dictionary
from sciml.models.forecasters.koopman import Koopman, snapshots


class EDMD(Forecaster):
    """Extended dynamic mode decomposition: linear dynamics of a dictionary of functions of the last states.

    psi(x') ~ psi(x) K and x ~ psi(x) B, both by least squares over the pairs of successive pieces of history, so that
    the forecast is x_n = psi(x_0) K^n B. With `Modes` as dictionary and one delay this is dynamic mode decomposition,
    with several delays its Hankel form.

    Eigenvalues of K are no result without their residuals: see `koopman`, which is kept from the fit.

    Args:
        in_channels: C.
        dictionary: the functions, of `delays` states laid side by side.
        delays: how many states.
        measure_preserving: take the unitary matrix nearest to K, for systems that keep a measure.
        relift: go back to the state after every step, x' = psi(x) K B: no longer linear, and without an end to what
            it can represent; for one-step models of chaos.
        truncation: singular values of the dictionary below this part of the largest are left out.
        apart: last part of each trajectory that is kept for residuals (`test`); a dictionary that must not be judged
            where it was made keeps the first half for itself instead.
        domain: where the points lie; none for states without space.

    Raises:
        ValueError: a number is out of range.

    Williams, Kevrekidis and Rowley, J. Nonlinear Science 25 (2015) 1307-1346; Arbabi and Mezic, SIAM J. Applied
    Dynamical Systems 16 (2017) 2096-2126 (Hankel).
    """

    matrix: Tensor
    readout: Tensor

    def __init__(
        self,
        in_channels: int,
        dictionary: Dictionary,
        delays: int = 1,
        measure_preserving: bool = False,
        relift: bool = False,
        truncation: float = 1e-10,
        apart: float = 0.0,
        domain: Domain | None = None,
    ) -> None:
        size = state_size(in_channels, domain, "EDMD")
        if delays < 1 or not 0 <= apart < 1 or not 0 <= truncation < 1:
            raise ValueError(
                f"EDMD got delays={delays}, apart={apart}, truncation={truncation}; expected at least 1, and parts from "
                "0 to below 1."
            )
        super().__init__(size, delays)
        self.dictionary = dictionary
        self.functions = dictionary.prepare(delays * size)
        self.unitary, self.relift = measure_preserving, relift
        self.truncation, self.apart = truncation, apart
        # Both may be complex; two real parts let any loader of weights take them.
        self.register_buffer("matrix", torch.zeros(2, self.functions, self.functions, dtype=torch.float64))
        self.register_buffer("readout", torch.zeros(2, self.functions, size, dtype=torch.float64))
        self.koopman: Koopman | None = None
        self.test: Koopman | None = None

    @torch.no_grad()
    def fit(self, trajectories: Tensor, generator: torch.Generator | None = None) -> None:
        data = self._checked(trajectories, self.history + 1)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        own = data
        if self.dictionary.apart:
            # Apart in time or, where there are several, by trajectory.
            half = (data.shape[1] if len(data) == 1 else len(data)) // 2
            own, data = (data[:, :half], data[:, half:]) if len(data) == 1 else (data[:half], data[half:])
        self.dictionary.fit(histories(own, self.history)[0].flatten(1), generator)
        cut = data.shape[1] - int(self.apart * data.shape[1])
        self.koopman = snapshots(self._rows(data[:, :cut]), self.truncation)
        self.test = self.koopman.at(self._rows(data[:, cut:])) if cut < data.shape[1] else None
        core = self.koopman.measure_preserving() if self.unitary else self.koopman.matrix
        basis = self.koopman.basis
        # K = basis core basis^+, whose rows and columns outside the kept directions vanish.
        inverse = torch.linalg.pinv(basis)
        self._store(self.matrix, basis @ core @ inverse)
        pieces = histories(data[:, :cut], self.history)[0]
        self._store(self.readout, basis @ self._project(pieces))

    def _project(self, pieces: Tensor) -> Tensor:
        """Coefficients (r, n) of the present state in the orthonormal functions."""
        assert self.koopman is not None  # set by fit
        basis = self.koopman.basis
        gram: Tensor | None = None
        right: Tensor | None = None
        for (piece,) in in_parts(pieces):
            values = self.dictionary(piece.flatten(1)) @ basis
            product, sides = values.mH @ values, values.mH @ piece[:, -1].to(values.dtype)
            gram = product if gram is None else gram + product
            right = sides if right is None else right + sides
        assert gram is not None and right is not None  # there is a piece
        return torch.linalg.solve(gram, right)  # orthonormal functions: nearly the identity

    def _rows(self, data: Tensor) -> list[tuple[Tensor, Tensor, None]]:
        pieces, following = histories(data, self.history)
        after = torch.cat([pieces[:, 1:], following.unsqueeze(1)], dim=1)
        return [
            (self.dictionary(x.flatten(1)), self.dictionary(y.flatten(1)), None)
            for x, y in in_parts(pieces, after)
        ]

    @staticmethod
    def _store(buffer: Tensor, value: Tensor) -> None:
        buffer[0].copy_(value.real)
        buffer[1].copy_(value.imag if value.is_complex() else torch.zeros_like(value))

    def _times(self, psi: Tensor, buffer: Tensor) -> Tensor:
        return psi @ torch.complex(buffer[0], buffer[1]) if psi.is_complex() else psi @ buffer[0]

    def begin(self, history: Tensor) -> Tensor:
        line = history.double().flatten(1)
        return line if self.relift else self.dictionary(line)

    def advance(self, carried: Tensor) -> Tensor:
        if not self.relift:
            return self._times(carried, self.matrix)
        lifted = self._times(self.dictionary(carried), self.matrix)
        return torch.cat([carried[:, self.size :], self._read(lifted)], dim=1)

    def show(self, carried: Tensor) -> Tensor:
        return carried[:, -self.size :] if self.relift else self._read(carried)

    def _read(self, psi: Tensor) -> Tensor:
        value = self._times(psi, self.readout)
        return value.real if value.is_complex() else value
