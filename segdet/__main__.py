"""`python -m segdet`, which torchrun can start."""

from .cli import main

main()
