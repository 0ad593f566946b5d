"""Muon: momentum whose step is made orthogonal, for the filters of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that pushes singular values towards 1 in few rounds (Jordan et al. 2024, "Muon")."""
ROUNDS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """`matrix` (M, N) with its singular values near 1, by Newton-Schulz rounds in bfloat16."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum `beta`, orthogonalised (Jordan et al. 2024) over each parameter of (out, ...) taken as a matrix
    of `out` rows; the step is scaled by 0.2 sqrt(max(rows, columns)), so that learning rates of AdamW serve
    (Liu et al. 2025, "Muon is scalable for LLM training", equation 4).

    For filters and matrices alone: biases, norms and the layers in front and at the end go to AdamW. torch.optim.Muon
    takes two-dimensional parameters only and needs torch 2.9.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, beta: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in moved:
                if not self.state[parameter]:
                    self.state[parameter]["momentum"] = torch.zeros_like(parameter)
            gradients = [parameter.grad for parameter in moved]
            momenta = [self.state[parameter]["momentum"] for parameter in moved]
            torch._foreach_lerp_(momenta, gradients, 1 - group["beta"])
            for parameter, momentum, gradient in zip(moved, momenta, gradients, strict=True):
                ahead = gradient.lerp(momentum, group["beta"]).flatten(1)
                scale = 0.2 * max(ahead.shape) ** 0.5
                parameter.add_(orthogonalise(ahead).view(parameter.shape), alpha=-group["lr"] * scale)
        return loss


def is_filter(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon should move it: filters and matrices, but for the first and last layers (`enter`, `leave`)."""
    ends = {"enter", "leave"} & set(name.split("."))
    return parameter.ndim >= 2 and parameter.shape[0] > 1 and not ends
