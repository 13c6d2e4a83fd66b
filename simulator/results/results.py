"""Results: what a planner reads; plain values, so that they pickle, travel and are stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from simulator.results.estimate import Estimate

SCHEMA_VERSION = 1
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True, slots=True)
class ComponentTime:
    """Mean time that a completed request spends at a component; over all components they sum to its mean latency."""

    wait_s: Estimate
    service_s: Estimate


@dataclass(frozen=True, slots=True)
class OperationResult:
    """One operation of a workload; latencies in seconds."""

    throughput_per_s: Estimate
    latency_s: Mapping[str, Estimate] | None


@dataclass(frozen=True, slots=True)
class UsageResult:
    """Tokens of one LLM or provider that requests which ended had used, and their price where they are paid one by one.

    `cached_per_s` are those prompt tokens whose keys and values were there already. `rent_per_hour`, only in accounts
    of gateways, is a share of what its GPUs cost by the hour: that of the tokens which they computed and generated.
    """

    prompt_per_s: Estimate
    cached_per_s: Estimate
    output_per_s: Estimate
    usd_per_hour: Estimate | None
    rent_per_hour: Estimate | None = None


@dataclass(frozen=True, slots=True)
class TokensResult:
    """What LLMs generated for a workload; times (s) are those of completed requests.

    `ttft_s` is the time from a request's arrival to the first token of its last streamed call, `tpot_s` the mean time
    per token after that, request by request, `itl_s` that over all tokens, and `longest_gap_s` the longest time between
    two tokens of a request. They are None where nothing is streamed, or the backlog grows without end. `input_per_s`,
    `output_per_s` and the share `cached` of the input tokens sum up `usage`, which is by LLM. `wrong_per_s` has those
    answers of gateways' semantic caches that are wrong, by gateway.
    """

    ttft_s: Mapping[str, Estimate] | None
    tpot_s: Mapping[str, Estimate] | None
    itl_s: Mapping[str, Estimate] | None
    longest_gap_s: Mapping[str, Estimate] | None
    input_per_s: Estimate
    output_per_s: Estimate
    cached: Estimate
    usage: Mapping[str, UsageResult]
    wrong_per_s: Mapping[str, Estimate]


@dataclass(frozen=True, slots=True)
class WorkloadResult:
    """One workload, or one stream of messages, whose latency is their age: the time from publishing to processed.

    Latencies (s) are those of completed requests; None where the backlog grows without end. `tokens` is None where no
    request calls an LLM. `offered_per_s` of a recording replayed once is its rate from its first arrival to its last,
    NaN where all come at once.
    """

    offered_per_s: Estimate
    throughput_per_s: Estimate
    error_rate: Estimate
    errors: Mapping[str, Estimate]
    retries_per_request: Estimate
    in_flight_mean: Estimate
    backlog_growth_per_s: Estimate
    stable: bool
    latency_s: Mapping[str, Estimate] | None
    breakdown: Mapping[str, ComponentTime]
    operations: Mapping[str, OperationResult]
    tokens: TokensResult | None = None


@dataclass(frozen=True, slots=True)
class LlmResult:
    """One LLM, its replicas together: mean numbers of sequences, rates of tokens and steps, mean step time (s).

    `kv_cache_utilization` is the share of its blocks in use, `busy` the share of the time that steps take, both means
    over the replicas. `prompt_tokens_per_s` are those of admitted prompts, of which the share `prefix_hit_ratio` was
    there already; `computed_tokens_per_s` those that were computed, again after a preemption.
    """

    replicas: int
    running_mean: Estimate
    waiting_mean: Estimate
    kv_cache_utilization: Estimate
    busy: Estimate
    prompt_tokens_per_s: Estimate
    computed_tokens_per_s: Estimate
    generated_tokens_per_s: Estimate
    prefix_hit_ratio: Estimate
    preemptions_per_s: Estimate
    steps_per_s: Estimate
    step_s: Estimate


@dataclass(frozen=True, slots=True)
class OccurrenceResult:
    """How often something happens, a second and as a share of the prompts that come to the gateway."""

    per_s: Estimate
    share: Estimate


@dataclass(frozen=True, slots=True)
class BackendResult:
    """One back end of a gateway: prompts that were sent there, `fallbacks` of them after another one had failed.

    `retries` are further tries of the same prompt there, `timeouts` and `errors` tries that failed.
    """

    asked: OccurrenceResult
    fallbacks: OccurrenceResult
    retries: OccurrenceResult
    timeouts: OccurrenceResult
    errors: OccurrenceResult


@dataclass(frozen=True, slots=True)
class AccountResult:
    """What the requests with an API key, or those of a team, used of a gateway's LLMs, also where they failed.

    `requests_per_s` are prompts that came, `served_per_s` those that were answered, and `unserved_per_s` the others.
    `rejections_per_s` is how often a limit of the gateway rejected a try, of which a prompt may have several: one at
    each back end that it falls back to, and one more for every retry. `usd_per_hour` is what providers are paid and the
    share of GPUs' rent together. `team` is that of a key.
    """

    requests_per_s: Estimate
    served_per_s: Estimate
    unserved_per_s: Estimate
    rejections_per_s: Estimate
    prompt_per_s: Estimate
    cached_per_s: Estimate
    output_per_s: Estimate
    usd_per_hour: Estimate
    llms: Mapping[str, UsageResult]
    team: str | None = None


@dataclass(frozen=True, slots=True)
class GatewayResult:
    """One gateway: what became of prompts, its back ends, and where it has API keys, accounts by LLM, key and team.

    Those by key sum up to those by LLM, and so do those by team. Rates of prompts are as in accounts.
    """

    requests_per_s: Estimate
    served_per_s: Estimate
    unserved_per_s: Estimate
    rejections_per_s: Estimate
    backends: Mapping[str, BackendResult]
    llms: Mapping[str, UsageResult]
    keys: Mapping[str, AccountResult]
    teams: Mapping[str, AccountResult]


@dataclass(frozen=True, slots=True)
class ResourceResult:
    """One resource, its instances together; `queue_mean` is the mean number waiting.

    `utilization` is the mean over the instances, `busiest_utilization` that of the busiest one. That of a limit, or of
    another token bucket, is the share that was taken of the tokens that there were: those that came at its rate, and
    those that were used up of its burst. That of the locks of keys is that of the key which is asked for most.
    """

    kind: str
    instances: int
    utilization: Estimate | None
    busiest_utilization: Estimate | None
    queue_mean: Estimate
    arrivals_per_s: Estimate
    rejections_per_s: Estimate
    hit_ratio: Estimate | None


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """The resource that limits the system first; `saturation_factor` is the load multiplier that saturates it.

    It is what analysis says, or 1 / utilization where the simulation surely saw more being asked of the resource.
    `asked_less` tells whether it surely saw clearly less: analysis counts branches of a fork to their end also where
    they are cancelled, so that the resource saturates then at the earliest. For a limit that somebody has set, `limit`
    says whose it is and how much, `utilization` how much is taken of what it lets through (see `ResourceResult`), and
    where it makes requests fail, `rejected` is the share of what comes to it that it turns away.
    """

    resource: str
    utilization: Estimate
    saturation_factor: float | None
    limit: str | None = None
    rejected: Estimate | None = None
    asked_less: bool = False


@dataclass(frozen=True, slots=True)
class ObjectiveResult:
    """An objective beside its value; `decided` tells whether the whole interval is on one side of the target."""

    name: str
    target: float
    value: Estimate
    met: bool
    decided: bool
    dimension: str


@dataclass(frozen=True, slots=True)
class FaultResult:
    """A fault: the share of the time that what it hits was up, and the recovery from one that was scheduled.

    `recovery_s` is the mean time from the end of the fault until the number of requests in flight is back in the range
    that it had before, over those replications, `recovered` of all, that got there; None where the fault is random.
    """

    availability: Estimate
    recovery_s: Estimate | None
    recovered: int
    replications: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost in USD; an hour costs so much on average where the number of instances changes.

    `per_hour` is what is rented, `usage_per_hour` what is paid by the token, and `per_million_requests` both together.
    So is `per_thousand_conversations`, where all requests are conversations, whose turns are messages; else None.
    """

    per_hour: float
    per_million_requests: Estimate
    usage_per_hour: Estimate
    per_thousand_conversations: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """All that a simulation says; see the design of `tpsim run --json`.

    `replayed_s` is the mean time (s) that is measured of a replication whose load ends: from the first arrival, or the
    end of the warm-up, to the last completion; None for other loads. `replay_cut_off` tells whether some of it ended
    before all of its requests had. A quantile is off by at most the share `quantile_relative_error`, which its
    interval includes: 0 unless only summaries were kept.
    """

    model: str
    seed: int
    engine: str
    replications: int
    confidence: float
    simulated_s: float
    warm_up_s: float
    requests: int
    digest: str
    quantile_relative_error: float
    workloads: Mapping[str, WorkloadResult]
    messages: Mapping[str, WorkloadResult]
    resources: Mapping[str, ResourceResult]
    bottleneck: Bottleneck | None
    stable: bool
    verdict: str
    objectives: tuple[ObjectiveResult, ...]
    cost: Cost
    llms: Mapping[str, LlmResult] = field(default_factory=dict)
    gateways: Mapping[str, GatewayResult] = field(default_factory=dict)
    faults: Mapping[str, FaultResult] = field(default_factory=dict)
    replayed_s: float | None = None
    replay_cut_off: bool = False
    replicas: Mapping[str, Estimate] = field(default_factory=dict)
    """Mean number of replicas of each service that is scaled automatically."""
    warnings: tuple[str, ...] = ()
    precision: float | None = None
    precision_reached: bool = True
    wall_s: float = field(default=0.0, compare=False)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; estimates are {value, low, high, n}, numbers that are not finite are null."""
        return {"schema_version": SCHEMA_VERSION, **to_json(self)}


def to_json(value: Any) -> Any:
    """Plain JSON data of results, nested in whatever way."""
    if isinstance(value, Estimate):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        names = value.__dataclass_fields__
        return {name: to_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value
