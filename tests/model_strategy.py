"""Random small models over the whole language, as plain dicts for `System.model_validate`.

Times are often multiples of 1/8 s, so that events fall on the same instant. Calls and messages go from a service
to a later one only, locks belong to one service each and are never nested, and memory is held by steps that ask
for nothing else, so that no model deadlocks: when its load ends, it drains.
"""

import re
from pathlib import Path

from hypothesis import strategies as st

ROBOT = "robot"
EIGHTHS = [n / 8 for n in (1, 1, 2, 3, 4, 8)]
MEMORY = 1000


def seconds(value):
    return f"{float(value)!r} s"


def size(value):
    return f"{float(value)!r} B"


def maybe(strategy):
    return st.none() | strategy


def without_nones_inside(value):
    return without_nones(value) if isinstance(value, dict) else value


def without_nones(mapping):
    return {key: value for key, value in mapping.items() if value is not None}


constant_times = st.sampled_from([0.0, *EIGHTHS]).map(seconds)
positive_times = st.sampled_from(EIGHTHS).map(seconds)
constant_fractions = st.sampled_from([0.0, 1 / 1024, 1 / 128]).map(seconds)


def drawn(quantity, means):
    """Any distribution with one of the means."""

    def distributions(mean):
        whole = quantity(mean)
        return st.sampled_from(
            [
                {"exponential": whole},
                {"erlang": {"mean": whole, "stages": 3}},
                {"gamma": {"mean": whole, "cv": 0.5}},
                {"lognormal": {"mean": whole, "cv": 2.0}},
                {"lognormal": {"p50": whole, "p95": quantity(3.0 * mean)}},
                {"hyperexponential": {"mean": whole, "cv": 3.0}},
                {"uniform": {"low": quantity(0.0), "high": quantity(2.0 * mean)}},
                {"weibull": {"mean": whole, "shape": 0.7}},
                {"bounded_pareto": {"low": quantity(mean / 4), "high": quantity(mean * 16), "shape": 1.5}},
                {"empirical": {"values": [quantity(0.0), whole, quantity(mean * 2)]}},
            ]
        )

    return st.sampled_from(means).flatmap(distributions)


times = st.one_of(constant_times, constant_times, drawn(seconds, EIGHTHS))
sizes = st.one_of(st.sampled_from([0, 100, 100, 400, MEMORY, MEMORY + 1]).map(size), drawn(size, [50.0, 300.0]))
counts = st.sampled_from([0, 1, 2, 3, 2.5, {"uniform": {"low": 0, "high": 3}}])
drawn_keys = st.sampled_from([{"uniform": 1}, {"uniform": 6}, {"zipf": {"count": 20, "exponent": 0.9}}])
KEY = "k"
keys = st.one_of(drawn_keys, st.just(KEY))

retries = st.fixed_dictionaries(
    {"most": st.integers(0, 3)},
    optional={
        "backoff": constant_times,
        "factor": st.sampled_from([1.0, 2.0, 3.0]),
        "longest": positive_times,
        "jitter": st.sampled_from([0.0, 0.5, 1.0]),
        "budget": st.fixed_dictionaries(
            {
                "ratio": st.sampled_from([0.0, 0.25, 1.0]),
                "reserve": st.sampled_from(["0.0 /s", "1.0 /s"]),
                "saved": st.sampled_from([1.0, 2.0]),
            }
        ),
    },
)
breakers = st.one_of(
    st.fixed_dictionaries({"consecutive": st.integers(1, 3), "open": positive_times}),
    st.fixed_dictionaries(
        {
            "failures": st.sampled_from([0.25, 1.0]),
            "calls": st.integers(3, 5),
            "least": st.integers(1, 3),
            "open": positive_times,
            "trials": st.integers(1, 2),
        }
    ),
)
bulkheads = st.fixed_dictionaries({"most": st.integers(1, 3), "queue_limit": st.integers(0, 2)})
guards = st.fixed_dictionaries(
    {},
    optional={
        "timeout": st.sampled_from([1 / 8, 1 / 4, 1 / 2, 1, 3]).map(seconds),
        "on_timeout": st.sampled_from(["cancel", "abandon"]),
        "retries": retries,
        "circuit_breaker": breakers,
        "bulkhead": bulkheads,
        "hedge": st.fixed_dictionaries({"after": positive_times, "copies": st.integers(1, 2)}),
    },
)
codings = st.fixed_dictionaries(
    {},
    optional={
        # Slow enough to be seen beside times of an eighth of a second.
        "format": st.sampled_from(
            [
                {"kind": "json", "encode": "800.0 B/s", "decode": "1600.0 B/s"},
                {"kind": "protobuf", "encode": "1600.0 B/s", "decode": "400.0 B/s"},
            ]
        ),
        "compression": st.sampled_from([{"kind": "zstd", "compress": "800.0 B/s", "decompress": "1600.0 B/s"}]),
        "connection": st.fixed_dictionaries(
            {
                "keep_alive": st.sampled_from([0.0, 0.5]),
                "tls": st.sampled_from([True, False, "1.2"]),
                "handshake_cpu": positive_times,
            },
            optional={"resumed": st.just(0.5)},
        ),
    },
)
places = st.sampled_from(["r1/a/k1", "r1/a/k2", "r1/b", "r2", ["r1/a/k1", "r1/a/k1", "r1/b"], ["r1/a", "r2/a"]])

cpus = st.sampled_from(
    [
        1, 1, 2, 4,
        {"cores": 2, "speed": 2.0},
        {"cores": 2, "threads_per_core": 2, "smt_yield": 1.5},
        {"cores": 4, "sockets": 2, "remote_efficiency": 0.7, "threads_per_core": 2},
        {"cores": 1, "quota": {"cpus": 0.25, "period": "0.5 s"}},
        {"cores": 2, "overhead": 0.25, "quota": {"cpus": 1.5, "period": "0.125 s"}},
        {"cores": 4, "contention": {"sigma": 0.125, "kappa": 0.0625}},
    ]
)  # fmt: skip
when_full = st.one_of(
    st.sampled_from([{"when_full": "wait"}, {"when_full": "reject"}]),
    st.fixed_dictionaries({"when_full": st.just("restart"), "restart": times}),
)
memories = st.builds(
    lambda memory, when_full: memory | when_full,
    st.fixed_dictionaries(
        {"size": st.just(size(MEMORY))}, optional={"bandwidth": st.sampled_from(["800.0 B/s", "5000.0 B/s"])}
    ),
    when_full,
)
service_memories = st.fixed_dictionaries(
    {},
    optional={"base": st.just(size(50)), "per_connection": st.just(size(50)), "per_request": sizes},
)
flushes = st.fixed_dictionaries(
    {},
    optional={
        "time": positive_times,
        "cv": st.sampled_from([0.0, 1.0]),
        "most": st.integers(1, 3),
        "linger": constant_times,
    },
)
arrays = st.sampled_from([(0, 2), (1, 2), (5, 3), (6, 4), (10, 4)]).map(
    lambda raid: {"level": raid[0], "disks": raid[1]}
)
any_disk = {
    "bandwidth": st.sampled_from(["800.0 B/s", "10000.0 B/s"]),
    "raid": arrays,
    "fsync": flushes,
}
channel_disks = st.fixed_dictionaries(
    {
        "iops": st.sampled_from(["4.0 /s", "16.0 /s", "50.0 /s"]),
        "queue_depth": st.integers(1, 3),
        "cv": st.sampled_from([0.0, 0.0, 1.0, 0.5]),
    },
    optional={
        **any_disk,
        "write_iops": st.sampled_from(["4.0 /s", "32.0 /s"]),
        "discipline": st.sampled_from(["fifo", "lifo", "priority"]),
    },
)
paced_disks = st.fixed_dictionaries(
    {"iops": st.sampled_from(["4.0 /s", "16.0 /s"]), "latency": positive_times, "cv": st.sampled_from([0.0, 0.0, 1.0])},
    optional={
        **any_disk,
        "write_iops": st.sampled_from(["4.0 /s", "32.0 /s"]),
        "write_latency": positive_times,
        "queue_depth": st.integers(1, 3),
        "burst_window": positive_times,
        "credits": st.fixed_dictionaries(
            {"baseline": st.sampled_from(["1.0 /s", "8.0 /s"]), "balance": st.sampled_from([1, 4, 16])}
        ),
    },
)
hard_disks = st.fixed_dictionaries(
    {"seek": st.one_of(positive_times, drawn(seconds, EIGHTHS)), "rpm": st.sampled_from([60, 240])}, optional=any_disk
)
disks = st.one_of(channel_disks, channel_disks, paced_disks, hard_disks)
nics = st.fixed_dictionaries(
    {"bandwidth": st.sampled_from(["800.0 B/s", "5000.0 B/s"]), "overhead": st.sampled_from([1.0, 1.25])}
)
hosts = st.fixed_dictionaries(
    {
        "cpu": cpus, "memory": maybe(memories), "disk": maybe(disks), "nic": maybe(nics), "count": st.integers(1, 3),
        "place": maybe(places),
    }
).map(without_nones)  # fmt: skip
caches = st.one_of(
    st.fixed_dictionaries(
        {
            "entries": st.integers(1, 6),
            "eviction": st.sampled_from(["lru", "fifo", "lfu"]),
            "start": st.sampled_from(["warm", "cold"]),
        },
        optional={
            "time_to_live": st.sampled_from([1 / 4, 1, 5]).map(seconds),
            "hit_ratio": st.sampled_from(["simulated", "computed"]),
        },
    ),
    st.fixed_dictionaries({"hit_ratio": st.sampled_from([0.0, 0.3, 1.0])}),
)
# Who fetches waits for nothing that those who wait for the fetch may hold, so only delays and calls outside.
fetched_once = st.fixed_dictionaries(
    {"entries": st.integers(1, 3), "start": st.sampled_from(["warm", "cold"]), "single_flight": st.just(True)},
    optional={"time_to_live": st.sampled_from([1 / 4, 1]).map(seconds)},
)
volumes = st.fixed_dictionaries({"disk": disks}, optional={"nic": nics, "latency": times})
tables = st.fixed_dictionaries(
    {
        "key": st.just(KEY),
        "row": st.sampled_from(["40 B", "100 B"]),
        "layout": st.sampled_from(["scattered", "clustered"]),
        "index": st.booleans(),
        "indexes": st.integers(0, 1),
    }
)
databases = st.fixed_dictionaries(
    {
        "tables": st.fixed_dictionaries({"t": tables, "u": tables}),
        "page": st.just("100 B"),
        "read_ahead": st.just(2),
        "page_cpu": st.sampled_from(["0.0 s", "0.125 s"]),
        "row_cpu": st.just("0.0 s"),
        "log_write": st.sampled_from(["0 B", "100 B"]),
        "replicas": maybe(st.just({"service": "s0", "lag": "0.25 s"})),
    },
    optional={
        "buffer_pool": st.sampled_from(["100 B", "350 B"]),
        "hit_ratio": st.sampled_from(["simulated", "computed"]),
        "start": st.sampled_from(["warm", "cold"]),
    },
).map(without_nones)
locks = st.fixed_dictionaries({}, optional={"queue_limit": st.integers(0, 2)})
externals = st.fixed_dictionaries(
    {"latency": times},
    optional={"failures": st.sampled_from([0.0, 0.25, 1.0]), "concurrency": st.integers(1, 2)},
)
# Few tokens, steps of about an eighth of a second, and room for so few keys and values that sequences are preempted.
tokens = st.one_of(
    st.sampled_from([0, 1, 3, 8, 20]), st.sampled_from([{"uniform": {"low": 0, "high": 12}}, {"exponential": 5}])
)
# Prompts of a trace with prefix hashes, an id for four tokens in place of 512.
PROMPTS = Path(__file__).parent / "models" / "prompts.jsonl"
recorded_tokens = st.just({"trace": {"column": "input", "each": 1 / 128, "file": str(PROMPTS)}})
step_times = st.fixed_dictionaries(
    {"overhead": st.sampled_from(["0.0625 s", "0.125 s"]), "weights": st.just("0.0 s"), "token": constant_fractions},
    optional={
        "sequence": constant_fractions,
        "chunk": constant_fractions,
        "floor": st.sampled_from([0.0, 2.0, 8.0]),
        "generated": constant_fractions,
        "mixed": constant_fractions,
        "mixed_sequence": constant_fractions,
        "longest": constant_fractions,
        "uneven": constant_fractions,
        "activation": constant_fractions,
        "experts": constant_fractions,
        "expert_share": st.sampled_from([0.0, 0.125, 1.0]),
        "link": constant_fractions,
        "link_token": constant_fractions,
    },
)
serving = {
    "replicas": st.sampled_from([1, 2, 2]),
    "tensor_parallel": st.sampled_from([1, 2]),
    "max_sequences": st.integers(1, 4),
    "max_batched_tokens": st.sampled_from([4, 8, 64]),
    "chunked_prefill": st.booleans(),
    "mixed_steps": st.booleans(),
    "prefix_caching": st.booleans(),
    "batching": st.sampled_from(["continuous", "continuous", "static"]),
    "scheduling": st.sampled_from(["fcfs", "priority"]),
    "balancer": st.sampled_from(["round_robin", "random", "least_outstanding", "power_of_two"]),
    "affinity": st.booleans(),
    "affinity_tokens": st.sampled_from([1, 5]),
    "front_end": times,
}


def with_gpus(spec):
    """As many as the replicas take, for prompts apart as well."""
    each = spec.get("tensor_parallel", 1) * spec.get("pipeline_parallel", 1)
    apart = {"prefill": {**spec["prefill"], "gpus": each * spec["prefill"]["gpus"]}} if "prefill" in spec else {}
    return (
        {name: value for name, value in spec.items() if name != "replicas"}
        | apart
        | {"gpus": each * spec.get("replicas", 1)}
    )


own_llms = st.fixed_dictionaries(
    {"step_time": step_times, "kv_tokens": st.sampled_from([8, 24, 40, 400]), "block": st.sampled_from([1, 4])},
    optional={**serving, "pipeline_parallel": st.sampled_from([1, 2])},
).map(with_gpus)
# A tiny model with room for a fixed number of tokens, whose keys and values take their time over a link.
tiny = {"parameters": 1e6, "layers": 1, "heads": 1, "kv_heads": 1, "head": 1}
slow_gpu = {"memory": "10.0 GB", "memory_bandwidth": "1.0e+8 B/s", "teraflops": {"bf16": 1e-4}, "link": "1000.0 B/s"}
split_llms = st.fixed_dictionaries(
    {
        "model": st.just(tiny),
        "gpu": st.just(slow_gpu),
        "kv_tokens": st.sampled_from([24, 40, 400]),
        "block": st.just(4),
        "prefill": st.fixed_dictionaries(
            {"gpus": st.sampled_from([1, 2]), "link": st.sampled_from(["16.0 B/s", "400.0 B/s"])}
        ),
    },
    optional=serving,
).map(
    lambda spec: {
        **with_gpus(spec),
        "efficiency": {"overhead": "0.0625 s", "layer": "0.0 s", "sequence": "0.0 s", "link_latency": "0.0 s"},
    }
)
providers = st.fixed_dictionaries(
    {"first_token": times},
    optional={
        "per_token": drawn(seconds, [1 / 64]) | st.just(seconds(1 / 32)),
        "per_input_token": st.just(seconds(1 / 64)),
        "failures": st.sampled_from([0.0, 0.25, 1.0]),
        "requests_rate": st.sampled_from(["0.0625 /s", "1.0 /s"]),
        "tokens_rate": st.sampled_from(["8.0 /s", "0.25 /s"]),
        "when_limited": st.sampled_from(["reject", "wait"]),
        "input_price": st.just(1.0),
        "output_price": st.just(2.0),
        "cached_price": st.just(0.5),
        "cache_from": st.sampled_from([0, 4]),
        "cache_step": st.sampled_from([1, 4]),
        "cache_time": positive_times,
    },
)
response_caches = st.fixed_dictionaries(
    {"entries": st.integers(1, 4)},
    optional={
        "time_to_live": positive_times,
        "similar": st.sampled_from([0.0, 0.25]),
        "wrong": st.sampled_from([0.0, 0.5]),
        "embedding": positive_times,
    },
)
LLMS = ("own", "split", "hosted", "gate")
rate_limits = st.fixed_dictionaries(
    {
        "rate": st.sampled_from(["2.0 /s", "8.0 /s"]),
        "burst": st.sampled_from([1, 1.5, 4]),
        "when_empty": st.sampled_from(["reject", "wait"]),
    },
    optional={
        "per_client": st.fixed_dictionaries(
            {"rate": st.just("1.0 /s"), "burst": st.sampled_from([1, 2]), "clients": st.just({"uniform": 3})},
            optional={"key": st.just(KEY)},
        ),
    },
)
service_settings = st.fixed_dictionaries(
    {
        "replicas": maybe(st.integers(1, 4)),
        "workers": maybe(st.integers(1, 3)),
        "worker_model": st.sampled_from(["thread", "event_loop"]),
        "queue_limit": maybe(st.integers(0, 3)),
        "queue": st.sampled_from(["fifo", "fifo", "lifo", "priority"]),
        "load_shedding": maybe(
            st.fixed_dictionaries({"wait": positive_times}, optional={"standing": st.just(seconds(0.5))})
        ),
        "concurrency_limit": maybe(maybe(bulkheads)),
        "balancer": st.sampled_from(["round_robin", "random", "least_outstanding", "power_of_two", "weighted"]),
        "rate_limit": maybe(rate_limits),
        "affinity": st.sampled_from([None, None, KEY, "user"]),
        "authentication": maybe(st.just([{"compute": seconds(1 / 16)}])),
    }
).map(lambda settings: with_weights(without_nones(settings)))


def with_weights(settings):
    if "affinity" in settings:
        return {name: value for name, value in settings.items() if name != "balancer"}
    return {**settings, "weights": [2, 1, 0.5]} if settings["balancer"] == "weighted" else settings


@st.composite
def brokers(draw, operations, host_specs):
    """A broker whose consumers do some operations."""
    groups = {
        name: {
            "operation": draw(st.sampled_from(operations)),
            "count": draw(st.integers(1, 3)),
            "dead_letter": draw(st.booleans()),
            **draw(guards),
        }
        for name in ("g", "h")[: draw(st.integers(1, 2))]
    }
    spec = {"acknowledge": draw(st.sampled_from(["none", "leader", "all"])), "consumers": groups}
    if draw(st.booleans()):
        spec |= {"partitions": draw(st.integers(1, 4)), "key": draw(maybe(drawn_keys))}
        batch = st.fixed_dictionaries({"most": st.integers(1, 3), "linger": constant_times, "time": times})
        groups["g"]["batch"] = draw(maybe(batch))
        groups["g"] = without_nones(groups["g"])
    if draw(st.booleans()):
        spec |= {"limit": draw(st.integers(1, 4)), "when_full": draw(st.sampled_from(["wait", "reject"]))}
    host = draw(maybe(st.sampled_from(sorted(host_specs))))
    if host is None:
        return without_nones({**spec, "latency": draw(times)})
    spec |= {"host": host, "replicas": draw(st.integers(1, host_specs[host]["count"])), "cpu": draw(times)}
    return without_nones({**spec, "write": draw(maybe(sizes)) if "disk" in host_specs[host] else None})


api_keys = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.fixed_dictionaries(
        {},
        optional={
            "team": st.sampled_from(["x", "y"]),
            "share": st.sampled_from([1.0, 3.0]),
            "requests": st.sampled_from(["0.5 /s", "0.0078125 /s"]),
            "tokens": st.just("1.0 /s"),
        },
    ),
    max_size=3,
)
"""Keys of a gateway by name."""


@st.composite
def gateways(draw, host_specs, names):
    """A gateway to some of the LLMs."""
    backends = {name: {**draw(guards), "weight": draw(st.sampled_from([1.0, 3.0, 0.0]))} for name in names}
    backends[draw(st.sampled_from(names))]["weight"] = 1.0
    for backend in backends.values():
        if "timeout" not in backend and draw(st.booleans()):
            backend["first_token_timeout"] = draw(st.sampled_from(["0.0625 s", "0.5 s", "2.0 s"]))
    routing = draw(st.sampled_from(["weighted", "round_robin", "least_outstanding", "affinity", "fallback"]))
    host = draw(st.sampled_from(sorted(host_specs)))
    spec = {"host": host, "cpu": draw(times), "backends": backends, "routing": routing}
    if routing != "fallback" and draw(st.booleans()):
        spec["fallback"] = names[-1:]
    if host_specs[host].get("memory", {}).get("when_full") == "reject":
        spec["memory"] = draw(service_memories)
    limit = st.fixed_dictionaries(
        {"key": st.just(KEY)}, optional={"requests": st.sampled_from(["0.5 /s", "0.0625 /s"])}
    )
    more = {
        "replicas": st.integers(1, 2),
        "workers": st.integers(1, 3),
        "authentication": positive_times,
        "concurrency_limit": bulkheads,
        "cache": response_caches,
        "limit": limit.map(lambda spec: {**spec, "tokens": "1.0 /s"}),
        "keys": api_keys,
    }
    spec |= draw(st.fixed_dictionaries({}, optional=more))
    if "a" in spec.get("keys", {}):
        spec["keys"]["a"]["backends"] = {names[0]: {"requests": draw(st.sampled_from(["0.5 /s", "0.0625 /s"]))}}
    return spec


@st.composite
def llms(draw, host_specs):
    """LLMs of one's own, with and without prompts computed apart, of a provider, and a gateway to some of them."""
    known = {"own": draw(own_llms), "split": draw(split_llms), "hosted": {"provider": draw(providers)}}
    names = draw(st.lists(st.sampled_from(sorted(known)), min_size=1, max_size=2, unique=True))
    return {**known, "gate": {"gateway": draw(gateways(host_specs, names))}}


@st.composite
def contexts(draw, later):
    """How much of a conversation goes into a prompt; what is kept outside is kept by a later service."""
    kinds = ["window", "summary", "both"] + (["store"] if later else [])
    match draw(st.sampled_from(kinds)):
        case "window":
            return draw(st.sampled_from([0, 4, 20]))
        case "store":
            names = st.sampled_from([name for name, _ in later])
            return {"store": {"fetch": draw(names), "save": draw(names)}, "window": draw(maybe(st.just(8)))}
        case kind:
            by = draw(maybe(st.sampled_from(LLMS)))
            summary = without_nones({"above": draw(st.sampled_from([5, 20])), "to": 3, "by": by})
            return {"summary": summary, "window": 8} if kind == "both" else {"summary": summary}


class Surroundings:
    """What the steps of one service may use: names of operations of later services, its lock, equipment, brokers."""

    def __init__(self, later, lock, equipment, processes, brokers=(), talks=False):
        self.later = later
        self.brokers = brokers
        self.lock = lock
        self.equipment = equipment
        self.processes = processes
        self.talks = talks  # whether every prompt is one of a conversation

    def held(self):
        """Inside the service's lock it is not asked for again."""
        return Surroundings(self.later, None, self.equipment, self.processes, self.brokers, self.talks)

    def leaf(self):
        """Inside memory nothing else is asked for that others hold while they wait."""
        return Surroundings([], None, self.equipment - {"memory"}, self.processes, (), self.talks)


def step_kinds(around, depth):
    """The kinds of step that may stand here, the simple ones twice."""
    simple = ["compute", "delay", "lookup", "fetch", "external", "fail", "pick", "forget", "query", "update"]
    simple += ["generate", "generate", "generate"]
    if "disk" in around.equipment:
        simple += ["read", "write", "fsync"]
    if "nic" in around.equipment:
        simple += ["transfer"]
    if around.processes:
        simple += ["use"]
    if around.later:
        simple += ["call", "call", "publish", "scatter", "mcp"]
    if around.brokers:
        simple += ["publish to a broker", "publish to a broker"]
    if depth == 0:
        return simple
    nested = ["choose", "parallel", "parallel", "repeat"]
    if around.lock:
        nested += ["lock"]
    if "memory" in around.equipment:
        nested += ["hold", "move"]
    nested += ["block"]
    return simple + nested


@st.composite
def steps(draw, around, depth):
    """A list of steps."""
    return [draw(step(around, depth)) for _ in range(draw(st.integers(0 if depth < 2 else 1, 3)))]


@st.composite
def step(draw, around, depth):
    kind = draw(st.sampled_from(step_kinds(around, depth)))
    return draw(step_of(kind, around, depth))


@st.composite
def step_of(draw, kind, around, depth=0):
    """A step of a kind."""
    inner = steps(around, depth - 1) if depth else None
    match kind:
        case "compute":
            return {"compute": draw(times)}
        case "delay":
            return {"delay": draw(times), "name": draw(st.sampled_from(["delay", "think"]))}
        case "lookup":
            lists = steps(around, depth - 1) if depth else st.just([])
            return {"lookup": "c", "key": draw(keys), "hit": draw(lists), "miss": draw(lists)}
        case "fetch":
            miss = st.lists(st.one_of(*(step_of(kind, around) for kind in ("delay", "external", "fail"))), max_size=2)
            return {"lookup": "f", "key": draw(keys), "miss": draw(miss)}
        case "pick":
            return {"pick": KEY}
        case "forget":
            return {draw(st.sampled_from(["invalidate", "put"])): "c", "key": draw(keys)}
        case "query":
            return {"query": "d.t", "rows": draw(st.integers(1, 2)), "cpu": draw(constant_times)}
        case "update":
            own = without_nones({"key": draw(maybe(keys))})
            return {"update": "d.u", "cpu": draw(constant_times), "lock": draw(st.booleans()), **own}
        case "scatter":
            need = draw(maybe(st.integers(1, 3)))
            unfinished = draw(st.sampled_from(["cancel", "continue"]))
            target = draw(st.sampled_from(around.later))[0]
            return without_nones({"scatter": target, "need": need, "unfinished": unfinished})
        case "external":
            return {"external": "api", **draw(guards)}
        case "fail":
            # A step that always fails hides what follows it.
            share = draw(st.sampled_from([0.125, 0.5]))
            bad = {"probability": share, "steps": [{"fail": draw(st.sampled_from(["broken", "denied"]))}]}
            return {"choose": [bad, {"probability": 1 - share, "steps": []}]}
        case "read" | "write":
            more = {"items": st.integers(1, 3), "pattern": st.sampled_from(["random", "sequential"])}
            optional = draw(st.fixed_dictionaries({}, optional={**more, "volume": st.just("v")}))
            return without_nones({kind: draw(sizes), "times": draw(maybe(counts)), **optional})
        case "fsync":
            return without_nones({"fsync": draw(sizes), "volume": draw(maybe(st.just("v")))})
        case "transfer":
            return {"transfer": draw(sizes), "direction": draw(st.sampled_from(["out", "in"]))}
        case "generate":
            optional = {
                "system": st.sampled_from([0, 5, 12]),
                "retrieved": tokens,
                "key": keys,
                "streamed": st.booleans(),
                "prefix_hashes": st.booleans(),
            }
            if around.talks:
                optional["context"] = contexts(around.later).map(without_nones_inside)
            lengths = {"input": draw(tokens | recorded_tokens), "output": draw(tokens)}
            lengths = {name: value for name, value in lengths.items() if not (around.talks and draw(st.booleans()))}
            return {
                "generate": draw(st.sampled_from(LLMS)),
                **lengths,
                **draw(st.fixed_dictionaries({}, optional=optional)),
            }
        case "use":
            return {"use": ROBOT, "demand": draw(times)}
        case "mcp":
            target, _ = draw(st.sampled_from(around.later))
            optional = {
                "arguments": tokens,
                "bytes_per_token": st.sampled_from([3, 5]),
                "envelope": st.sampled_from(["0 B", "300 B"]),
            }
            return {
                "mcp": target,
                "result": draw(tokens),
                **draw(st.fixed_dictionaries({}, optional=optional)),
                **draw(codings),
                **draw(guards),
            }
        case "call":
            target, has_nics = draw(st.sampled_from(around.later))
            bytes_sent = {"request": draw(maybe(sizes)), "response": draw(maybe(sizes))} if has_nics else {}
            return {"call": target, **without_nones(bytes_sent), **draw(codings), **draw(guards)}
        case "publish":
            return {"publish": draw(st.sampled_from(around.later))[0], **draw(guards)}
        case "publish to a broker":
            step = {"publish": draw(st.sampled_from(around.brokers)), "size": draw(maybe(sizes)), **draw(guards)}
            return without_nones(step)
        case "choose":
            return {"choose": [{"probability": p, "steps": draw(inner)} for p in (0.25, 0.75)]}
        case "parallel":
            branches = [draw(inner) for _ in range(draw(st.integers(1, 3)))]
            need = draw(maybe(st.integers(1, len(branches))))
            unfinished = draw(st.sampled_from(["cancel", "continue"]))
            return without_nones({"parallel": branches, "need": need, "unfinished": unfinished})
        case "repeat":
            return {"repeat": draw(counts), "steps": draw(inner)}
        case "lock":
            key = draw(maybe(keys))
            return without_nones({"lock": around.lock, "key": key, "steps": draw(steps(around.held(), depth - 1))})
        case "move":
            return {"move": draw(sizes)}
        case "block":
            return {"block": draw(steps(around.leaf(), depth - 1))}
        case "hold":
            return {"hold": draw(sizes), "steps": draw(steps(around.leaf(), depth - 1))}


@st.composite
def arrival_sources(draw, kinds):
    """How a workload's requests come: about 30 within 10 s."""
    kind = draw(st.sampled_from(kinds))
    if kind == "replay":
        return {"replay": {"times": draw(replay_times)}}
    if kind == "users":
        ramp_up = draw(st.sampled_from(["auto", "0.0 s", "2.0 s"]))
        think = draw(st.one_of(positive_times, drawn(seconds, EIGHTHS)))
        return {"users": draw(st.integers(1, 4)), "think": think, "ramp_up": ramp_up}
    if kind == "bursty":
        states = [{"rate": "8.0 /s", "duration": "1.0 s"}, {"rate": "0.0 /s", "duration": "2.0 s"}]
        return {"bursty": states}
    if kind == "profile":
        points = [(0.0, 0.0), (4.0, 4.0), (4.0, 1.0), (8.0, 3.0)]
        repeats = draw(st.booleans())
        return {"profile": {"points": [{"at": seconds(t), "rate": f"{r} /s"} for t, r in points], "repeats": repeats}}
    spacing = draw(st.sampled_from(["constant", "constant", "poisson", "gamma"]))
    source = {"rate": draw(st.sampled_from(["1.0 /s", "2.0 /s", "4.0 /s"])), "arrivals": spacing}
    return {**source, "arrivals_cv": 2.0} if spacing == "gamma" else source


replay_times = st.lists(st.integers(0, 48), min_size=1, max_size=20).map(
    lambda eighths: [seconds(number / 8) for number in sorted(eighths)]
)


@st.composite
def workloads(draw, operations, kinds, talks):
    chosen = draw(st.lists(st.sampled_from(operations), min_size=1, max_size=2, unique=True))
    target = {"operation": chosen[0]} if len(chosen) == 1 else {"mix": dict.fromkeys(chosen, 0.5)}
    more = st.fixed_dictionaries(
        {},
        optional={
            "deadline": st.sampled_from([1 / 2, 2, 6]).map(seconds),
            "latency": times,
            "priority": st.integers(-1, 1),
            "place": st.sampled_from(["r1/a", "r3"]),
            "request": sizes,
            "response": sizes,
        },
    )
    if talks or draw(st.sampled_from([False, False, False, True])):
        target["conversation"] = draw(conversations)
    return {**draw(arrival_sources(kinds)), **target, **draw(guards), **draw(codings), **draw(more)}


conversations = st.fixed_dictionaries(
    {
        "turns": st.sampled_from([1, 2, 3, {"uniform": {"low": 0, "high": 4}}]),
        "question": tokens,
        "answer": tokens,
    },
    optional={"think": times},
)


ALL_SOURCES = ("replay", "replay", "users", "rate", "rate", "bursty", "profile")


moments = st.integers(0, 80).map(lambda eighths: seconds(eighths / 8))
fault_times = st.one_of(
    st.fixed_dictionaries({"at": moments}),
    st.fixed_dictionaries({"every": drawn(seconds, [2.0]) | positive_times}),
)
health_checks = st.fixed_dictionaries({"interval": st.sampled_from(["0.5 s", "1.0 s"]), "failures": st.integers(1, 2)})
collections = st.fixed_dictionaries(
    {"allocation": st.sampled_from(["1.0 B", "2.0 B"]), "young": st.just("3.0 B"), "pause": times}
)


@st.composite
def scalings(draw, count, workers):
    """Of a service whose host has `count` instances."""
    metric = draw(st.sampled_from(["cpu", "workers", "queue"] if workers else ["cpu"]))
    return {
        "metric": metric,
        "target": draw(st.sampled_from([0.25, 0.5])),
        "least": count,
        "most": count + draw(st.integers(0, 2)),
        "interval": draw(positive_times),
        "start_up": draw(times),
        "cool_down": draw(constant_times),
    }


@st.composite
def faults(draw, host_specs):
    """A fault of some host, of its place, of the network between two places, or of the external API."""
    name = draw(st.sampled_from(sorted(host_specs)))
    timing = {**draw(fault_times), "lasts": draw(times)}
    kinds = ["crash", "crash", "slow", "place", "external"]
    match draw(st.sampled_from([*kinds, "between"] if len(host_specs) > 1 else kinds)):
        case "crash":
            instance = draw(maybe(st.integers(0, host_specs[name]["count"] - 1)))
            more = {"instance": instance, "connections": draw(st.sampled_from(["refuse", "hang"]))}
            return without_nones({"host": name, **more, **timing})
        case "slow":
            return {"host": name, "speed": draw(st.sampled_from([0, 0.25, 0.5])), **timing}
        case "place":
            return {"place": host_specs[name]["place"], **timing}
        case "between":
            return {"between": [spec["place"] for spec in host_specs.values()], **timing}
    return {"external": "api", "latency_factor": 3, "failures": draw(st.sampled_from([0.0, 0.5])), **timing}


@st.composite
def with_controls(draw, model):
    """A model with faults, health checks, autoscaling and garbage collection."""
    hosts_of = model["hosts"]
    for number, spec in enumerate(hosts_of.values()):
        spec["place"] = f"p{number}"
    for service in model["services"].values():
        if draw(st.booleans()):
            service["health_check"] = draw(health_checks)
        if draw(st.booleans()):
            service["garbage_collection"] = draw(collections)
        if draw(st.booleans()):
            service.pop("replicas", None)
            service.pop("affinity", None)
            service["scaling"] = draw(scalings(hosts_of[service["host"]]["count"], service.get("workers")))
    model["faults"] = {f"f{n}": draw(faults(hosts_of)) for n in range(draw(st.integers(0, 3)))}
    return model


def agreeing(service):
    """A service, after its steps that call the same have been made to say the same of what they share."""
    shared = {}

    def visit(part):
        if isinstance(part, list):
            for item in part:
                visit(item)
        if not isinstance(part, dict):
            return
        targets = [(verb, part[verb]) for verb in ("call", "mcp", "external", "publish") if verb in part]
        for verb, target in targets:
            callee = target if verb == "publish" else target.partition(".")[0]
            for holder, field in ((part, "bulkhead"), (part, "circuit_breaker"), (part.get("retries", {}), "budget")):
                if field in holder:
                    holder[field] = shared.setdefault((callee, field), holder[field])
        for item in part.values():
            visit(item)

    visit(service)
    return service


@st.composite
def models(draw, processes=True, sources=ALL_SOURCES, controls=False):
    """A model; `processes` allows steps that use the station `ROBOT`, `sources` limits how requests come.

    With `controls` something may happen to the system, too: it may then never come to rest.
    """
    host_specs = {f"h{n}": draw(hosts) for n in range(draw(st.integers(1, 2)))}
    talks = draw(st.sampled_from([False, False, True]))
    placed = [draw(st.sampled_from(sorted(host_specs))) for _ in range(draw(st.integers(1, 3)))]
    services, lock_specs, broker_specs, later = {}, {}, {}, []
    for number in reversed(range(len(placed))):
        host = host_specs[placed[number]]
        # Names of later operations, and whether both hosts have a NIC to pass requests and responses through.
        around = Surroundings(
            [(target, "nic" in host and "nic" in callee) for target, callee in later],
            draw(maybe(st.just(f"l{number}"))),
            frozenset(host) & {"memory", "disk", "nic"},
            processes,
            sorted(broker_specs),
            talks,
        )
        if around.lock:
            lock_specs[around.lock] = draw(locks)
        operations = {name: draw(steps(around, 2)) for name in ("a", "b")[: draw(st.integers(1, 2))]}
        services[f"s{number}"] = {"host": placed[number], **draw(service_settings), "operations": operations}
        if host.get("memory", {}).get("when_full") in (
            "reject",
            "restart",
        ):  # holding some, they would wait for each other's
            services[f"s{number}"]["memory"] = draw(service_memories)
        agreeing(services[f"s{number}"])
        later += [(f"s{number}.{name}", host) for name in operations]
        if number == len(placed) - 1:
            # Consumers belong to the last service, which publishes nothing and so can always go on.
            broker_specs = draw(
                st.just({}) | st.fixed_dictionaries({"k": brokers([name for name, _ in later], host_specs)})
            )
    names = [target for target, _ in later]
    model = {
        "name": "random",
        "hosts": host_specs,
        "services": services,
        "caches": {"c": draw(caches), "f": draw(fetched_once)},
        "keys": {KEY: draw(drawn_keys)},
        "volumes": {"v": draw(volumes)},
        "databases": {"d": draw(databases)},
        "locks": lock_specs,
        "externals": {"api": draw(externals)},
        "llms": draw(llms(host_specs)),
        "brokers": broker_specs,
        "network": without_nones(
            {
                "latency": draw(maybe(times)),
                **{name: draw(times) for name in ("within_rack", "within_zone", "within_region", "between_regions")},
            }
        ),
        "workloads": {f"w{n}": draw(workloads(names, sources, talks)) for n in range(draw(st.integers(1, 3)))},
    }
    return draw(with_controls(model)) if controls and draw(st.booleans()) else model


OF_MINUTES = ("requests_rate", "tokens_rate", "limit", "keys")
"""Limits of language models, which let the requests of a minute through at once, however long anything takes."""


def without_minutes(part):
    """The model (or a part of it) without such limits."""
    if isinstance(part, dict):
        limits = OF_MINUTES if "first_token" in part or "backends" in part else ()
        return {key: without_minutes(value) for key, value in part.items() if key not in limits}
    return [without_minutes(value) for value in part] if isinstance(part, list) else part


QUANTITY = re.compile(r"([\d.e+-]+) (s|/s|B/s)")


def slowed(part, factor=2.0):
    """The model (or a part of it) with all durations `factor` times as long, and all rates as much lower."""
    if isinstance(part, dict):
        turned = {"rpm": round(part["rpm"] / factor)} if "rpm" in part else {}  # of no unit
        if "teraflops" in part:
            turned["teraflops"] = {precision: rate / factor for precision, rate in part["teraflops"].items()}
        return {key: slowed(value, factor) for key, value in part.items()} | turned
    if isinstance(part, list):
        return [slowed(value, factor) for value in part]
    match = QUANTITY.fullmatch(part) if isinstance(part, str) else None
    if match is None:
        return part
    number, unit = float(match[1]), match[2]
    return f"{number * factor if unit == 's' else number / factor!r} {unit}"
