"""tpsim: capacity planning by simulation."""
