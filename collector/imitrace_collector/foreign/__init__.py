"""Read what other people's instrumentors say of agents, and assemble it into trajectories; no I/O."""
