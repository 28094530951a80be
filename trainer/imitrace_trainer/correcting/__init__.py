"""Correct clones where their own steps lead: an expert labels, or takes over, where they came by themselves."""
