"""Receive what agents did over OTLP, keep it in one DuckDB file, derive trajectories from it, write snapshots."""
