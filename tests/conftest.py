"""Before any test, and before test processes start: let interrupts through, and compile the engine where due."""

import signal


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background; children would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        from simulator.engines.compiled.engine import kernel

        kernel()
