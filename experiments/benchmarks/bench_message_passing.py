"""A MeshGraphNet block beside the textbook form, and the finite element step that it imitates.

python -m sciml.experiments.benchmarks.bench_message_passing

CPU seconds of one thread, cases taken in turn; ratios of the least values, since a busy machine only
adds. The textbook block joins (sender, receiver, edge) for every edge and sums with torch-geometric's
own scatter; ours multiplies the two ends once per node and adds along sorted receivers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from sciml.models.graphs.mesh_graph_net import Block, MeshGraphNet, MessagePassing
from sciml.solvers.finite_element import (
    channel_with_cylinder,
    heated_cylinder,
    p1_step,
    random_temperature,
)


class Textbook(Block):
    """The same block and weights, written the direct way."""

    def forward(self, v: Tensor, e: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        e = e.expand(-1, v.shape[1], -1)
        new = self.edge_updater(edge_index, v=v, edge=e)
        total = self.propagate(edge_index, new=new, size=(v.shape[0], v.shape[0]))
        return v + self.node_mlp(torch.cat([v, total], dim=-1)), e + new

    def edge_update(self, v_i: Tensor, v_j: Tensor, edge: Tensor) -> Tensor:
        return self.edge_mlp(torch.cat([v_j, v_i, edge], dim=-1))

    aggregate = MessagePassing.aggregate


def measure(cases: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each case, sorted, taken in turn after one call to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(repeats + 1):
        for name, case in cases.items():
            began = time.process_time()
            case()
            if repeat:
                seconds[name].append(time.process_time() - began)
    return {name: sorted(values) for name, values in seconds.items()}


def main(batch: int = 4, width: int = 64, layers: int = 6, repeats: int = 8) -> None:
    """Print times and ratios for about a thousand nodes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    mesh = channel_with_cylinder()
    ours = MeshGraphNet(mesh, 1, 1, width=width, layers=layers)
    textbook = MeshGraphNet(mesh, 1, 1, width=width, layers=layers)
    for i in range(layers):
        textbook.blocks[i] = Textbook(width, ours.hidden_layers)
    textbook.load_state_dict(ours.state_dict())
    pde, _ = heated_cylinder(mesh)
    solver = p1_step(pde, mesh, 0.05, substeps=2)
    generator = torch.Generator().manual_seed(0)
    states = torch.stack([random_temperature(mesh, generator) for _ in range(batch)])
    single = states.float()

    def train(net: MeshGraphNet) -> Callable[[], None]:
        def run() -> None:
            net.zero_grad()
            net(single).square().mean().backward()

        return run

    def infer(net: MeshGraphNet) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                net(single)

        return run

    gap = (ours(single) - textbook(single)).detach().abs().max()
    seconds = measure(
        {
            "split: forward and backward": train(ours),
            "textbook: forward and backward": train(textbook),
            "split: forward": infer(ours),
            "textbook: forward": infer(textbook),
            "finite element step": lambda: solver(states),
        },
        repeats,
    )
    print(
        f"{mesh.shape[0]} nodes, {ours.edges.shape[1]} edges, batch {batch}, width {width}, {layers} blocks"
    )
    for name, values in seconds.items():
        print(
            f"{name:32s} least {values[0] * 1e3:8.2f} ms   median {statistics.median(values) * 1e3:8.2f} ms"
        )
    print(f"largest difference of the two forms: {float(gap):.1e}")
    for kind in ("forward and backward", "forward"):
        ratio = seconds[f"textbook: {kind}"][0] / seconds[f"split: {kind}"][0]
        print(f"textbook / split, {kind}: {ratio:.2f}")
    ratio = seconds["split: forward"][0] / seconds["finite element step"][0]
    print(f"network / finite element step at the same nodes and dt: {ratio:.1f}")


if __name__ == "__main__":
    main()
