"""Serve a clone as a proxy of the model that it was cloned from. Import the modules themselves."""
