"""Plain PyTorch training steps with the settings that `flatness train` has by default."""

import torch
import torch.nn.functional as F

LEARNING_RATE, WEIGHT_DECAY, MOMENTUM = 0.05, 5e-4, 0.9
SAM_RADIUS = 0.05
FSGLD_BETA_INVERSE, FSGLD_ETA = 1e-8, 0.1
FSGLD_SIGMA = FSGLD_BETA_INVERSE ** ((1 + FSGLD_ETA) / 4)

OPTIMISERS = ("sgd", "sam", "fsgld")
CHECKED_STEPS = 2  # the second loss shows the first update


def trainer(model, x, y, optimiser):
    """A function that takes one training step on the whole batch and returns its loss, a tensor.

    The loss is that of the step's first pass: at the weights (sgd, sam) or at the perturbed ones (fsgld). State
    (weights, momentum, running statistics) goes on from step to step.
    """
    model.train()
    parameters = list(model.parameters())
    momentum = 0.0 if optimiser == "fsgld" else MOMENTUM
    base = torch.optim.SGD(parameters, LEARNING_RATE, momentum, weight_decay=WEIGHT_DECAY)

    def backward():
        base.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def move(offsets):
        for parameter, offset in zip(parameters, offsets):
            parameter.add_(offset)

    @torch.no_grad()
    def restore(values):
        for parameter, value in zip(parameters, values):
            parameter.copy_(value)

    def copies():
        return [parameter.detach().clone() for parameter in parameters]

    def sgd():
        loss = backward()
        base.step()
        return loss

    def sam():
        loss = backward()
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p.grad) for p in parameters]))
        saved = copies()
        move([p.grad * (SAM_RADIUS / norm) for p in parameters])
        backward()
        restore(saved)
        base.step()
        return loss

    def fsgld():
        saved = copies()
        move([FSGLD_SIGMA * torch.randn_like(p) for p in parameters])
        loss = backward()
        restore(saved)
        base.step()
        move([(2 * LEARNING_RATE * FSGLD_BETA_INVERSE) ** 0.5 * torch.randn_like(p) for p in parameters])
        return loss

    return {"sgd": sgd, "sam": sam, "fsgld": fsgld}[optimiser]
