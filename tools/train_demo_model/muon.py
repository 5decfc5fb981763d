"""Muon (Keller Jordan, 2024): momentum whose matrices are made orthogonal before the step."""

import torch


def orthogonalize(matrices):
    """Five Newton-Schulz iterations on a stack of matrices (count x rows x columns)."""
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2).contiguous()
    for _ in range(5):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Muon(torch.optim.Optimizer):
    """For matrices only; those of one shape are stepped together."""

    def __init__(self, matrices, learning_rate, momentum=0.95, weight_decay=0.01):
        super().__init__(matrices, dict(lr=learning_rate))
        self.momentum, self.weight_decay = momentum, weight_decay
        self.by_shape = {}
        for group in self.param_groups:
            for matrix in group["params"]:
                self.by_shape.setdefault(tuple(matrix.shape), []).append(matrix)
        self.velocities = {
            shape: torch.zeros(len(same), *shape, device=same[0].device)
            for shape, same in self.by_shape.items()
        }

    @torch.no_grad()
    def step(self):
        rate = self.param_groups[0]["lr"]
        for shape, matrices in self.by_shape.items():
            gradient = torch.stack([matrix.grad for matrix in matrices])
            velocity = self.velocities[shape].mul_(self.momentum).add_(gradient)
            update = orthogonalize(gradient.add(velocity, alpha=self.momentum))
            scale = rate * max(1, shape[0] / shape[1]) ** 0.5
            torch._foreach_mul_(matrices, 1 - rate * self.weight_decay)
            torch._foreach_add_(matrices, list(update.unbind(0)), alpha=-scale)
