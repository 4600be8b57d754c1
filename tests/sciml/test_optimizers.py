from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sciml.optimizers import (
    OPTIMIZERS,
    ROOT,
    SOAP,
    AuON,
    Lion,
    Muon,
    QuasiNewton,
    as_matrices,
    from_matrices,
    orthogonalised,
    parameter_groups,
)

# With gradients alone; a line search has tests of its own.
FIRST_ORDER = [kind for kind in OPTIMIZERS if kind is not QuasiNewton]
ROUNDING = 1e-12  # 30 updates in float64


def gradients(shape=(3, 5), count=30, dtype=torch.float64):
    generator = torch.Generator().manual_seed(4)
    return torch.randn(count, *shape, generator=generator, dtype=dtype)


def moved(make, grads, start=None):
    """Where an optimiser brings a parameter with these gradients."""
    p = nn.Parameter(torch.zeros(grads.shape[1:], dtype=grads.dtype) if start is None else start.clone())
    optimizer = make([p])
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
    return p.detach()


def started(shape=(3, 5)):
    return torch.linspace(-1, 1, int(np.prod(shape)), dtype=torch.float64).reshape(shape)


def test_adamw_as_written():
    p, m, v = started().numpy().copy(), 0.0, 0.0
    for t, g in enumerate(gradients().numpy(), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
        p -= 0.01 * (m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8) + 0.1 * p)
    ours = moved(  # of Muon, which hands what is no matrix to AdamW
        lambda q: Muon([{"params": q, "kind": "other"}], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1), gradients(), started()
    )  # fmt: skip
    torchs = moved(
        lambda q: torch.optim.AdamW(q, 0.01, (0.9, 0.99), weight_decay=0.1), gradients(), started()
    )
    assert np.abs(ours.numpy() - p).max() < ROUNDING and np.abs(torchs.numpy() - p).max() < ROUNDING


def test_lion_as_written():
    p, m = started().numpy().copy(), 0.0
    for g in gradients().numpy():
        p -= 0.01 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * p)
        m = 0.99 * m + 0.01 * g
    ours = moved(lambda q: Lion(q, 0.01, weight_decay=0.1), gradients(), started())
    assert np.abs(ours.numpy() - p).max() < ROUNDING


def newton_schulz(u, abc=(3.4445, -4.775, 2.0315)):
    x = u.T if u.shape[0] > u.shape[1] else u
    x = x / np.sqrt((x**2).sum())
    for _ in range(5):
        a = x @ x.T
        x = abc[0] * x + (abc[1] * a + abc[2] * a @ a) @ x
    return x.T if u.shape[0] > u.shape[1] else x


@pytest.mark.parametrize("shape", [(3, 5), (6, 2)])
@pytest.mark.parametrize("adjustment", ["rms", "original"])
def test_muon_as_written(shape, adjustment):
    p, m = started(shape).numpy().copy(), 0.0
    rows, columns = shape
    factor = 0.2 * max(shape) ** 0.5 if adjustment == "rms" else max(1, rows / columns) ** 0.5
    for g in gradients(shape).numpy():
        m = 0.95 * m + 0.05 * g
        p -= 0.01 * (factor * newton_schulz(0.95 * m + 0.05 * g) + 0.1 * p)
    ours = moved(
        lambda q: Muon(q, 0.01, weight_decay=0.1, adjustment=adjustment), gradients(shape), started(shape)
    )
    assert np.abs(ours.numpy() - p).max() < ROUNDING


def test_muon_is_that_of_torch_to_the_rounding_of_bfloat16():
    grads = gradients((8, 16)).float()
    torchs = moved(lambda q: torch.optim.Muon(q, 0.01, weight_decay=0.1), grads)
    ours = moved(lambda q: Muon(q, 0.01, weight_decay=0.1, adjustment="original"), grads)
    # Each of 30 updates moves an entry by up to 0.01; the iteration in bfloat16 is off by a few per cent of that.
    assert float((ours - torchs).abs().max()) < 0.05 * float(ours.abs().max())


def test_root_as_written():
    p, m = started().numpy().copy(), 0.0
    for g in gradients().numpy():
        m = 0.95 * m + 0.05 * g
        u = 0.95 * m + 0.05 * g
        limit = np.quantile(np.abs(u), 0.9)
        p -= 0.01 * 0.2 * 5**0.5 * newton_schulz(np.clip(u, -limit, limit))
    ours = moved(lambda q: ROOT(q, 0.01), gradients(), started())
    assert np.abs(ours.numpy() - p).max() < ROUNDING


def test_auon_as_written_and_how_little_it_differs_from_momentum():
    p, m = started().numpy().copy(), 0.0
    for g in gradients().numpy():
        m = 0.95 * m + 0.05 * g
        u = 0.95 * m + 0.05 * g
        p -= 0.1 * u / np.sqrt((np.cosh(1.5 * u / np.sqrt((u**2).sum())) ** 2).mean())
    ours = moved(lambda q: AuON(q, 0.1), gradients(), started())
    assert np.abs(ours.numpy() - p).max() < ROUNDING
    u = gradients((64, 64), 1)[0]
    spread = (u / AuON([nn.Parameter(u)]).direction(u)).mean()
    assert float(spread) == pytest.approx(1 + 1.5**2 / (2 * 64**2), abs=1e-6)


def test_soap_as_written():
    """An independent one: explicit loops, bases by eigh and one QR step, Adam on the rotated gradient."""
    p = started((4, 4)).numpy().copy()
    shape = p.shape
    left, right = np.zeros((shape[0],) * 2), np.zeros((shape[1],) * 2)
    m, v, bases, t = np.zeros(shape), np.zeros(shape), None, 0
    for g in gradients((4, 4)).numpy():
        if bases is not None:
            t += 1
            a, b = bases
            m = 0.95 * m + 0.05 * g
            v = 0.9 * v + 0.1 * (a.T @ g @ b) ** 2
            size = 0.01 * np.sqrt(1 - 0.9**t) / (1 - 0.95**t)
            p = p - 0.01 * 0.1 * p - size * (a @ ((a.T @ m @ b) / (np.sqrt(v) + 1e-8)) @ b.T)
        left, right = 0.9 * left + 0.1 * g @ g.T, 0.9 * right + 0.1 * g.T @ g
        if bases is None:
            bases = [np.linalg.eigh(x)[1][:, ::-1] for x in (left, right)]
        elif t % 4 == 0:
            for side, x in enumerate((left, right)):
                order = np.argsort(-np.diag(bases[side].T @ x @ bases[side]))
                v = np.take(v, order, axis=side)
                bases[side] = np.linalg.qr(x @ bases[side][:, order])[0]
    ours = moved(
        lambda q: SOAP(q, 0.01, (0.95, 0.9), weight_decay=0.1, frequency=4),
        gradients((4, 4)),
        started((4, 4)),
    )
    # Bases are known to the rounding over the gaps between eigenvalues.
    assert np.abs(ours.numpy() - p).max() < 1e-11


def test_orthogonalising_brings_singular_values_near_one():
    x = gradients((64, 128), 3)
    values = torch.linalg.svdvals(orthogonalised(x))
    assert float(values.min()) > 0.65 and float(values.max()) < 1.2
    # The directions stay: U^T X V is diagonal.
    u, _, vh = torch.linalg.svd(x[0], full_matrices=False)
    inner = u.T @ orthogonalised(x[0]) @ vh.T
    assert float((inner - inner.diag().diag()).abs().max()) < 1e-12
    assert not orthogonalised(torch.zeros(3, 4)).any()


@pytest.mark.parametrize("make", [Muon, ROOT, AuON, SOAP])
def test_a_real_matrix_cast_to_complex_moves_as_the_real_one(make):
    grads = gradients((4, 4))
    real = moved(lambda q: make(q, 0.01, weight_decay=0.1), grads)
    for kind, cast, back in (
        ("modes", lambda x: x.mT.to(torch.complex128), lambda x: x.mT),
        # One mode of a Fourier weight (in, out, 1, 2).
        (
            "packed modes",
            lambda x: torch.view_as_real(x.mT.unsqueeze(-1).to(torch.complex128).contiguous()),
            lambda x: torch.view_as_complex(x.contiguous())[..., 0].mT,
        ),
    ):
        moving = torch.stack([cast(g) for g in grads])
        ours = back(
            moved(lambda q, k=kind: make([{"params": q, "kind": k}], 0.01, weight_decay=0.1), moving)
        )
        assert float((ours.real - real).abs().max()) < 1e-9 and float(ours.imag.abs().max()) < 1e-12


@pytest.mark.parametrize("make", [Muon, SOAP])
def test_modes_do_not_see_each_other(make):
    """Each mode moves as if it were alone, and a turn of its phase turns its update."""
    grads = gradients((3, 4, 2), dtype=torch.complex128)
    both = moved(lambda q: make([{"params": q, "kind": "modes"}], 0.01), grads)
    alone = moved(lambda q: make([{"params": q, "kind": "modes"}], 0.01), grads[..., 1:])
    assert torch.allclose(both[..., 1:], alone, rtol=0, atol=1e-12)
    turned = moved(lambda q: make([{"params": q, "kind": "modes"}], 0.01), 1j * grads)
    assert torch.allclose(turned, 1j * both, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["matrix", "convolution", "modes", "packed modes"])
def test_matrices_go_back_where_they_came_from(kind):
    shape = {
        "matrix": (3, 4),
        "convolution": (3, 4, 5),
        "modes": (3, 4, 5, 2),
        "packed modes": (3, 4, 5, 6, 2),
    }[kind]
    x = torch.randn(shape, dtype=torch.complex64 if kind == "modes" else torch.float32)
    matrices = as_matrices(x, kind)
    assert torch.equal(from_matrices(matrices, kind, x.shape), x)
    assert matrices.is_complex() == ("modes" in kind)
    if kind == "packed modes":
        assert matrices.shape == (30, 4, 3)
        assert matrices[7, 1, 2] == torch.view_as_complex(x)[2, 1, 1, 1]


def test_groups_of_a_fourier_operator_and_of_a_plain_network():
    from sciml.models import FNO

    network = FNO(1, 1, [3], 4, layers=2)
    groups = parameter_groups(network)
    names = {id(p): n for n, p in network.named_parameters()}
    packed = next(g for g in groups if g["kind"] == "packed modes")
    assert {names[id(p)] for p in packed["params"]} == {
        f"network.fno_blocks.convs.{i}.weight" for i in (0, 1)
    }
    outer = {names[id(p)].split(".")[1] for g in groups if g["outer"] for p in g["params"]}
    assert outer == {"lifting", "projection"}
    assert sum(len(g["params"]) for g in groups) == len(names)
    plain = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    hidden = [g for g in parameter_groups(plain) if g["kind"] == "matrix" and not g["outer"]]
    assert [p is plain[2].weight for g in hidden for p in g["params"]] == [True]


def test_muon_leaves_outer_layers_to_adamw_with_its_own_rate():
    plain = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 4), nn.Linear(4, 1)).double()
    muon = Muon(parameter_groups(plain), lr=0.5, other_lr=0.01)
    rates = {(g["kind"], g["outer"]): g["lr"] for g in muon.param_groups}
    assert rates == {("matrix", True): 0.01, ("other", False): 0.01, ("matrix", False): 0.5}
    before = [p.detach().clone() for p in plain.parameters()]
    plain(torch.ones(3, 2, dtype=torch.float64)).sum().backward()
    muon.step()
    # AdamW's first update moves every weight by its rate.
    for i in (0, 1, 4, 5):
        change = (list(plain.parameters())[i].detach() - before[i]).abs()
        assert torch.allclose(change, torch.full_like(change, 0.01), rtol=1e-5)


@pytest.mark.parametrize("make", FIRST_ORDER)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_and_loaded_states_go_on_with_the_same_bits(make, dtype):
    def run(stop=None):
        generator = torch.Generator().manual_seed(0)
        shapes = {"packed modes": (3, 4, 5, 2), "convolution": (4, 3, 3), "matrix": (4, 4), "other": (4,)}
        ps = {k: nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for k, s in shapes.items()}
        ps["modes"] = nn.Parameter(torch.randn(3, 4, 5, generator=generator, dtype=dtype.to_complex()))

        def fresh():
            return make([{"params": [p], "kind": k, "outer": False} for k, p in ps.items()], lr=0.01)

        optimizer = fresh()
        for update in range(25):
            for p in ps.values():
                p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            if update == stop:
                state = optimizer.state_dict()
                optimizer = fresh()
                optimizer.load_state_dict(state)
            optimizer.step()
        return list(ps.values())

    for a, b in zip(run(), run(stop=13), strict=True):
        assert torch.equal(a, b) and torch.isfinite(torch.abs(a)).all()


@pytest.mark.parametrize("make", FIRST_ORDER)
def test_wrong_numbers_are_refused(make):
    p = [nn.Parameter(torch.zeros(2, 2))]
    with pytest.raises(ValueError, match="lr=-1"):
        make(p, lr=-1.0)
    with pytest.raises(ValueError, match="expected two numbers"):
        make(p, betas=(0.9, 1.0))


def test_the_package_of_optimisers_agrees():
    package = pytest.importorskip("pytorch_optimizer")
    theirs = moved(lambda q: package.Lion(q, 0.01, weight_decay=0.1), gradients(), started())
    assert torch.allclose(
        moved(lambda q: Lion(q, 0.01, weight_decay=0.1), gradients(), started()), theirs, rtol=0, atol=1e-14
    )
    # Its SOAP factorises in float32, and takes the decay after the update: compare without both.
    grads = gradients((4, 4))
    theirs = moved(
        lambda q: package.SOAP(q, 0.01, weight_decay=0.0, precondition_frequency=100),
        grads,
        started((4, 4)),
    )
    assert torch.allclose(
        moved(lambda q: SOAP(q, 0.01, frequency=100), grads, started((4, 4))), theirs, rtol=0, atol=1e-10
    )


def test_diffgrad_of_the_package_as_written():
    package = pytest.importorskip("pytorch_optimizer")
    p, m, v, last = started().numpy().copy(), 0.0, 0.0, 0.0
    for t, g in enumerate(gradients().numpy(), start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        # Beside the published formula the package has a floor of 1e-15 under the root.
        xi = 1 / (1 + np.exp(-np.abs(last - g)))
        p -= 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m * xi / (np.sqrt(v + 1e-15) + 1e-8)
        last = g
    theirs = moved(lambda q: package.DiffGrad(q, 0.01), gradients(), started())
    assert np.abs(theirs.numpy() - p).max() < ROUNDING
