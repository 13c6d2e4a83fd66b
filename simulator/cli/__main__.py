"""`python -m simulator.cli` is the `tpsim` command."""

from simulator.cli import main

main()
