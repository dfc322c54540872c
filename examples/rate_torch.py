"""A transform that PyTorch trains, with the rate from a server.

    python examples/rate_torch.py [--server HOST:PORT] [--steps 200]

A matrix maps vectors of 8 correlated numbers to a bottleneck, which has a mean and a scale for each channel,
and another matrix maps it back. Training minimises bits + 12 * squared error, per vector. It needs torch.
Without --server it starts a server of its own, which needs the modeling role.
"""

import argparse
from contextlib import ExitStack

import torch

import entropyd
from entropyd import priors
from entropyd.torch import rate
from entropyd_server.local import LocalServer

arguments = argparse.ArgumentParser(description="a transform trained with the rate from a server")
arguments.add_argument("--server", help="server to use; by default one is started")
arguments.add_argument("--steps", type=int, default=200, help="steps of training")
options = arguments.parse_args()
torch.manual_seed(0)
mean, mixing = torch.randn(8), torch.logspace(0.5, -1.3, 8)[:, None] * torch.randn(8, 8)
encoder, decoder, loc, index = torch.eye(8), torch.eye(8), torch.zeros(8), torch.full((8,), 20.0)
parameters = [x.requires_grad_() for x in (encoder, decoder, loc, index)]
optimizer = torch.optim.Adam(parameters, lr=0.05)
with ExitStack() as stack:
    client = stack.enter_context(entropyd.Client(options.server or stack.enter_context(LocalServer()).target))
    prior = priors.indexed("NoisyNormal", index_ranges=(64,), loc=0.0, scale=priors.log_spaced(0.11, 256.0))
    model = client.create_model(entropyd.LocationScaleIndexedConfig(prior=prior, coding_rank=1))
    for step in range(options.steps + 1):
        x = mean + torch.randn(512, 8) @ mixing
        y = x @ encoder
        bits = rate(model, y, index.expand_as(y), loc).mean()
        restored = (y + torch.rand_like(y) - 0.5) @ decoder
        distortion = ((restored - x) ** 2).sum(1).mean()
        if step in {0, options.steps}:
            print(f"step {step}: {bits.item():.2f} bits, squared error {distortion.item():.3f}")
        optimizer.zero_grad()
        (bits + 12 * distortion).backward()
        optimizer.step()
