"""Databases: tables of rows on pages, indexes, a buffer pool, row locks, and copies that lag behind.

A database is the data; the service that runs a step holds it, each replica a whole copy on its own host. So what a
planner knows of a database server is said of that service: its `workers` are the connections that it allows (a request
that finds none waits), its host's CPU and disk are the server's, and a second service is the read replicas. Where the
service's balancer goes by the key, its replicas are `shards`: each sees its own keys, and is as busy as these are
popular. A query that cannot know the shard asks them all (`scatter`), as do quorums of N copies, which need R or W.

- A row lies on a page: rows of a `clustered` table in the order of their popularity (as recent orders do), those of a
  `scattered` one anywhere. Without an index a query reads the whole table.
- A B-tree over r rows is descended in 1 + log(r / entries on a page) / log(entries on a page) pages (Bayer and
  McCreight, Acta Informatica 1, 1972); all levels above the last are in memory, the last is the row's page.
- A page that is not in the buffer pool is read from the disk. Whether it is there is simulated page by page with
  least-recently-used eviction, or computed by Che's approximation from the popularity of the rows, or given.
- An update locks its row, finds it, changes its page and one page of every further index, and commits: the disk's
  flush of the log (`fsync`), which is one for all that wait for it. Pages are written back later (`write_back` of
  them: a page that is changed again before costs one write, not two).
- On read replicas each update is applied again, after a `lag` and one after the other; a read that meets a row whose
  update is not applied yet is a stale read, and `databases.NAME.stale_reads` has their share of all (as `hits`).

Costs of a page and of a row are those of row stores in memory in order of magnitude: 1 to 10 microseconds to search a
page, and 0.2 to 2 to look at a row of a scan (one core scans about a million rows a second).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from simulator.distributions import Constant
from simulator.model.distribution import DurationDistribution
from simulator.model.keys import KeyUse
from simulator.model.part import Count, Duration, Either, Factor, Part, PositiveSize, Share, Size, WholeNumber
from simulator.model.resource import Finding, Resource
from simulator.model.step import STEPS, StepPart
from simulator.model.stores import hit_by_chance, look_up, warm_store
from simulator.model.words import nearest
from simulator.program.builder import Builder
from simulator.program.instructions import (
    AcquireKey,
    End,
    GroupInto,
    HashInto,
    Insert,
    Jump,
    Lookup,
    Place,
    Publish,
    Remove,
)
from simulator.program.stations import KeyedLocks, Pool, Store

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Deployment, Site

BILLION = 10**9
INDEX_SALT = 1000


class Table(Part):
    """Rows of one size, found by the model's key of that name."""

    key: str
    """Name of the key that tells the row."""
    rows: Count | None = None
    """How many there are, each key standing for as many of them in a row; as many as keys where left out."""
    row: PositiveSize = 200.0
    """Bytes of a row."""
    layout: Literal["scattered", "clustered"] = "scattered"
    """Whether popular rows lie together."""
    index: bool = True
    """Whether rows are found by a B-tree over the key, or by reading all of them."""
    indexes: WholeNumber = 0
    """Further indexes, which every update has to change."""
    index_entry: PositiveSize = 40.0
    """Bytes of an entry of an index: 20 to 100 as a rule."""


class ReadReplicas(Part):
    """A service whose replicas have copies that are brought up to date a while after each update."""

    service: str
    """Name of the service that reads them."""
    lag: DurationDistribution = DurationDistribution.model_validate("1 ms")
    """Time until an update gets there; network and log shipping, within a data centre a millisecond or a few."""
    apply: Factor = 0.5
    """CPU of applying an update as a share of that of making it; row-based replication spares finding and checking."""


@dataclass
class DatabaseStations:
    """What a database has been lowered to so far; buffer pools are made when a service first uses them."""

    lowering: Lowering
    name: str
    spec: Database
    locks: dict[str, Place] = field(default_factory=dict)
    pools: dict[str, tuple[int, ...]] = field(default_factory=dict)
    stale: tuple[int, ...] = ()
    appliers: tuple[int, ...] = ()

    @property
    def resource(self) -> str:
        """Beginning of the names of its stations."""
        return f"databases.{self.name}"

    def lock(self, table: str) -> Place:
        """The locks of a table's rows."""
        if table not in self.locks:
            station = self.lowering.builder.station(KeyedLocks(f"{self.resource}.{table}.locks"))
            self.locks[table] = Place((station,))
        return self.locks[table]

    def pool(self, site: Site, replica: int | None) -> Place | float:
        """The buffer pool of the replica that a site is, or of a given one; its hit ratio where none is simulated."""
        spec, service = self.spec, site.deployment.name
        resource = f"{self.resource}.{service}.buffer_pool"
        settled = self.lowering.settled.get(resource)
        if spec.buffer_pool is None:
            return spec.hit_ratio if isinstance(spec.hit_ratio, float) else 1.0
        if spec.hit_ratio == "computed" and settled is not None:
            return math.fsum(store.hit_ratio for store in settled) / len(settled)
        if service not in self.pools:
            count = len(self.lowering.deployments[service].instances)
            self.pools[service] = tuple(self._store(resource, number) for number in range(count))
        stations = self.pools[service]
        return site.spread(stations) if replica is None else Place(stations[replica : replica + 1])

    def _store(self, resource: str, number: int) -> int:
        capacity = self.spec.pool_pages
        if self.spec.start == "cold" and self.spec.hit_ratio == "simulated":
            return self.lowering.builder.station(Store(resource, capacity))
        return warm_store(self.lowering, resource, capacity, number=number)

    def copies(self) -> tuple[Deployment, ...]:
        """The read replicas, one by one."""
        if self.spec.replicas is None:
            return ()
        deployment = self.lowering.deployments[self.spec.replicas.service]
        return tuple(alone(deployment, number) for number in range(len(deployment.instances)))

    def watch_copies(self) -> None:
        """Make the stations of the read replicas: what is not applied yet, and the one that applies it."""
        builder, count = self.lowering.builder, len(self.copies())
        if count and not self.stale:
            self.stale = tuple(
                builder.station(Store(f"{self.resource}.stale_reads", BILLION, multiset=True)) for _ in range(count)
            )
            self.appliers = tuple(builder.station(Pool(f"{self.resource}.apply", 1.0)) for _ in range(count))


def alone(deployment: Deployment, number: int) -> Deployment:
    """One replica of a deployment."""
    each = ("requests", "loops", "instances", "placed", "down", "heap")
    return replace(deployment, **{name: getattr(deployment, name)[number : number + 1] for name in each})


class Database(Resource):
    """Tables, and how their pages are kept in memory."""

    section: ClassVar[str] = "databases"
    noun: ClassVar[str] = "database"
    members: ClassVar[str] = "tables"

    tables: dict[str, Table] = Field(min_length=1)
    """Tables by name."""
    shards: Count = 1
    """Replicas of the service over which the rows are divided, where its balancer goes by the key."""
    page: PositiveSize = 16384.0
    """Bytes of a page: 16 KiB in InnoDB, 8 KiB in PostgreSQL and SQL Server."""
    buffer_pool: PositiveSize | None = None
    """Memory for pages of each replica of a service; all pages are in memory where left out."""
    hit_ratio: Annotated[float | Literal["simulated", "computed"], Either(Share, "simulated", "computed")] = "simulated"
    """Simulated page by page, computed from the keys' popularity (quick for millions of pages), or given."""
    start: Literal["warm", "cold"] = "warm"
    """Whether the pool holds at time 0 what it holds after a long time, or nothing."""
    page_cpu: Duration = 5e-6
    """Core time of searching a page."""
    row_cpu: Duration = 1e-6
    """Core time of looking at a row."""
    read_ahead: Count = 64
    """Pages that a scan reads in one disk operation."""
    log_write: Size = 4096.0
    """Bytes that a commit writes to the log; 0 where it waits for no disk."""
    write_back: Share = 0.5
    """Share of the changed pages that cost a disk write of their own, later: hot ones are changed many times before."""
    replicas: ReadReplicas | None = None
    """Read replicas."""

    @model_validator(mode="after")
    def _pool_is_sensible(self) -> Self:
        if self.buffer_pool is not None and not isinstance(self.hit_ratio, str):
            raise ValueError("expected a buffer_pool or a given hit_ratio, got both")
        if self.buffer_pool is not None and self.buffer_pool < self.page:
            raise ValueError("expected a buffer_pool of one page at least")
        return self

    @classmethod
    def problems(cls, resource: dict[Any, Any], document: dict[Any, Any]) -> Iterator[Finding]:
        """Keys and services that are not there."""
        tables, keys, services = (
            value if isinstance(value, dict) else {}
            for value in (resource.get("tables"), document.get("keys"), document.get("services"))
        )
        for name, table in tables.items():
            key = table.get("key") if isinstance(table, dict) else None
            if isinstance(key, str) and key not in keys:
                yield ("tables", name, "key"), f"no key named {key!r}; {nearest(key, keys, 'expected one of')}", key
        replicas = resource.get("replicas")
        service = replicas.get("service") if isinstance(replicas, dict) else None
        if isinstance(service, str) and service not in services:
            message = f"no service named {service!r}; {nearest(service, services, 'expected one of')}"
            yield ("replicas", "service"), message, service

    @property
    def pool_pages(self) -> int:
        """Pages that the buffer pool holds."""
        return int((self.buffer_pool or 0.0) / self.page)

    def lower(self, lowering: Lowering, name: str) -> DatabaseStations:
        """What steps make the stations from."""
        return DatabaseStations(lowering, name, self)

    def pages_of(self, rows: int, row: float) -> int:
        """Pages that rows take."""
        return math.ceil(rows / max(int(self.page / row), 1))

    def depth(self, rows: int, entry: float) -> int:
        """Pages from the root of a B-tree to a row's, both included."""
        on_a_page = max(int(self.page / entry), 2)
        return 1 + max(math.ceil(math.log(max(rows / on_a_page, 1.0)) / math.log(on_a_page)), 0)


class _Access:
    """A table as a step sees it where it runs: its place among the pages, and what it costs to get at a row.

    `replica` is the number of the one it runs at where that is fixed.
    """

    def __init__(self, site: Site, target: str, key: int | None = None, replica: int | None = None) -> None:
        self.site = site
        self.replica = replica
        self.builder = site.builder
        name, _, table = target.partition(".")
        self.database: DatabaseStations = site.resource("databases", name)
        self.spec: Database = self.database.spec
        self.table: Table = self.spec.tables[table]
        self.name = table
        self.keys = self.keys_of(self.table)
        self.rows = self.table.rows or self.keys
        self.key = site.lowering.keys.register(self.table.key) if key is None else key
        self.pages = self.spec.pages_of(self.rows, self.table.row)
        self.index_pages = self.spec.pages_of(self.rows, self.table.index_entry)
        self.depth = self.spec.depth(math.ceil(self.rows / self.spec.shards), self.table.index_entry)

    def keys_of(self, table: Table) -> int:
        """How many keys tell a table's rows."""
        return self.site.lowering.keys.distribution(table.key).count

    def pages_with_indexes(self, table: Table) -> int:
        """Pages of a table and its further indexes."""
        rows, spec = table.rows or self.keys_of(table), self.spec
        return spec.pages_of(rows, table.row) + table.indexes * spec.pages_of(rows, table.index_entry)

    @property
    def tables_before(self) -> list[Table]:
        """The tables whose pages come before this one's."""
        tables = self.spec.tables
        return [tables[name] for name in list(tables)[: list(tables).index(self.name)]]

    def first_page(self, index: int = 0) -> int:
        """Number of the table's first page, or of that of one of its further indexes."""
        first = sum(self.pages_with_indexes(table) for table in self.tables_before)
        return first + (self.pages + (index - 1) * self.index_pages if index else 0)

    def row(self) -> int:
        """Emit the number of the row, which no other table's has; returns its register."""
        register = self.builder.register()
        first = sum(self.keys_of(table) for table in self.tables_before)
        self.builder.emit(GroupInto(register, self.key, 1, first))
        return register

    def page(self, index: int = 0) -> int:
        """Emit the finding of the page of the key's row, or of its entry in a further index; returns its register."""
        register, first = self.builder.register(), self.first_page(index)
        pages = self.index_pages if index else self.pages
        if index or self.table.layout == "scattered" or pages >= self.keys:
            self.builder.emit(HashInto(register, self.key, pages, INDEX_SALT + index, first))
        else:
            self.builder.emit(GroupInto(register, self.key, math.ceil(self.keys / pages), first))
        return register

    def fetch(self, index: int = 0) -> None:
        """Emit the getting of a page into memory."""
        pool = self.database.pool(self.site, self.replica)
        read = partial(disk, self.site, "read", self.spec.page)
        if isinstance(pool, Place):
            look_up(self.builder, pool, self.page(index), read)
        elif pool < 1.0:
            hit_by_chance(self.builder, pool, read)

    def scan(self) -> None:
        """Emit the reading of all pages, of which the buffer pool has its share, in runs of pages."""
        here = self.all_pages / self.spec.shards
        in_memory = 1.0 if self.spec.buffer_pool is None else min(self.spec.pool_pages / here, 1.0)
        if isinstance(self.spec.hit_ratio, float):
            in_memory = self.spec.hit_ratio
        missing = self.pages / self.spec.shards * (1.0 - in_memory)
        if missing >= 1.0:
            with self.builder.repeat(Constant(float(math.ceil(missing / self.spec.read_ahead)))):
                disk(self.site, "read", min(missing, self.spec.read_ahead) * self.spec.page, pattern="sequential")

    @property
    def all_pages(self) -> int:
        """Pages of all tables and indexes."""
        return sum(self.pages_with_indexes(table) for table in self.spec.tables.values())

    def search_time(self) -> float:
        """Core time of finding a row."""
        pages, rows = (self.depth, 0) if self.table.index else (self.pages, self.rows)
        shards = 1 if self.table.index else self.spec.shards
        return float((pages * self.spec.page_cpu + rows * self.spec.row_cpu) / shards)

    def find(self) -> None:
        """Emit the finding of a row: its page, or all pages."""
        compute(self.site, self.search_time())
        if self.table.index:
            self.fetch()
        else:
            self.scan()


def register_of(key: KeyUse | None, site: Site, target: str) -> int | None:
    """The register of a step's own key; None where it has none."""
    return None if key is None else key.register(site, target)


def compute(site: Site, time: DurationDistribution | float) -> None:
    """Emit work of the CPU, as the step does; a number is seconds."""
    if isinstance(time, float):
        time = DurationDistribution.model_validate(f"{time!r} s")
    if time.distribution().mean > 0.0:
        STEPS["compute"].model_validate({"compute": time}).lower(site)


def disk(site: Site, verb: str, size: float, **more: str) -> None:
    """Emit one operation of the disk, as the step does; none where the host has no disk."""
    if site.lowering.system.hosts[site.deployment.service.host].disk is not None:
        STEPS[verb].model_validate({verb: f"{size!r} B", **more}).lower(site)


class Query(StepPart):
    """Read rows of a table, at the replica of the service that runs the step."""

    verb: ClassVar[str] = "query"
    references: ClassVar[dict[str, str]] = {"query": "databases", "key": "keys"}

    query: str
    """`database.table`."""
    key: KeyUse | None = None
    """Which row; that of the table's key where left out."""
    rows: Count = 1
    """Rows that are fetched: the first by its key, the others each by another one, drawn by popularity."""
    cpu: DurationDistribution = DurationDistribution.model_validate("50 us")
    """Core time beside the search, such as parsing, planning and sending; 20 to 200 microseconds for a point query."""

    def lower(self, site: Site) -> None:
        """Find each row; on read replicas see whether it is up to date."""
        builder = site.builder
        with builder.within(f"query {self.query}"):
            compute(site, self.cpu)
            access = _Access(site, self.query, register_of(self.key, site, self.query))
            self._read(access)
            if self.rows > 1 and access.table.index:
                with builder.repeat(Constant(self.rows - 1.0)), site.lowering.keys.within():
                    site.lowering.keys.pick(access.table.key)
                    self._read(_Access(site, self.query))

    def _read(self, access: _Access) -> None:
        access.find()
        database, site = access.database, access.site
        if database.spec.replicas is not None and site.deployment.name == database.spec.replicas.service:
            database.watch_copies()
            following = access.builder.label()
            access.builder.emit(Lookup(site.spread(database.stale), access.row(), following))
            access.builder.mark(following)


class Update(StepPart):
    """Change a row of a table and commit, at the replica of the service that runs the step."""

    verb: ClassVar[str] = "update"
    references: ClassVar[dict[str, str]] = {"update": "databases", "key": "keys"}

    update: str
    """`database.table`."""
    key: KeyUse | None = None
    """Which row; that of the table's key where left out."""
    cpu: DurationDistribution = DurationDistribution.model_validate("100 us")
    """Core time beside the search; 50 to 500 microseconds for a single row."""
    lock: bool = True
    """Whether the row is locked until the commit is done."""

    def lower(self, site: Site) -> None:
        """Lock the row, change it and its indexes, write the log, and leave the rest for later."""
        builder = site.builder
        with builder.within(f"update {self.update}"):
            access = _Access(site, self.update, register_of(self.key, site, self.update))
            database, spec = access.database, access.spec
            if self.lock:
                component = site.component(f"lock {self.update}")
                builder.emit(AcquireKey(database.lock(access.name), component, access.key))
            compute(site, self.cpu)
            access.find()
            for index in range(access.table.indexes):
                compute(site, access.depth * spec.page_cpu)
                access.fetch(index + 1)
            if spec.log_write > 0.0:
                disk(site, "fsync", spec.log_write)
            self._replicate(access)
            if self.lock:
                site.release()
            self._write_back(access)

    def _write_back(self, access: _Access) -> None:
        """The writing of changed pages, for which nobody waits."""
        spec = access.spec
        if spec.write_back > 0.0 and spec.buffer_pool is not None:
            with _message(access.builder):
                for _ in range(1 + access.table.indexes):
                    write = partial(disk, access.site, "write", spec.page)
                    hit_by_chance(access.builder, 1.0 - spec.write_back, write)

    def _replicate(self, access: _Access) -> None:
        """Send the update to every read replica, where it is applied when it gets there."""
        database, builder = access.database, access.builder
        replicas = database.spec.replicas
        if replicas is None:
            return
        database.watch_copies()
        row = access.row()
        for number, deployment in enumerate(database.copies()):
            stale = Place(database.stale[number : number + 1])
            builder.emit(Insert(stale, row))
            there = replace(access.site, deployment=deployment, register=-1)
            with _message(builder), builder.within(f"apply {number}"):
                there.delay("lag", replicas.lag.distribution())
                there.acquire("apply", Place(database.appliers[number : number + 1]), Constant(1.0))
                compute(there, self.cpu.distribution().mean * replicas.apply)
                _Access(there, self.update, access.key, replica=number).fetch()
                builder.emit(Remove(stale, row))
                there.release()


@contextmanager
def _message(builder: Builder) -> Iterator[None]:
    """What is emitted inside goes on by itself, with keys of its own."""
    message, done = builder.label(), builder.label()
    builder.emit(Publish(message, builder.counter()))
    builder.emit(Jump(done))
    builder.mark(message)
    with builder.detached():
        yield
    builder.emit(End())
    builder.mark(done)
