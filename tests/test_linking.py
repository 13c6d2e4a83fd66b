"""Compiled functions are linked as wholes, and compile without that too."""

import hashlib
import os
import pickle
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulator.engines import unkept
from simulator.engines.compiled import compiling
from simulator.engines.compiled.apart import compiled_apart
from simulator.engines.compiled.building import library_of, machine_code
from simulator.engines.compiled.compiling import compiled_once, is_kept
from simulator.engines.compiled.linking import Part, Whole
from simulator.engines.compiled.machine_code import MachineCode
from simulator.engines.compiled.pointers import compiled, inlined
from simulator.errors import UsageError

ROOT = Path(__file__).parent.parent
SIGNATURE = "int64(int64)"


@inlined
def squared(x):
    return x * x


@compiled
def sum_of_squares(n):
    total = 0
    for i in range(n):
        total += squared(i)
    return total


def twice_the_sum(n):
    return 2 * sum_of_squares(n) + squared(n)


def the_sum_and_itself(n):
    return sum_of_squares(n) + n


def library(helper):
    (result,) = helper.overloads.values()
    return result.library


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "compiled_apart", machine_code)  # the same in a process of its own takes seconds
    monkeypatch.setattr(unkept, "_content", {})
    compiled_once.cache_clear()
    yield tmp_path
    compiled_once.cache_clear()


def test_outermost_functions_share_helpers_that_have_no_machine_code():
    for name in ("twice_the_sum", "the_sum_and_itself"):
        assert isinstance(library_of(__name__, name, SIGNATURE)[1], Whole)
    for helper in (squared, sum_of_squares):
        part = library(helper)
        assert isinstance(part, Part)
        for function in part.get_defined_functions():
            assert not part.codegen._engine.is_symbol_defined(function.name)


def test_compiled_functions_do_what_they_say(cache):
    twice, itself = (compiled_once(__name__, name, SIGNATURE) for name in ("twice_the_sum", "the_sum_and_itself"))
    assert (twice(10), itself(10)) == (2 * 285 + 100, 285 + 10)


def test_a_whole_is_read_again_from_disk_without_being_compiled(cache, monkeypatch):
    first = compiled_once(__name__, "twice_the_sum", SIGNATURE)
    compiled_once.cache_clear()
    monkeypatch.setattr(compiling, "compiled_apart", None)
    again = compiled_once(__name__, "twice_the_sum", SIGNATURE)
    assert again is not first
    assert again(10) == first(10) == 670


def zeros_inside(content):
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]


def pickled(content):
    """What the format before this one held, with no object code."""
    return pickle.dumps((content.split(b"\n", 4)[3].decode(), b""))


DAMAGES = {
    "empty": lambda content: b"",
    "random": lambda content: os.urandom(len(content)),
    "cut in its head": lambda content: content[:50],
    "cut in its code": lambda content: content[:-100],
    "longer": lambda content: content + b"\n",
    "no code": lambda content: b"\n".join([*content.split(b"\n", 4)[:4], b""]),
    "wrong symbol": lambda content: content.replace(b"twice_the_sum", b"twice_the_SUM"),
    "zeros inside": zeros_inside,
    "another format": lambda content: content.replace(b"code 1", b"code 0", 1),
    "no text": lambda content: content.replace(b"twice_the_sum", b"twice\xff\xfe"),
    "an older pickle": pickled,
    "a pickle of None": lambda content: pickle.dumps(None),
    "a pickle of a dict": lambda content: pickle.dumps({"symbol": 1}),
    "a pickle of a missing module": lambda content: b"cno_such_module\nname\n.",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_compiled_again_and_replaced(cache, damage):
    expected = compiled_once(__name__, "twice_the_sum", SIGNATURE)(10)
    (file,) = cache.glob("*.bin")
    whole = file.read_bytes()
    damaged = damage(whole)
    assert damaged != whole
    file.write_bytes(damaged)
    compiled_once.cache_clear()
    assert not is_kept("twice_the_sum")
    assert compiled_once(__name__, "twice_the_sum", SIGNATURE)(10) == expected
    assert is_kept("twice_the_sum")


def test_a_file_with_the_code_of_another_function_is_compiled_again(cache):
    for name in ("twice_the_sum", "the_sum_and_itself"):
        compiled_once(__name__, name, SIGNATURE)
    (twice,), (itself,) = cache.glob("twice*.bin"), cache.glob("the_sum*.bin")
    twice.write_bytes(itself.read_bytes())
    compiled_once.cache_clear()
    assert compiled_once(__name__, "twice_the_sum", SIGNATURE)(10) == 670
    assert twice.read_bytes() != itself.read_bytes()


def test_code_without_its_function_is_not_called_but_compiled_again(cache):
    assert compiled_once(__name__, "twice_the_sum", SIGNATURE)(10) == 670
    (file,) = cache.glob("*.bin")
    kind, _, rest = file.read_bytes().split(b"\n", 2)
    name, _, object_code = rest.split(b"\n", 2)
    with pytest.raises(LookupError, match="no function absent"):
        MachineCode("absent", object_code).function(SIGNATURE)
    rest = b"\n".join((name, b"absent", object_code))
    file.write_bytes(b"\n".join((kind, hashlib.sha256(rest).hexdigest().encode(), rest)))
    compiled_once.cache_clear()
    assert is_kept("twice_the_sum")
    assert compiled_once(__name__, "twice_the_sum", SIGNATURE)(10) == 670
    assert b"absent" not in file.read_bytes()


def test_a_damaged_file_does_not_hide_a_whole_one_elsewhere(cache, tmp_path, monkeypatch):
    compiled_once(__name__, "twice_the_sum", SIGNATURE)
    (file,) = cache.glob("*.bin")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / file.name).write_bytes(b"")
    monkeypatch.setattr(compiling, "_directories", lambda: iter([tmp_path / "damaged", cache]))
    assert is_kept("twice_the_sum")


def test_an_empty_cache_directory_counts_as_none(monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    unset = list(compiling._directories())
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    assert list(compiling._directories()) == unset
    assert all(directory.is_absolute() for directory in unset)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_kept_file_may_be_read_by_whoever_the_umask_allows(cache, umask, mode):
    before = os.umask(umask)
    try:
        compiled_once(__name__, "twice_the_sum", SIGNATURE)
    finally:
        os.umask(before)
    (file,) = cache.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == mode


def test_a_file_is_on_disk_before_it_has_its_name(cache, monkeypatch):
    calls, sync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("replace"), replace(*names)))
    compiled_once(__name__, "twice_the_sum", SIGNATURE)
    assert calls == ["fsync", "replace"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(cache, monkeypatch):
    def full(file):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert compiled_once(__name__, "twice_the_sum", SIGNATURE)(10) == 670
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("announce", [True, False])
def test_code_that_cannot_be_kept_is_told_once_of_what_is_announced(cache, monkeypatch, caplog, announce):
    (cache / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache / "file"))
    assert compiled_once(__name__, "twice_the_sum", SIGNATURE, announce)(10) == 670
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == (2 if announce else 0)
    if announce:
        assert "compiling the engine" in told[0]
        assert f"could not be kept in {cache / 'file'}: it will be compiled again next time" in told[1]


def test_workers_use_code_that_could_not_be_kept_and_say_nothing(cache, monkeypatch, caplog):
    (cache / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache / "file"))
    compiled_once(__name__, "twice_the_sum", SIGNATURE)
    given = unkept.everything()
    monkeypatch.setattr(unkept, "_content", {})
    monkeypatch.setattr(compiling, "compiled_apart", None)
    compiled_once.cache_clear()
    assert not is_kept("twice_the_sum")
    unkept.adopt(given)
    assert compiled_once(__name__, "twice_the_sum", SIGNATURE, True)(10) == 670
    assert not caplog.records


def test_code_that_could_be_kept_is_given_to_no_worker(cache):
    compiled_once(__name__, "twice_the_sum", SIGNATURE)
    assert not unkept.everything()


def test_code_that_is_kept_is_announced_only(cache, caplog):
    compiled_once(__name__, "twice_the_sum", SIGNATURE, True)
    assert ["compiling the engine" in record.getMessage() for record in caplog.records] == [True]


def test_an_engine_that_may_not_be_compiled_is_refused_clearly(cache, monkeypatch, caplog):
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    with pytest.raises(UsageError, match="NUMBA_DISABLE_JIT set: unset it, or use --engine simpy"):
        compiled_once(__name__, "twice_the_sum", SIGNATURE, True)
    assert not caplog.records


def test_a_process_of_its_own_compiles_the_same():
    assert compiled_apart(__name__, "twice_the_sum", SIGNATURE).function(SIGNATURE)(10) == 670


def test_a_compilation_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no_such_function"):
        compiled_apart(__name__, "no_such_function", SIGNATURE)


RUN = """
import sys
from simulator.cli import main
try:
    main()
finally:
    print([name for name in ("numba", "simpy") if name in sys.modules], file=sys.stderr)
"""


def run(*arguments, **environment):
    command = [sys.executable, "-c", RUN, "run", "models/web-shop.yaml", "-d", "5s", "-r", "2", "--engine", "compiled"]
    command += arguments
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment})


def test_a_run_whose_engine_is_on_disk_imports_no_compiler():
    assert run().stderr.splitlines()[-1] == "[]"


def test_a_run_whose_engine_is_on_disk_needs_none():
    usual, done = run(), run(NUMBA_DISABLE_JIT="1")
    assert (done.returncode, done.stdout) == (usual.returncode, usual.stdout)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_workers_do_not_compile_again_what_cannot_be_kept(tmp_path):
    (tmp_path / "file").touch()
    usual, done = run("-j", "2"), run("-j", "2", NUMBA_CACHE_DIR=str(tmp_path / "file"))
    assert (done.returncode, done.stdout) == (usual.returncode, usual.stdout)
    assert done.stderr.count("compiling the engine") == done.stderr.count("could not be kept") == 1


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_ends_compiling(tmp_path, jobs):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "simulator.cli", "run", str(ROOT / "models/web-shop.yaml"), "-j", jobs],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "compiling the engine" in process.stderr.readline()
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    assert process.communicate(timeout=30) == ("", "tpsim: interrupted\n")
    shared_by = max(os.getloadavg()[0] / len(os.sched_getaffinity(0)), 1.0)  # a processor
    assert time.monotonic() - start < 2.0 * shared_by
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_may_not_compile_its_engine_says_what_to_do(tmp_path):
    done = run(NUMBA_DISABLE_JIT="1", NUMBA_CACHE_DIR=str(tmp_path))
    assert done.returncode == 2
    assert "cannot be compiled with NUMBA_DISABLE_JIT set" in done.stderr
    assert "internal error" not in done.stderr


DRAWS = """
import sys
if len(sys.argv) > 1:
    sys.modules["simulator.engines.compiled.linking"] = None
from simulator.distributions import Gamma
from simulator.engines.compiled import pointers, sampling
from simulator.streams import Stream, Streams
values = sampling.Sampler(Stream(Streams(1, 0), "s", Gamma(2.0, 0.5))).block(0, 64)
print("pipeline_class" in pointers.HELPER, values.tobytes().hex())
"""


def draws(tmp_path, *arguments):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / str(len(arguments)))}
    return subprocess.run(
        [sys.executable, "-c", DRAWS, *arguments], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()


def test_functions_compile_to_the_same_where_numba_does_not_let_us_link_them(tmp_path):
    linked, values = draws(tmp_path)
    apart, same_values = draws(tmp_path, "apart")
    assert (linked, apart) == ("True", "False")
    assert values == same_values
