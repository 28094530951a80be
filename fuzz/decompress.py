"""Fuzz the target of this name; fuzz/README.md says how."""

import sys

import atheris

with atheris.instrument_imports():
    from targets import TARGETS

if __name__ == "__main__":
    atheris.Setup(sys.argv, TARGETS["decompress"])
    atheris.Fuzz()
