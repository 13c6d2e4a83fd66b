"""Before any test, and before test processes start: compile the engine once, where it is not in the cache yet."""


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        from simulator.engines.compiled.engine import kernel

        kernel()
