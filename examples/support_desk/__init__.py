"""Simulate a support desk."""
