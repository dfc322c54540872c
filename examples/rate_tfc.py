"""A transform that TensorFlow trains, with the rate from a server.

    python examples/rate_tfc.py [--server HOST:PORT] [--steps 200]

A matrix maps vectors of 8 correlated numbers to a bottleneck, which has a mean and a scale for each channel,
and another matrix maps it back. Training minimises bits + 12 * squared error, per vector. Without --server it
starts a server of its own.
"""

import argparse
from contextlib import ExitStack

import tensorflow as tf

import entropyd
from entropyd import priors
from entropyd.tfc import rate
from entropyd_server.local import LocalServer

arguments = argparse.ArgumentParser(description="a transform trained with the rate from a server")
arguments.add_argument("--server", help="server to use; by default one is started")
arguments.add_argument("--steps", type=int, default=200, help="steps of training")
options = arguments.parse_args()
tf.random.set_seed(0)
mean, mixing = tf.random.normal([8]), tf.exp(tf.linspace(1.2, -3.0, 8))[:, None] * tf.random.normal([8, 8])
encoder, decoder, loc, index = variables = [
    tf.Variable(start) for start in (tf.eye(8), tf.eye(8), tf.zeros(8), tf.fill([8], 20.0))
]
optimizer = tf.keras.optimizers.Adam(0.05)
with ExitStack() as stack:
    client = stack.enter_context(entropyd.Client(options.server or stack.enter_context(LocalServer()).target))
    prior = priors.indexed("NoisyNormal", index_ranges=(64,), loc=0.0, scale=priors.log_spaced(0.11, 256.0))
    model = client.create_model(entropyd.LocationScaleIndexedConfig(prior=prior, coding_rank=1))

    def train() -> tuple[tf.Tensor, tf.Tensor]:
        """One step; returns rate and distortion before it."""
        x = mean + tf.random.normal([512, 8]) @ mixing
        with tf.GradientTape() as tape:
            y = x @ encoder
            bits = tf.reduce_mean(rate(model, y, tf.broadcast_to(index, y.shape), loc))
            restored = (y + tf.random.uniform(y.shape, -0.5, 0.5)) @ decoder
            distortion = tf.reduce_mean(tf.reduce_sum((restored - x) ** 2, axis=1))
            loss = bits + 12 * distortion
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return bits, distortion

    train_in_graph = tf.function(train)
    for step in range(options.steps + 1):
        bits, distortion = train_in_graph()
        if step in {0, options.steps}:
            print(f"step {step}: {bits:.2f} bits, squared error {distortion:.3f}")
