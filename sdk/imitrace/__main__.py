"""Let ``python -m imitrace`` be the ``imitrace`` command."""

from imitrace.cli import main

main()
