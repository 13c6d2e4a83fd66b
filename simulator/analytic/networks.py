"""Exact answers and bounds for open and closed networks of queues.

Times are in seconds and rates in requests per second. The service demand of a station is its mean service
time multiplied by how often a request visits it. A station's number of servers is a whole number, or
`math.inf` for a delay, where nobody waits; the utilization of a delay is 0. Impossible inputs raise
`ValueError` with a one-line message.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simulator.analytic.queues import Queue, mmc

_Floats = NDArray[np.float64]

_MOST_POPULATION_VECTORS = 1_000_000


@dataclass(frozen=True)
class OpenNetwork:
    """Each station of an open network, and the mean response time (s) from entering it to leaving it."""

    stations: tuple[Queue, ...]
    throughput: float
    response_time: float


@dataclass(frozen=True)
class ClosedNetwork:
    """A closed network at every population 1..N, one row each; per-station figures have one column a station.

    `response_time` (s) leaves out the think time; `numbers_at_stations` are means of requests waiting or in
    service.
    """

    populations: NDArray[np.int64]
    throughput: _Floats
    response_time: _Floats
    residence_times: _Floats
    numbers_at_stations: _Floats
    utilizations: _Floats


@dataclass(frozen=True)
class MulticlassNetwork:
    """A closed network of several classes: one entry a class, or one row a class and one column a station.

    A class without population has throughput 0 and response and residence times `nan`.
    """

    throughput: _Floats
    response_time: _Floats
    residence_times: _Floats
    numbers_at_stations: _Floats
    utilizations: _Floats


@dataclass(frozen=True)
class Bounds:
    """The intervals that the throughput (1/s) and mean response time (s) of a closed network cannot leave."""

    throughput_lower: float
    throughput_upper: float
    response_time_lower: float
    response_time_upper: float


def jackson(
    arrival_rates: ArrayLike, routing: ArrayLike, service_times: ArrayLike, servers: Sequence[float]
) -> OpenNetwork:
    """Return the open Jackson network with Poisson `arrival_rates` from outside to each station.

    `routing[i][j]` is the probability of going to station j after station i; what a row lacks to 1 leaves.
    Raises `ValueError` for impossible inputs, for requests that can never leave, and for an overloaded
    station, by its number. Jackson, Operations Research 5 (1957); Kleinrock, Queueing Systems I, section 4.8.
    """
    outside = _nonnegative("arrival_rates", arrival_rates)
    times = _nonnegative("service_times", service_times)
    counts = _server_counts(servers, outside.size)
    if times.shape != outside.shape:
        raise ValueError(f"got {outside.size} arrival rates and {times.size} service times")
    if not outside.any():
        raise ValueError("no requests arrive from outside")
    paths = _routing_matrix(routing, outside.size)
    rates = np.maximum(np.linalg.solve(np.eye(outside.size) - paths.T, outside), 0.0)
    stations = tuple(
        _open_station(index, float(rate), float(time), float(count))
        for index, (rate, time, count) in enumerate(zip(rates, times, counts, strict=True))
    )
    throughput = float(outside.sum())
    number = math.fsum(station.number_in_system for station in stations)
    return OpenNetwork(stations, throughput, number / throughput)


def mva(
    demands: ArrayLike, population: int, think_time: float = 0.0, servers: Sequence[float] | None = None
) -> ClosedNetwork:
    """Return the exact solution of a closed network at every population from 1 to `population`.

    `demands` (s) holds one entry a station; `servers` (1 each by default) may be any whole numbers or
    `math.inf`. Raises `ValueError` for impossible inputs. Single servers and delays: Reiser and Lavenberg,
    Journal of the ACM 27 (1980). Multiple servers: Buzen's convolution (Communications of the ACM 16, 1973)
    on logarithms, since the textbook recursion on marginal probabilities subtracts nearly equal numbers and
    fails at high utilization (Casale, Queueing Systems 60, 2008); time grows with population².
    """
    work = _nonnegative("demands", demands)
    counts = _server_counts(servers, work.size)
    _check_closed(work, population, think_time)
    many = (counts > 1) & np.isfinite(counts) & (work > 0)
    throughput, numbers_at_stations = _mean_value_recursion(work[~many], counts[~many], population, think_time)
    if many.any():
        throughput, numbers_at_stations = _add_multiple_servers(work, counts, many, population, throughput)
    residence_times = numbers_at_stations / throughput[:, np.newaxis]
    return ClosedNetwork(
        populations=np.arange(1, population + 1),
        throughput=throughput,
        response_time=residence_times.sum(axis=1),
        residence_times=residence_times,
        numbers_at_stations=numbers_at_stations,
        utilizations=np.minimum(np.outer(throughput, work / counts), 1.0),
    )


def mva_multiclass(
    demands: ArrayLike,
    populations: Sequence[int],
    think_times: ArrayLike | None = None,
    servers: Sequence[float] | None = None,
) -> MulticlassNetwork:
    """Return the exact solution of a closed network with several classes, at the given population of each.

    `demands[class][station]` and `think_times` (0 by default) are in seconds; `servers` are 1 (the default)
    or `math.inf`. A first-come-first-served station must serve every class equally fast on each visit;
    processor sharing may differ. Raises `ValueError` for impossible inputs and where the product of
    (population + 1) is above a million. Reiser and Lavenberg, Journal of the ACM 27 (1980).
    """
    work = np.asarray(demands, dtype=np.float64)
    if work.ndim != 2:
        raise ValueError("demands must be a table of one row a class and one column a station")
    _nonnegative("demands", work.ravel())
    thinking = _nonnegative("think_times", np.zeros(len(work)) if think_times is None else think_times)
    counts = _server_counts(servers, work.shape[1])
    _check_multiclass(work, populations, thinking, counts)
    waits = np.isfinite(counts)

    # Mean number at each station for every population vector up to the one asked for, in an order that has
    # each vector after those with one request fewer.
    number_at: dict[tuple[int, ...], _Floats] = {}
    throughput, residence_times = np.zeros(len(work)), np.zeros_like(work)
    for vector in product(*(range(population + 1) for population in populations)):
        for index, present in enumerate(vector):
            if present == 0:
                throughput[index], residence_times[index] = 0.0, 0.0
                continue
            fewer = number_at[(*vector[:index], present - 1, *vector[index + 1 :])]
            residence_times[index] = work[index] * (1 + fewer * waits)
            throughput[index] = present / (thinking[index] + residence_times[index].sum())
        number_at[vector] = throughput @ residence_times

    numbers_at_stations = throughput[:, np.newaxis] * residence_times
    residence_times[np.asarray(populations) == 0] = np.nan
    return MulticlassNetwork(
        throughput=throughput,
        response_time=residence_times.sum(axis=1),
        residence_times=residence_times,
        numbers_at_stations=numbers_at_stations,
        utilizations=throughput[:, np.newaxis] * work / counts,
    )


def asymptotic_bounds(
    demands: ArrayLike, population: int, think_time: float = 0.0, servers: Sequence[float] | None = None
) -> Bounds:
    """Return the bounds that hold for any closed network with these demands.

    Raises `ValueError` for impossible inputs. Lazowska, Zahorjan, Graham and Sevcik, Quantitative System
    Performance, section 5.2; with several servers the slowest station is that with the largest demand per
    server.
    """
    work = _nonnegative("demands", demands)
    slowest = float((work / _server_counts(servers, work.size)).max())
    _check_closed(work, population, think_time)
    total = float(work.sum())
    alone = population / (total + think_time)
    return Bounds(
        throughput_lower=population / (population * total + think_time),
        throughput_upper=min(1 / slowest, alone) if slowest > 0 else alone,
        response_time_lower=max(total, population * slowest - think_time),
        response_time_upper=population * total,
    )


def balanced_job_bounds(demands: ArrayLike, population: int, think_time: float = 0.0) -> Bounds:
    """Return tighter bounds, for product-form networks of single servers.

    Raises `ValueError` for impossible inputs. Zahorjan, Sevcik, Eager and Galler, Communications of the ACM
    25 (1982); Lazowska and others, Quantitative System Performance, section 5.4.
    """
    work = _nonnegative("demands", demands)
    _check_closed(work, population, think_time)
    total, slowest, others = float(work.sum()), float(work.max()), population - 1
    if total == 0:
        return Bounds(population / think_time, population / think_time, 0.0, 0.0)
    slow = total + others * slowest / (1 + think_time / (population * total))
    fast = total + others * float(work.mean()) / (1 + think_time / total)
    fast = max(fast, population * slowest - think_time)
    return Bounds(population / (slow + think_time), population / (fast + think_time), fast, slow)


def saturation_point(demands: ArrayLike, think_time: float = 0.0, servers: Sequence[float] | None = None) -> float:
    """Return the population N* beyond which somebody must wait.

    Raises `ValueError` for impossible inputs or where no station can saturate. Lazowska and others,
    Quantitative System Performance, section 5.2: where the two asymptotic throughput bounds meet, (D + Z) /
    Dmax, with demands per server below the line.
    """
    work = _nonnegative("demands", demands)
    slowest = float((work / _server_counts(servers, work.size)).max())
    _check_closed(work, 1, think_time)
    if slowest == 0:
        raise ValueError("no station can saturate: all demands are 0 or at delays")
    return (float(work.sum()) + think_time) / slowest


def _open_station(index: int, rate: float, service_time: float, servers: float) -> Queue:
    if math.isinf(servers):
        return Queue(
            utilization=0.0,
            wait=0.0,
            response_time=service_time,
            queue_length=0.0,
            number_in_system=rate * service_time,
            throughput=rate,
            loss_probability=0.0,
        )
    try:
        return mmc(rate, service_time, int(servers))
    except ValueError as error:
        raise ValueError(f"station {index}: {error}") from None


def _routing_matrix(routing: ArrayLike, stations: int) -> _Floats:
    paths = np.asarray(routing, dtype=np.float64)
    if paths.shape != (stations, stations):
        raise ValueError(f"routing must be {stations} by {stations}, got {' by '.join(map(str, paths.shape))}")
    if not np.all(paths >= 0) or np.any(paths.sum(axis=1) > 1 + 1e-9):
        raise ValueError("every row of routing must hold probabilities that add up to at most 1")
    leads_out = paths.sum(axis=1) < 1 - 1e-9
    for _ in range(stations):
        leads_out = leads_out | (paths[:, leads_out] > 0).any(axis=1)
    if not leads_out.all():
        raise ValueError(f"requests at station {int(np.argmin(leads_out))} can never leave the network")
    return paths


def _mean_value_recursion(
    work: _Floats, counts: _Floats, population: int, think_time: float
) -> tuple[_Floats, _Floats]:
    """Return throughput (infinite without work) and numbers, with single servers and delays only."""
    waits = np.isfinite(counts)
    throughput = np.full(population, np.inf)
    numbers_at_stations = np.zeros((population, work.size))
    if work.sum() + think_time == 0:
        return throughput, numbers_at_stations
    number = np.zeros(work.size)
    for row in range(population):
        residence = work * (1 + number * waits)
        throughput[row] = (row + 1) / (think_time + residence.sum())
        number = throughput[row] * residence
        numbers_at_stations[row] = number
    return throughput, numbers_at_stations


def _add_multiple_servers(
    work: _Floats, counts: _Floats, many: NDArray[np.bool_], population: int, throughput_of_rest: _Floats
) -> tuple[_Floats, _Floats]:
    """Return throughput and numbers, given the throughput of the other stations by themselves.

    Logarithms of normalising constants are kept in units of the largest demand, which keeps them small.
    """
    unit = float(work.max())
    rest = _log_normalising_constants(throughput_of_rest * unit)
    stations = [
        _log_normalising_constants(np.minimum(np.arange(1, population + 1), count) / (demand / unit))
        for demand, count in zip(work[many], counts[many], strict=True)
    ]
    up_to = list(accumulate([rest, *stations], _convolve))
    nothing = np.full(population + 1, -np.inf)
    nothing[0] = 0.0
    beyond = list(accumulate(reversed(stations), _convolve, initial=nothing))[::-1]
    throughput = np.exp(-np.diff(up_to[-1])) / unit

    numbers_at_stations = np.zeros((population, work.size))
    for position, column in enumerate(np.flatnonzero(many)):
        others = _convolve(up_to[position], beyond[position + 1])
        numbers_at_stations[:, column] = _mean_number(stations[position], others)[1:]
    for column in np.flatnonzero(~many):
        numbers_at_stations[:, column] = _number_at_single(work[column] * throughput, math.isinf(counts[column]))
    return throughput, numbers_at_stations


def _log_normalising_constants(rates: _Floats) -> _Floats:
    """Return log G(0..N) of a subnetwork from its throughput at populations 1..N."""
    return np.concatenate(([0.0], -np.cumsum(np.log(rates))))


def _convolve(first: _Floats, second: _Floats) -> _Floats:
    """Return the logarithms of the convolution of two sequences given by their logarithms."""
    for one, other in ((first, second), (second, first)):
        if np.isneginf(one[1]):  # An empty subnetwork changes nothing.
            return other
    result = np.empty_like(first)
    for number in range(first.size):
        terms = first[: number + 1] + second[number::-1]
        largest = terms.max()
        result[number] = largest + np.log(np.exp(terms - largest).sum())
    return result


def _mean_number(station: _Floats, others: _Floats) -> _Floats:
    """Return the mean number at a station for populations 0..N, from its and the others' log G."""
    result = np.empty_like(station)
    for population in range(station.size):
        terms = station[: population + 1] + others[population::-1]
        weights = np.exp(terms - terms.max())
        result[population] = weights @ np.arange(population + 1) / weights.sum()
    return result


def _number_at_single(busy: _Floats, delay: bool) -> _Floats:
    """Return the mean number at a delay or single server, from the mean number in service."""
    if delay:
        return busy
    return np.array(list(accumulate(busy.tolist(), lambda number, load: load * (1 + number), initial=0.0))[1:])


def _nonnegative(name: str, values: ArrayLike) -> _Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.all((array >= 0) & (array < np.inf)):
        raise ValueError(f"{name} must be a list of finite numbers of at least 0")
    return array


def _server_counts(servers: Sequence[float] | None, stations: int) -> _Floats:
    counts = np.ones(stations) if servers is None else np.asarray(servers, dtype=np.float64)
    if counts.shape != (stations,):
        raise ValueError(f"servers must have one entry for each of the {stations} stations, got {counts.size}")
    if not np.all((counts >= 1) & (counts == np.floor(counts))):
        raise ValueError("servers must be whole numbers of at least 1, or infinite")
    return counts


def _check_closed(work: _Floats, population: int, think_time: float) -> None:
    if population < 1 or population != int(population):
        raise ValueError(f"population must be a whole number of at least 1, got {population:g}")
    if not 0 <= think_time < math.inf:
        raise ValueError(f"think_time must be at least 0 and finite, got {think_time:g}")
    if work.sum() + think_time == 0:
        raise ValueError("throughput is unbounded: all demands and the think time are 0")


def _check_multiclass(work: _Floats, populations: Sequence[int], thinking: _Floats, counts: _Floats) -> None:
    if not len(work) == len(populations) == thinking.size:
        raise ValueError(
            f"got {len(work)} rows of demands, {len(populations)} populations and {thinking.size} think times"
        )
    if any(population < 0 or population != int(population) for population in populations):
        raise ValueError("populations must be whole numbers of at least 0")
    if np.any((counts > 1) & np.isfinite(counts)):
        raise ValueError("servers must be 1 or infinite in a network of several classes")
    if np.any(work.sum(axis=1) + thinking == 0):
        raise ValueError("throughput is unbounded: a class has demands and think time 0")
    vectors = math.prod(population + 1 for population in populations)
    if vectors > _MOST_POPULATION_VECTORS:
        raise ValueError(f"{vectors} population vectors are too many to solve exactly (at most a million)")
