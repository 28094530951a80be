"""Time the gradient steps of imitation's behaviour cloning; runs in an environment of its own.

python with_imitation.py ARRAYS.npz EPOCHS BATCH HIDDEN
"""

import importlib.metadata
import json
import sys
import time

import gymnasium as gym
import numpy as np
import torch
from imitation.algorithms import bc  # type: ignore[import-not-found]  # the same
from imitation.data.types import Transitions  # type: ignore[import-not-found]  # the same
from imitation.util import logger  # type: ignore[import-not-found]  # the same
from stable_baselines3.common.policies import ActorCriticPolicy  # type: ignore[import-not-found]  # the same

arrays, epochs, batch, hidden = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(1)
with np.load(arrays) as file:
    states, labels = file["states"], file["labels"]
seen = gym.spaces.Box(-np.inf, np.inf, states.shape[1:], np.float32)
taken = gym.spaces.Discrete(int(labels.max()) + 1)
shape = {"pi": [hidden], "vf": []}
policy = ActorCriticPolicy(seen, taken, lambda _: 1e-3, net_arch=shape, activation_fn=torch.nn.ReLU)
trainer = bc.BC(
    observation_space=seen,
    action_space=taken,
    rng=np.random.default_rng(0),
    policy=policy,
    demonstrations=Transitions(states, labels, np.array([{}] * len(labels)), states, np.zeros(len(labels), dtype=bool)),
    batch_size=batch,
    device="cpu",
    custom_logger=logger.configure(format_strs=[]),
)
trainer.train(n_epochs=1, progress_bar=False)
began = time.process_time()
trainer.train(n_epochs=epochs, progress_bar=False)
seconds = time.process_time() - began
steps = epochs * (len(labels) // batch)  # its loader leaves out what does not fill a batch
versions = {name: importlib.metadata.version(name) for name in ("imitation", "stable-baselines3", "torch")}
print(json.dumps({"steps_per_s": steps / seconds, "versions": versions}))
