"""Importing this loads the machine code that is on disk: done once in the process that workers are forked from."""

from simulator.engines.compiled.compiling import is_kept
from simulator.engines.compiled.engine import kernel
from simulator.engines.compiled.sampling import filling

if is_kept("advance"):
    kernel()
if is_kept("fill"):
    filling()
