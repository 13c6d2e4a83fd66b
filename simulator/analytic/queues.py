"""Closed-form means and quantiles of open queues.

Times are in seconds, rates in requests per second, offered loads in erlang. Impossible inputs, and loads for
which the queue would grow without end, raise `ValueError` with a one-line message.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Long-run means of one queue.

    `utilization` is per server. `wait` (s) and `response_time` (s) are of the requests that were let in,
    `queue_length` counts those waiting and `number_in_system` also those in service. `throughput` (1/s)
    leaves out what `loss_probability`, the fraction of arrivals turned away, took. Under processor sharing
    nobody queues: there `wait` is how much longer a request takes than it would alone, and `queue_length` is
    `throughput` times that.
    """

    utilization: float
    wait: float
    response_time: float
    queue_length: float
    number_in_system: float
    throughput: float
    loss_probability: float


@dataclass(frozen=True, kw_only=True)
class MarkovianQueue(Queue):
    """An M/M/c queue served first come first served, whose distributions of wait and response time are known.

    `service_time` is in seconds; `waiting_probability` is the fraction of arrivals that find every server
    busy.
    """

    service_time: float
    servers: int
    waiting_probability: float

    def wait_quantile(self, probability: float) -> float:
        """Return the wait that a fraction `probability` of requests does not exceed.

        Seconds; 0 where enough requests do not wait at all. Raises `ValueError` outside [0, 1). Gross and
        Harris, Fundamentals of Queueing Theory, M/M/c waiting time: P(W > t) = C exp(-(cμ - λ)t).
        """
        _check_probability(probability)
        if self.waiting_probability <= 1 - probability:
            return 0.0
        return math.log(self.waiting_probability / (1 - probability)) / self._drain_rate

    def response_time_quantile(self, probability: float) -> float:
        """Return the response time that a fraction `probability` of requests does not exceed.

        Seconds; closed for one server, by bisection of the closed distribution for more. Raises `ValueError`
        outside [0, 1). Gross and Harris, Fundamentals of Queueing Theory, M/M/1 and M/M/c waiting time
        distributions.
        """
        _check_probability(probability)
        if self.servers == 1:
            return -self.response_time * math.log1p(-probability)
        low, high = 0.0, self.response_time
        while self.response_time_exceeds(high) > 1 - probability:
            low, high = high, 2 * high
        while low < (middle := (low + high) / 2) < high:
            if self.response_time_exceeds(middle) > 1 - probability:
                low = middle
            else:
                high = middle
        return high

    def response_time_exceeds(self, time: float) -> float:
        """Return the probability that a response takes longer than `time` seconds.

        Gross and Harris, Fundamentals of Queueing Theory, M/M/c: an exponential service after a wait that is
        zero, or else exponential with rate cμ - λ.
        """
        if time <= 0:
            return 1.0
        service_rate = 1 / self.service_time
        slower = min(service_rate, self._drain_rate)
        difference = abs(service_rate - self._drain_rate)
        # With exactly one server's worth of capacity to spare the two rates coincide; the limit is `time`.
        spread = -math.expm1(-difference * time) / difference if difference > 0 else time
        waited = self.waiting_probability * service_rate * math.exp(-slower * time) * spread
        return math.exp(-service_rate * time) + waited

    @property
    def _drain_rate(self) -> float:
        return (self.servers - self.throughput * self.service_time) / self.service_time


@dataclass(frozen=True)
class ForkJoinBounds:
    """What is known of the mean response time of a fork-join: [`lower`, `upper`] (s)."""

    lower: float
    approximation: float
    upper: float


def erlang_b(offered_load: float, servers: int) -> float:
    """Return the fraction of arrivals lost by an M/G/c/c system, given `offered_load` in erlang.

    Raises `ValueError` for a negative load or number of servers. Erlang's loss formula by its stable
    recursion (Cooper, Introduction to Queueing Theory, ch. 3), linear in `servers`.
    """
    _check_not_negative("offered_load", offered_load)
    _check_whole("servers", servers, 0)
    blocked = 1.0
    for server in range(1, servers + 1):
        blocked = offered_load * blocked / (server + offered_load * blocked)
    return blocked


def erlang_c(offered_load: float, servers: int) -> float:
    """Return the fraction of arrivals that wait in an M/M/c queue, given `offered_load` in erlang.

    Raises `ValueError` for negative inputs and where the load is not below `servers`. Erlang's delay formula
    through Erlang's loss formula (Cooper, Introduction to Queueing Theory, ch. 3).
    """
    _check_stable(offered_load, servers)
    blocked = erlang_b(offered_load, servers)
    idle_fraction = 1 - offered_load / servers
    return blocked / (idle_fraction + (1 - idle_fraction) * blocked)


def mm1(arrival_rate: float, service_time: float) -> MarkovianQueue:
    """Return the M/M/1 queue: Poisson arrivals, exponential services, one server.

    Raises `ValueError` for impossible inputs and where the load is not below 1. Kleinrock, Queueing Systems
    I, section 3.2.
    """
    return mmc(arrival_rate, service_time, 1)


def mmc(arrival_rate: float, service_time: float, servers: int) -> MarkovianQueue:
    """Return the M/M/c queue: Poisson arrivals, exponential services, `servers` servers and one line.

    Raises `ValueError` for impossible inputs and where the load is not below `servers`. Kleinrock, Queueing
    Systems I, section 3.5.
    """
    offered_load = _offered_load(arrival_rate, service_time)
    waiting_probability = erlang_c(offered_load, servers)
    wait = waiting_probability * service_time / (servers - offered_load)
    return MarkovianQueue(
        utilization=offered_load / servers,
        wait=wait,
        response_time=wait + service_time,
        queue_length=arrival_rate * wait,
        number_in_system=arrival_rate * wait + offered_load,
        throughput=arrival_rate,
        loss_probability=0.0,
        service_time=service_time,
        servers=servers,
        waiting_probability=waiting_probability,
    )


def mmck(arrival_rate: float, service_time: float, servers: int, capacity: int) -> Queue:
    """Return the M/M/c/K queue, which turns requests away beyond `capacity` in the system.

    `capacity` counts those in service too. Stable under any load. Raises `ValueError` for impossible inputs,
    such as a capacity below the number of servers. Gross and Harris, Fundamentals of Queueing Theory, queues
    with truncation (M/M/c/K).
    """
    offered_load = _offered_load(arrival_rate, service_time)
    _check_whole("servers", servers, 1)
    _check_whole("capacity", capacity, servers)
    probabilities = _truncated_birth_death(offered_load, servers, capacity)
    queue_length = math.fsum((number - servers) * probabilities[number] for number in range(servers, capacity + 1))
    throughput = arrival_rate * math.fsum(probabilities[:-1])
    wait = queue_length / throughput if throughput > 0 else 0.0
    return Queue(
        utilization=throughput * service_time / servers,
        wait=wait,
        response_time=wait + service_time,
        queue_length=queue_length,
        number_in_system=queue_length + throughput * service_time,
        throughput=throughput,
        loss_probability=probabilities[-1],
    )


def mg1(arrival_rate: float, service_time: float, scv: float) -> Queue:
    """Return the M/G/1 queue: Poisson arrivals, any distribution of service times, one server.

    `scv` is the squared coefficient of variation of the service time (variance / mean²). Raises `ValueError`
    for impossible inputs and where the load is not below 1. Pollaczek and Khinchine; Kleinrock, Queueing
    Systems I, section 5.5.
    """
    offered_load = _offered_load(arrival_rate, service_time)
    _check_not_negative("scv", scv)
    _check_stable(offered_load, 1)
    wait = offered_load * service_time * (1 + scv) / (2 * (1 - offered_load))
    return _without_loss(arrival_rate, service_time, 1, wait)


def mg1_ps(arrival_rate: float, service_time: float) -> Queue:
    """Return the M/G/1 processor-sharing queue, whose means depend on the service time only through its mean.

    Raises `ValueError` for impossible inputs and where the load is not below 1. Kleinrock, Queueing Systems
    II, section 4.4.
    """
    return mmc_ps(arrival_rate, service_time, 1)


def mmc_ps(arrival_rate: float, service_time: float, servers: int) -> Queue:
    """Return the queue whose requests share `servers` servers equally, none getting more than one.

    Its mean number is that of M/M/c, hence so is its mean response time; its distribution is not. The mean
    holds for any distribution of service times. Raises `ValueError` for impossible inputs and where the load
    is not below `servers`. Cohen, The multiple phase service network with generalized processor sharing, Acta
    Informatica 12 (1979).
    """
    return _without_loss(arrival_rate, service_time, servers, mmc(arrival_rate, service_time, servers).wait)


def mgc(arrival_rate: float, service_time: float, servers: int, scv: float) -> Queue:
    """Return an approximation of the M/G/c queue, exact for one server or exponential services.

    `scv` is the squared coefficient of variation of the service time. Raises `ValueError` for impossible
    inputs and where the load is not below `servers`. Allen and Cunneen: the wait of M/M/c times (1 + scv) / 2
    (Allen, Probability, Statistics and Queueing Theory, ch. 5).
    """
    _check_not_negative("scv", scv)
    wait = mmc(arrival_rate, service_time, servers).wait * (1 + scv) / 2
    return _without_loss(arrival_rate, service_time, servers, wait)


def bulk_mm1(arrival_rate: float, service_time: float, most: int) -> Queue:
    """Return the M/M^[1,most]/1 queue: one server takes up to `most` waiting requests for one exponential service.

    `service_time` (s) is that of a batch. Raises `ValueError` at and above saturation, `most` requests per service.
    While the server is busy the number waiting is geometric, with the root in (0, 1) of the characteristic
    equation μ r^(most+1) - (λ + μ) r + λ = 0 (Medhi, Stochastic Models in Queueing Theory, M/M(1,b)/1; Gross and
    Harris, Fundamentals of Queueing Theory, bulk service).
    """
    load = _bulk_load(arrival_rate, service_time, most)
    low, high = 0.0, 1.0 - 1e-12
    while low < (root := (low + high) / 2) < high:
        low, high = (root, high) if root ** (most + 1) - (load + 1) * root + load > 0 else (low, root)
    empty = 1.0 / (1.0 / load + 1.0 / (1.0 - root)) if load else 0.0
    return _bulk(arrival_rate, service_time, most, empty * root / (1.0 - root) ** 2)


def bulk_md1(arrival_rate: float, service_time: float, most: int) -> Queue:
    """Return the M/D^[1,most]/1 queue: one server takes up to `most` waiting requests for one constant service.

    As `bulk_mm1`. The number left waiting at the end of a service is the Markov chain of Bailey, "On queueing
    processes with bulk service" (J. Royal Statistical Society B 16, 1954), here solved by iteration; the mean over
    time follows by renewal reward over the cycles from one end of a service to the next.
    """
    load = _bulk_load(arrival_rate, service_time, most)
    waiting, change = [1.0], 1.0
    came = _poisson(load)
    while change > 1e-13:
        taken = [math.fsum(waiting[: most + 1]), *waiting[most + 1 :]]
        following = [0.0] * (len(taken) + len(came) - 1)
        for left, probability in enumerate(taken):
            for arrived, share in enumerate(came):
                following[left + arrived] += probability * share
        while following[-1] < 1e-18:
            following.pop()
        change = math.fsum(
            abs(new - old) for new, old in zip(following, [*waiting, *[0.0] * len(following)], strict=False)
        )
        waiting = following
    kept = math.fsum((number - most) * probability for number, probability in enumerate(waiting) if number > most)
    cycle = service_time + (waiting[0] / arrival_rate if arrival_rate else 0.0)
    area = kept * service_time + arrival_rate * service_time**2 / 2
    return _bulk(arrival_rate, service_time, most, area / cycle)


def mm1_priority(arrival_rates: Sequence[float], service_times: Sequence[float]) -> tuple[Queue, ...]:
    """Return one queue for each class of a single server with non-preemptive priorities; class 0 goes first.

    Arrivals are Poisson and services exponential with a mean for each class; each class's `utilization` is
    its own share. Raises `ValueError` for impossible inputs and where the whole load is not below 1. Cobham,
    Priority assignment in waiting line problems, Operations Research 2 (1954).
    """
    if len(arrival_rates) != len(service_times) or not arrival_rates:
        raise ValueError(f"got {len(arrival_rates)} arrival rates and {len(service_times)} service times")
    classes = list(zip(arrival_rates, service_times, strict=True))
    loads = [_offered_load(rate, time) for rate, time in classes]
    _check_stable(math.fsum(loads), 1)
    residual_service = math.fsum(load * time for load, (_, time) in zip(loads, classes, strict=True))
    queues: list[Queue] = []
    for index, (rate, time) in enumerate(classes):
        left_by_higher = 1 - math.fsum(loads[:index])
        left = 1 - math.fsum(loads[: index + 1])
        queues.append(_without_loss(rate, time, 1, residual_service / (left_by_higher * left)))
    return tuple(queues)


def fork_join_2_mm1(arrival_rate: float, service_time: float) -> float:
    """Return the mean response time (s) of requests that fork to two M/M/1 queues and then join.

    Exact. `service_time` is the mean of each part; parts are independent. Raises `ValueError` for impossible
    inputs and where the load is not below 1. Flatto and Hahn (1984); Nelson and Tantawi, IEEE Transactions on
    Computers 37 (1988).
    """
    queue = mm1(arrival_rate, service_time)
    return (12 - queue.utilization) / 8 * queue.response_time


def fork_join_bounds(branches: int, arrival_rate: float, service_time: float) -> ForkJoinBounds:
    """Return bounds on the mean response time of a fork-join of M/M/1 queues, and an approximation.

    Upper: the branches as if independent, H_n times one M/M/1 response. Lower: the larger of the exact
    two-branch mean and H_n times one D/M/1 response, since clockwork arrivals are the best case and make the
    branches independent (Baccelli, Makowski and Shwartz, Advances in Applied Probability 21, 1989).
    Approximation: Nelson and Tantawi, IEEE Transactions on Computers 37 (1988), fitted for up to 32 branches.
    For one and two branches all three are exact, save the upper bound of two. Raises `ValueError` for
    impossible inputs and where the load is not below 1.
    """
    _check_whole("branches", branches, 1)
    single = mm1(arrival_rate, service_time)
    if branches == 1:
        return ForkJoinBounds(single.response_time, single.response_time, single.response_time)
    harmonic = math.fsum(1 / branch for branch in range(1, branches + 1))
    load = single.utilization
    two = fork_join_2_mm1(arrival_rate, service_time)
    if branches == 2:
        return ForkJoinBounds(two, two, harmonic * single.response_time)
    growth = harmonic / 1.5
    clockwork = harmonic * service_time / (1 - _clockwork_wait_probability(load))
    return ForkJoinBounds(
        lower=max(two, clockwork),
        approximation=(growth + (1 - growth) * 4 * load / 11) * two,
        upper=harmonic * single.response_time,
    )


def _clockwork_wait_probability(load: float) -> float:
    """Return the fraction of arrivals that wait in D/M/1: the root below 1 of x = exp(-(1 - x) / load)."""
    if load == 0:
        return 0.0
    low, high = 0.0, 1 + load * math.log(load)
    while low < (middle := (low + high) / 2) < high:
        if math.exp(-(1 - middle) / load) > middle:
            low = middle
        else:
            high = middle
    return low


def _truncated_birth_death(offered_load: float, servers: int, capacity: int) -> list[float]:
    """Return the probabilities of 0..capacity in the system, worked out from the likeliest."""
    likeliest = capacity if offered_load >= servers else math.floor(offered_load)
    weights = [0.0] * (capacity + 1)
    weights[likeliest] = 1.0
    for number in range(likeliest, 0, -1):
        weights[number - 1] = weights[number] * min(number, servers) / offered_load
    for number in range(likeliest + 1, capacity + 1):
        weights[number] = weights[number - 1] * offered_load / min(number, servers)
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _bulk_load(arrival_rate: float, service_time: float, most: int) -> float:
    """Arrivals during a service."""
    _check_whole("most", most, 1)
    load = _offered_load(arrival_rate, service_time)
    _check_stable(load, most)
    return load


def _bulk(arrival_rate: float, service_time: float, most: int, queue_length: float) -> Queue:
    """The other means of a bulk queue; utilization is the share of a server's `most` places that are taken."""
    wait = queue_length / arrival_rate if arrival_rate else 0.0
    return Queue(
        utilization=arrival_rate * service_time / most,
        wait=wait,
        response_time=wait + service_time,
        queue_length=queue_length,
        number_in_system=queue_length + arrival_rate * service_time,
        throughput=arrival_rate,
        loss_probability=0.0,
    )


def _poisson(mean: float) -> list[float]:
    """Probabilities of 0, 1, 2, ... up to where they vanish."""
    probabilities = [math.exp(-mean)]
    while len(probabilities) < mean or probabilities[-1] > 1e-18:
        probabilities.append(probabilities[-1] * mean / len(probabilities))
    return probabilities


def _without_loss(arrival_rate: float, service_time: float, servers: int, wait: float) -> Queue:
    """Return a queue that serves all that comes, from its mean wait, by Little's law."""
    response_time = wait + service_time
    return Queue(
        utilization=arrival_rate * service_time / servers,
        wait=wait,
        response_time=response_time,
        queue_length=arrival_rate * wait,
        number_in_system=arrival_rate * response_time,
        throughput=arrival_rate,
        loss_probability=0.0,
    )


def _offered_load(arrival_rate: float, service_time: float) -> float:
    _check_not_negative("arrival_rate", arrival_rate)
    if not 0 < service_time < math.inf:
        raise ValueError(f"service_time must be above 0 and finite, got {service_time:g}")
    return arrival_rate * service_time


def _check_stable(offered_load: float, servers: int) -> None:
    _check_not_negative("offered_load", offered_load)
    _check_whole("servers", servers, 1)
    if offered_load >= servers:
        raise ValueError(f"unstable: offered load {offered_load:.6g} erlang, servers {servers}")


def _check_not_negative(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be at least 0 and finite, got {value:g}")


def _check_whole(name: str, value: int, least: int) -> None:
    if value != math.floor(value) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value:g}")


def _check_probability(probability: float) -> None:
    if not 0 <= probability < 1:
        raise ValueError(f"probability must be at least 0 and below 1, got {probability:g}")
