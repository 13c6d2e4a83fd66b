"""Memory of a run: the arrays that Python owns and the kernel works on, and how they grow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.engines.compiled import inference_tables, layout
from simulator.engines.compiled.draws import LATER_BITS, Draws, Gaps
from simulator.engines.compiled.encode import Tables, encode
from simulator.engines.compiled.layout import NONE
from simulator.program.program import Messages, Program, Users, Workload
from simulator.program.stations import KeyedLocks, Store
from simulator.records import (
    CHUNK,
    IN_FLIGHT,
    INFERENCE_FIELDS,
    STATION_FIELDS,
    WORKLOAD_FIELDS,
    Consume,
    RequestTable,
    sampling_steps,
)
from simulator.streams import Stream, Streams

Array = NDArray[Any]
FEW_ROWS, MOST_EXPECTED = 1 << 12, 1 << 24
PRESENT = STATION_FIELDS.index("present")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much room a run starts with, everything of which grows; tests start with almost none."""

    tokens: int = 256
    scopes: int = 256
    holds: int = 256
    keys: int = 1024
    entries: int = 1024
    locks: int = 256
    nodes: int = 1024
    rows: int = FEW_ROWS
    block_bits: int = 12
    budget: int = 1_000_000  # steps between looks for a Ctrl-C


class Columns:
    """The columns of a workload's finished requests, written by the kernel.

    Memory that is not yet written to costs nothing, so there is room for all requests that are expected.
    """

    def __init__(self, components: int, meters: int, rows: int) -> None:
        self.rows = rows
        integers, floats = np.int64, np.float64
        self.arrays: dict[str, Array] = {
            "numbers": np.empty(rows, integers),
            "operations": np.empty(rows, integers),
            "arrivals": np.empty(rows, floats),
            "ends": np.empty(rows, floats),
            "outcomes": np.empty(rows, integers),
            "retries": np.empty(rows, integers),
            "waits": np.empty((rows, components), floats),
            "services": np.empty((rows, components), floats),
            "metered": np.empty((rows, meters), floats),
        }

    def grow(self, rows: int) -> None:
        """Have room for that many rows."""
        for name, array in self.arrays.items():
            grown = np.empty((rows, *array.shape[1:]), array.dtype)
            grown[: self.rows] = array
            self.arrays[name] = grown
        self.rows = rows

    def finish(self, rows: int) -> None:
        """Have exactly that many rows."""
        if rows > self.rows:
            self.grow(rows)
        for array in self.arrays.values():
            array.resize((rows, *array.shape[1:]), refcheck=False)

    def write_in(self, record: Array) -> None:
        """Write the columns' addresses into a workload's record."""
        for name, array in self.arrays.items():
            record[name] = array.ctypes.data
        record["room"] = self.rows - record["rows"]


class Memory:
    """All arrays of a run, and the world record with their addresses."""

    def __init__(
        self,
        program: Program,
        streams: Streams,
        duration: float,
        windows: int,
        sizes: Sizes,
        consume: Consume | None = None,
        begin: float = 0.0,
    ) -> None:
        self.program = program
        self.sizes = sizes
        self.consume = consume
        self.tables: Tables = encode(program)
        self.world = np.zeros(1, layout.WORLD)
        self.w = self.world[0]
        self.arrays: dict[str, Array] = {}
        self.draws = Draws(program, streams, self.tables.draws, self._block_bits())
        self.gaps = [
            None if isinstance(spec.source, Users | Messages) else Gaps(program, streams, number)
            for number, spec in enumerate(program.workloads)
        ]
        self.gap_arrays: list[Array] = [np.empty(0) for _ in program.workloads]
        self.columns = [
            Columns(len(spec.components), len(spec.meters), self._expected_rows(spec, duration))
            for spec in program.workloads
        ]
        self._lay_out()
        first, step = sampling_steps(duration, windows, begin)
        self._lay_out_samples(duration, windows, step)
        self._lay_out_stores()
        self._lay_out_inference()
        self.grow_tokens(sizes.tokens)
        self.grow_scopes(sizes.scopes)
        self.grow_holds(sizes.holds)
        self._first_events(streams, windows, first)

    def _block_bits(self) -> int:
        """Smaller blocks where there are many draws."""
        bits = self.sizes.block_bits
        while bits > 6 and len(self.program.draws) << (bits + 4) > 1 << 28:
            bits -= 1
        return bits

    def _expected_rows(self, spec: Workload, duration: float) -> int:
        """The requests that an open workload is expected to make, and some more; a chunk, where they are handed on."""
        if self.consume is not None and self.sizes.rows >= FEW_ROWS:
            return CHUNK
        if isinstance(spec.source, Users | Messages) or self.sizes.rows < FEW_ROWS:
            return self.sizes.rows
        expected = spec.source.mean_rate * duration
        if math.isnan(expected):
            return self.sizes.rows
        return int(min(expected + 6.0 * math.sqrt(expected) + self.sizes.rows, MOST_EXPECTED))

    def _set(self, name: str, array: Array) -> None:
        self.arrays[name] = array
        self.w[name] = array.ctypes.data

    def _lay_out(self) -> None:
        w, tables, program = self.w, self.tables, self.program
        for name in (
            "code",
            "table",
            "numbers",
            "draws",
            "balancers",
            "stations",
            "queues",
            "workloads",
            "users",
            "counters",
            "scalers",
            "inference",
        ):
            self._set(name, getattr(tables, name))
        w["running"] = w["thinking"] = w["full"] = NONE
        w["free_token"] = w["free_scope"] = w["free_hold"] = w["free_entry"] = w["free_lock"] = NONE
        w["free_node"] = w["prefixed"] = NONE
        w["prefix_size"] = max((prefixes.most for prefixes in program.prefixes), default=0)
        w["frame_size"] = max((spec.frame_size for spec in program.workloads), default=1)
        w["times_size"] = max((2 * len(spec.components) + len(spec.meters) for spec in program.workloads), default=0)
        w["first_user"] = 1 + len(program.workloads)
        w["first_station"] = w["first_user"] + len(tables.users)
        w["first_token"] = w["first_station"] + len(tables.stations)
        w["block_bits"], w["later_bits"] = self.draws.bits, LATER_BITS
        self._lay_out_later()
        for record, columns in zip(tables.workloads, self.columns, strict=False):
            columns.write_in(record)

    def _lay_out_later(self) -> None:
        self._set("later", self.draws.later)
        self._set("later_tags", self.draws.later_tags)
        self.w["later_mask"] = self.draws.later_slots - 1

    def _lay_out_samples(self, duration: float, windows: int, step: float) -> None:
        w, program = self.w, self.program
        rows = max(windows, 1) + 1
        w["duration"], w["window"], w["ticks_left"] = duration, step, windows - 1
        w["station_count"], w["workload_count"] = len(program.stations), len(program.workloads)
        w["sampled"] = 1  # at time 0 everything is 0, but for what stores hold
        self._set("sample_times", np.zeros(rows))
        self._set("station_samples", np.zeros((rows, len(program.stations), len(STATION_FIELDS))))
        w["inference_count"] = len(self.tables.inference) - 1
        self._set("inference_samples", np.zeros((rows, int(w["inference_count"]), len(INFERENCE_FIELDS))))
        self._set("workload_samples", np.zeros((rows, len(program.workloads), len(WORKLOAD_FIELDS))))

    # Growth.

    def grow_tokens(self, count: int) -> None:
        """Have room for that many tokens."""
        w = self.w
        before = len(self.arrays["tokens"]) if "tokens" in self.arrays else 0
        self._set("tokens", _grown(self.arrays.get("tokens"), count, layout.TOKEN))
        self._set("frames", _grown(self.arrays.get("frames"), count * int(w["frame_size"]), np.int64))
        self._set("times", _grown(self.arrays.get("times"), count * int(w["times_size"]) + 1, np.float64))
        self._set("sequences", _grown(self.arrays.get("sequences"), count if self.inference else 1, layout.SEQUENCE))
        self._set("prefixes", _grown(self.arrays.get("prefixes"), count * int(w["prefix_size"]) + 1, np.int64))
        _chain(self.arrays["tokens"], "free", before, int(w["free_token"]))
        w["free_token"] = before
        w["free_tokens"] += count - before
        w["token_count"] = count
        self._set("chosen", np.zeros(count, np.int32))
        self._grow_ready(count)
        self._grow_events()

    def _grow_ready(self, tokens: int) -> None:
        """A ring for all tokens; those in it move to its start."""
        w = self.w
        ring = self.arrays.get("ready", np.zeros(1, np.int32))
        grown = np.zeros(1 << (tokens - 1).bit_length(), np.int32)
        count, first = int(w["ready_count"]), int(w["ready_first"])
        grown[:count] = ring[(first + np.arange(count)) % len(ring)]
        self._set("ready", grown)
        w["ready_first"], w["ready_mask"] = 0, len(grown) - 1

    def _grow_events(self) -> None:
        """Room in the heap for every event that there can be."""
        tokens = len(self.arrays["tokens"])
        scopes = len(self.arrays["scopes"]) if "scopes" in self.arrays else 0
        events = int(self.w["first_token"]) + 2 * max(tokens, scopes)
        self._set("heap", _grown(self.arrays.get("heap"), events, layout.EVENT))
        self._set("position", _grown(self.arrays.get("position"), events, np.int32))

    def grow_scopes(self, count: int) -> None:
        """Have room for that many open scopes."""
        before = len(self.arrays["scopes"]) if "scopes" in self.arrays else 0
        self._set("scopes", _grown(self.arrays.get("scopes"), count, layout.SCOPE))
        _chain(self.arrays["scopes"], "outer", before, int(self.w["free_scope"]))
        self.w["free_scope"] = before
        self._grow_events()

    def grow_holds(self, count: int) -> None:
        """Have room for that many things held."""
        before = len(self.arrays["holds"]) if "holds" in self.arrays else 0
        self._set("holds", _grown(self.arrays.get("holds"), count, layout.HOLD))
        _chain(self.arrays["holds"], "below", before, int(self.w["free_hold"]))
        self.w["free_hold"] = before

    def grow_locks(self, count: int) -> None:
        """Have room for that many keys that are held."""
        before = len(self.arrays["locks"]) if "locks" in self.arrays else 0
        self._set("locks", _grown(self.arrays.get("locks"), count, layout.LOCK))
        _chain(self.arrays["locks"], "free", before, int(self.w["free_lock"]))
        self.w["free_lock"] = before

    def _lay_out_inference(self) -> None:
        """What inference stations have for themselves."""
        self.inference = [inference_tables.lay_out(record) for record in self.tables.inference[:-1]]
        self.grow_nodes(self.sizes.nodes if self.inference else 1)

    def grow_nodes(self, count: int) -> None:
        """Have room for sequences that have that many blocks together."""
        before = len(self.arrays["nodes"]) if "nodes" in self.arrays else 0
        self._set("nodes", _grown(self.arrays.get("nodes"), count, layout.NODE))
        _chain(self.arrays["nodes"], "before", before, int(self.w["free_node"]))
        self.w["free_node"] = before
        self.w["free_nodes"] += count - before

    def _lay_out_stores(self) -> None:
        """Tables of keys, entries and locks; what is in stores at time 0."""
        specs = self.program.stations
        self.stores = [number for number, spec in enumerate(specs) if isinstance(spec, Store)]
        self.rows = len(self.stores) + sum(isinstance(spec, KeyedLocks) for spec in specs)
        contents = [(number, spec) for number, spec in enumerate(specs) if isinstance(spec, Store) and spec.content]
        self.grow_keys(max(self.sizes.keys if self.rows else 1, *(1 + max(spec.content) for _, spec in contents), 1))
        there = sum(len(spec.content) for _, spec in contents)
        self._grow_entries(there + (self.sizes.entries if self.stores else 1))
        self.grow_locks(self.sizes.locks)
        for number, spec in contents:
            self._fill_store(number, spec)

    def _fill_store(self, number: int, spec: Store) -> None:
        """Put a store's content in: the first free entries, in a list as long as they are."""
        station, count = self.tables.stations[number], len(spec.content)
        first = int(self.w["free_entry"])
        places = np.arange(count)
        keys = np.fromiter(spec.content, np.int64, count)
        entries = self.arrays["entries"][first : first + count]
        entries["key"], entries["place"], entries["copies"] = keys, places, 1
        entries["inserted"] = [spec.inserted(position) for position in range(count)]
        entries["uses"] = entries["order"] = places + 1
        entries["before"], entries["after"] = first + places - 1, first + places + 1
        entries["before"][0] = entries["after"][-1] = NONE
        self.arrays["keys"][station["row"], keys] = first + places
        self.arrays["uses"][station["row"], :count] = first + places
        station["first"], station["end"] = first, first + count - 1
        station["busy"] = station["order"] = count
        self.w["free_entry"] = first + count
        self.arrays["station_samples"][0, number, PRESENT] = count

    def grow_keys(self, universe: int) -> None:
        """Have room for keys below `universe`."""
        keys = np.full((max(self.rows, 1), universe), NONE, np.int32)
        if "keys" in self.arrays:
            old = self.arrays["keys"]
            keys[:, : old.shape[1]] = old
        self._set("keys", keys)
        self.w["universe"] = universe

    def _grow_entries(self, count: int) -> None:
        """Have room for that many entries of all stores together."""
        before = len(self.arrays["entries"]) if "entries" in self.arrays else 0
        self._set("entries", _grown(self.arrays.get("entries"), count, layout.ENTRY))
        _chain(self.arrays["entries"], "free", before, int(self.w["free_entry"]))
        self.w["free_entry"] = before
        uses = np.zeros((max(self.rows, 1), count), np.int32)
        uses[:, :before] = self.arrays["uses"] if before else 0
        self._set("uses", uses)
        for number in self.stores:
            self.tables.stations["uses"][number] = self.tables.stations["row"][number] * count

    def more_tokens(self) -> None:
        """Twice as many tokens."""
        most = int(self.tables.code["size"].max())
        self.grow_tokens(2 * len(self.arrays["tokens"]) + most)

    def more_scopes(self) -> None:
        """Twice as many scopes."""
        self.grow_scopes(2 * len(self.arrays["scopes"]))

    def more_holds(self) -> None:
        """Twice as many holds."""
        self.grow_holds(2 * len(self.arrays["holds"]))

    def more_keys(self) -> None:
        """Room for the key that was asked for."""
        self.grow_keys(max(2 * int(self.w["universe"]), int(self.w["asked_number"]) + 1))

    def more_entries(self) -> None:
        """Twice as many entries of stores."""
        self._grow_entries(2 * len(self.arrays["entries"]))

    def more_locks(self) -> None:
        """Twice as many keys that are held."""
        self.grow_locks(2 * len(self.arrays["locks"]))

    def more_nodes(self) -> None:
        """Twice as many nodes of lists of blocks, and as many free ones as were asked for."""
        nodes = len(self.arrays["nodes"])
        self.grow_nodes(max(2 * nodes, nodes + int(self.w["asked_number"])))

    def more_rows(self) -> None:
        """More rows for the workload whose columns are full: new ones, or those whose requests are handed on."""
        workload = int(self.w["full"])
        columns, record = self.columns[workload], self.tables.workloads[workload]
        if self.consume is None:
            columns.grow(columns.rows + max(columns.rows // 2, min(columns.rows, 1 << 20)))
        else:
            self.consume(workload, self._table_of(workload))
            record["rows"] = 0
        columns.write_in(record)
        self.w["full"] = NONE

    def more_draws(self) -> None:
        """The block of draws that was asked for."""
        w = self.w
        self.draws.load(int(w["asked"]), int(w["asked_number"]), int(w["asked_draw"]))
        if self.draws.later is not self.arrays["later"]:
            self._lay_out_later()

    def more_gaps(self) -> None:
        """The next gaps of the workload that asked for them."""
        self._load_gaps(int(self.w["asked"]))

    def give_prefix(self) -> None:
        """Give a token the ids of its prompt's blocks."""
        w = self.w
        token, number, prefix = int(w["asked"]), int(w["asked_number"]), int(w["asked_draw"])
        ids, first = self.program.prefixes[prefix].of(number), token * int(w["prefix_size"])
        self.arrays["prefixes"][first : first + len(ids)] = ids
        w["prefixed"], w["prefix_count"] = token, len(ids)

    def _load_gaps(self, workload: int) -> None:
        source = self.gaps[workload]
        assert source is not None
        gaps = np.ascontiguousarray(source.next())
        self.gap_arrays[workload] = gaps
        record = self.tables.workloads[workload]
        record["gaps"], record["gap"], record["gap_count"] = gaps.ctypes.data, 0, len(gaps)
        record["ended"] = len(gaps) == 0

    # Beginning and end.

    def _first_events(self, streams: Streams, windows: int, first_sample: float) -> None:
        """Schedule the first sample and the first arrivals and users, in this order (rule 3)."""
        times, ids = [], []
        if windows > 1:
            times.append(first_sample)
            ids.append(0)
        for number, spec in enumerate(self.program.workloads):
            if isinstance(spec.source, Users):
                first = int(self.w["first_user"]) + int(self.tables.workloads["first_user"][number])
                times.extend(self._starts(streams, spec.source))
                ids.extend(range(first, first + spec.source.count))
            elif not isinstance(spec.source, Messages):
                self._load_gaps(number)
                if len(self.gap_arrays[number]):
                    times.append(0.0 + float(self.gap_arrays[number][0]))
                    ids.append(1 + number)
                    self.tables.workloads["gap"][number] = 1
        self._fill_heap(np.array(times, dtype=np.float64), np.array(ids, dtype=np.int64))

    def _starts(self, streams: Streams, users: Users) -> list[float]:
        first, think = (
            Stream(streams, draw.stream, draw.distribution).block(0, users.count)
            for draw in (self.program.draws[users.start], self.program.draws[users.think])
        )
        return (first + think).tolist()

    def _fill_heap(self, times: Array, ids: Array) -> None:
        """A sorted array is a heap."""
        in_order = np.argsort(times, kind="stable")
        heap = self.arrays["heap"]
        heap["time"][: len(times)] = times[in_order]
        heap["order"][: len(times)] = in_order
        heap["id"][: len(times)] = ids[in_order]
        self.arrays["position"][ids[in_order]] = np.arange(len(times))
        self.w["events"] = self.w["order"] = len(times)

    def request_tables(self) -> tuple[RequestTable, ...]:
        """The requests of every workload: those that ended, then those in flight, in order of arrival.

        None where they are handed on, of which this is the last time.
        """
        for number in range(len(self.program.workloads)):
            self._write_in_flight(number)
        tables = tuple(map(self._table_of, range(len(self.program.workloads))))
        if self.consume is None:
            return tables
        for number, table in enumerate(tables):
            self.consume(number, table)
        return ()

    def _write_in_flight(self, workload: int) -> None:
        spec, record, columns = (
            self.program.workloads[workload],
            self.tables.workloads[workload],
            self.columns[workload],
        )
        rows = int(record["rows"])
        live = self._live(int(record["first"]))
        columns.finish(rows + len(live))
        arrays = columns.arrays
        tokens = self.arrays["tokens"][live]
        for name, field in (
            ("numbers", "number"),
            ("operations", "operation"),
            ("arrivals", "arrival"),
            ("retries", "retries"),
        ):
            arrays[name][rows:] = tokens[field]
        arrays["ends"][rows:] = np.nan
        arrays["outcomes"][rows:] = IN_FLIGHT
        size, width = int(self.w["times_size"]), 2 * len(spec.components)
        columns_of = np.arange(width + len(spec.meters))
        times = self.arrays["times"][np.asarray(live, dtype=np.int64)[:, None] * size + columns_of]
        arrays["waits"][rows:], arrays["services"][rows:] = times[:, 0:width:2], times[:, 1:width:2]
        arrays["metered"][rows:] = times[:, width:]

    def _table_of(self, workload: int) -> RequestTable:
        """The columns of a workload as they are."""
        spec, arrays = self.program.workloads[workload], self.columns[workload].arrays
        return RequestTable(
            spec.name, tuple(entry.operation for entry in spec.entries), spec.components,
            number=arrays["numbers"], operation=arrays["operations"], arrival=arrays["arrivals"],
            end=arrays["ends"], outcome=arrays["outcomes"], retries=arrays["retries"],
            wait=arrays["waits"], service=arrays["services"], meters=spec.meters, meter=arrays["metered"],
        )  # fmt: skip

    def _live(self, first: int) -> list[int]:
        later = self.arrays["tokens"]["later"]
        live = []
        while first != NONE:
            live.append(first)
            first = int(later[first])
        return live


def _grown(array: Array | None, count: int, dtype: Any) -> Array:
    """A longer copy of an array, zero where it is new."""
    grown = np.zeros(count, dtype)
    if array is not None:
        grown[: len(array)] = array
    return grown


def _chain(records: Array, field: str, first: int, end: int) -> None:
    """Link the records from `first` on into a list of free ones that ends in `end`."""
    records[field][first:] = np.arange(first + 1, len(records) + 1)
    records[field][-1] = end
