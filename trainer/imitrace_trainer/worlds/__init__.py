"""Plug in worlds and experts that others made: TextWorld's cooking, Gymnasium, a model as expert."""
