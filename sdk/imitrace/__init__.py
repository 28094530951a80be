"""Trace an agent, so that its behaviour can be cloned."""
