"""Muon: momentum whose step is made orthogonal, for the filters of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that pushes singular values towards 1 in few rounds (Jordan et al. 2024, "Muon")."""
ROUNDS = 5
PAIRS_FROM = 2
"""Matrices so many times as long as wide go through two rounds at once."""


def orthogonalise(matrices: Tensor) -> Tensor:
    """A matrix (M, N), or each of a stack (K, M, N), with singular values near 1: Newton-Schulz rounds in bfloat16.

    A round multiplies x by p(x xT), a polynomial, and all that follow are polynomials of the first x xT, too. Of a long
    matrix two rounds are therefore put together from products of the short side alone: x is then read twice, not four
    times. Three at once would lose what is small: bfloat16 keeps x xT to a few thousandths of what is large in it.
    """
    add = torch.addmm if matrices.ndim == 2 else torch.baddbmm
    size = torch.linalg.vector_norm(matrices.flatten(-2), dim=-1)[..., None, None]
    x = (matrices / (size + 1e-7)).bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    pairs = ROUNDS // 2 if x.shape[-1] >= PAIRS_FROM * x.shape[-2] else 0
    for _ in range(pairs):
        square = x @ x.mT
        first = _polynomial(square, add)
        second = _polynomial(first @ square @ first.mT, add)
        x = second @ first @ x
    for _ in range(ROUNDS - 2 * pairs):
        x = _polynomial(x @ x.mT, add) @ x
    return (x.mT if tall else x).to(matrices.dtype)


def _polynomial(square: Tensor, add: Callable[..., Tensor]) -> Tensor:
    """a + b s + c s s of a symmetric s, with the COEFFICIENTS."""
    a, b, c = COEFFICIENTS
    result = add(square, square, square, beta=b, alpha=c)
    result.diagonal(dim1=-2, dim2=-1).add_(a)
    return result


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
            ahead = [_rows(step) for step in torch._foreach_lerp(gradients, momenta, group["beta"])]
            for alike in _together(ahead):
                stack = torch.stack([ahead[i] for i in alike]) if len(alike) > 1 else ahead[alike[0]]
                steps = orthogonalise(stack).view(len(alike), *stack.shape[-2:])
                scale = 0.2 * max(stack.shape[-2:]) ** 0.5
                rate = group["lr"] * scale
                for i, step in zip(alike, steps, strict=True):
                    rows = _in_memory_order(moved[i])
                    if isinstance(rate, Tensor):
                        rows.sub_(step.view(rows.shape) * rate)
                    else:
                        rows.add_(step.view(rows.shape), alpha=-rate)
        return loss


def _in_memory_order(filters: Tensor) -> Tensor:
    """A view of filters (out, in, height, width) as channels_last keeps them, (out, height, width, in)."""
    return filters.movedim(1, -1)


def _rows(filters: Tensor) -> Tensor:
    """Filters (out, ...) as a matrix of `out` rows. The order of the columns is nothing to `orthogonalise`, and this
    one is copied nowhere."""
    return _in_memory_order(filters).flatten(1)


def _together(matrices: Sequence[Tensor]) -> list[list[int]]:
    """Places of the matrices to be worked on as one stack: of a shape on a GPU, where launching costs more than the
    work; one by one on a CPU, whose products of single matrices are the quicker ones."""
    if not matrices or not matrices[0].is_cuda:
        return [[place] for place in range(len(matrices))]
    alike: dict[torch.Size, list[int]] = {}
    for place, matrix in enumerate(matrices):
        alike.setdefault(matrix.shape, []).append(place)
    return list(alike.values())


def is_filter(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon should move it: filters and matrices, but for the first and last layers (`enter`, `leave`)."""
    ends = {"enter", "leave"} & set(name.split("."))
    return parameter.ndim >= 2 and parameter.shape[0] > 1 and not ends
