"""Brokers: queues and logs of messages between those who publish and those who process.

`publish: orders` sends a message to a broker; `publish: service.operation` starts an operation directly, through no
broker. Either way the message is a request of its own, from its publishing to its being processed, and is reported as
`messages.orders.<group>`: its age, its failures by reason, and where its time went.

On the way of a message:

1. It waits for room where the broker has a `limit`: at most so many messages are stored and not yet processed by a
   group. A full broker holds the publisher back, or rejects. A publisher who gives up (its `timeout`) before there is
   room takes the message with it, as `publisher gave up`; later, the message goes on, and a retry is another message.
2. The leader of its partition receives it (over the NICs, where there are sizes and hosts), computes and writes, and
   sends it to its other replicas, which do the same at the same time. The publisher goes on when the message has been
   published (`acknowledge: none`), when the leader has it, or when all replicas have it: the slowest of them.
   Consumers get it when all replicas have it, as from Kafka's high watermark.
3. A consumer of every group takes it. Without `partitions` any free consumer of the group does, first in first out:
   with exponential times an M/M/c queue. With partitions, consumer i has the partitions i, i + count, ... to itself and
   processes one message at a time in order: consumers are queues apart, and those beyond the number of partitions idle.
   A popular `key` makes its partition's consumer hot.
4. Consumers that fetch `batch` messages at a time pay the `time` of a fetch once for them all, and wait `linger` for
   a batch to fill (`Batch` in `simulator.program.stations`); they fetch the next while they process the last.
5. What fails is tried again as `timeout` and `retries` say, at least once: a consumer of partitions waits the back-off
   (order within a partition), one of a queue takes another message meanwhile. What fails for good is a failed message;
   with `dead_letter` its reason is `dead letter`.

With several groups, the first one's room is waited for before the message is stored, that of the others afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from simulator.distributions import Constant
from simulator.model.distribution import DurationDistribution, KeySpec, SizeDistribution
from simulator.model.guard import Guard
from simulator.model.guarded_step import GuardedStep
from simulator.model.message import Messages
from simulator.model.part import Count, Duration, Instances, Part
from simulator.model.resource import Resource
from simulator.model.site import Deployment, Site
from simulator.model.step import STEPS
from simulator.program.builder import Builder
from simulator.program.instructions import (
    NO_REGISTER,
    Acknowledge,
    Acquire,
    Delay,
    DrawInto,
    End,
    EndScope,
    Fail,
    HashInto,
    IfAbandoned,
    Jump,
    Place,
    Release,
    Scope,
    Work,
)
from simulator.program.instructions import Publish as PublishMessage
from simulator.program.program import Balancer, Policy
from simulator.program.stations import Batch, Pool

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering

DEAD_LETTER, ABANDONED = "dead letter", "publisher gave up"
SALT = 1
"""Of the hash of keys to partitions, so that these are independent of a store's shards."""
NOTHING = DurationDistribution(constant=0.0)


class Fetch(Part):
    """How consumers get their messages: several at a time."""

    bare: ClassVar[str | None] = "most"

    most: Count
    """Most messages of one fetch. Kafka's `max.poll.records` is 500, RabbitMQ advises a prefetch of 100 to 300."""
    linger: Duration = 0.0
    """How long a fetch waits for more messages than the first; Kafka's `fetch.max.wait.ms` is 500 ms at most."""
    time: DurationDistribution = NOTHING
    """Time of a fetch, however many messages it brings: the round trip to the broker and its work there."""


class Group(Guard):
    """Consumers that share the messages of a broker: each message is processed by one of them."""

    operation: str
    """`service.operation` that processes a message."""
    count: Instances = 1
    """How many consumers there are, each with one message at a time."""
    batch: Fetch | None = None
    """Fetch several messages at a time; `batch: 100` is short for `batch: {most: 100}`."""
    dead_letter: bool = False
    """Whether what fails for good is put aside as a dead letter, which counts as a failure of that reason."""


class Broker(Resource):
    """A queue or log of messages, with its partitions, replicas and groups of consumers."""

    section: ClassVar[str] = "brokers"
    noun: ClassVar[str] = "broker"

    host: str | None = None
    """Name of the hosts that it runs on, partition i on instance i modulo their count, its replicas on the next ones.
    Without a host it costs no resources, only `latency`."""
    latency: DurationDistribution = NOTHING
    """Without a host: time from the publisher to the broker, and again from the broker to a consumer."""
    partitions: Instances | None = None
    """Parts of the log, each in order. Left out, it is one queue that all consumers of a group take from."""
    key: KeySpec | None = None
    """Which keys messages have; the hash of a key chooses its partition. Left out, partitions take turns."""
    replicas: Instances = 1
    """How many instances have each message."""
    acknowledge: Literal["none", "leader", "all"] = "all"
    """What a publisher waits for: nothing, the leader to have stored the message (Kafka's acks=1), or all replicas."""
    cpu: DurationDistribution = NOTHING
    """Core time of a message on each replica."""
    write: SizeDistribution | None = None
    """Bytes that each replica writes to its disk before it has stored a message. Left out, the operating system writes
    later and elsewhere, as is Kafka's default."""
    limit: Count | None = None
    """Most messages that are stored and not yet processed by a group; unlimited where left out."""
    when_full: Literal["wait", "reject"] = "wait"
    """Whether a full broker holds publishers back, or turns messages away with `queue full`."""
    consumers: dict[str, Group] = Field(min_length=1)
    """Groups of consumers by name; every group gets every message."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        wrong = []
        if self.key is not None and self.partitions is None:
            wrong.append("a key without partitions, expected partitions that it chooses from")
        batching = [name for name, group in self.consumers.items() if group.batch is not None]
        if batching and self.partitions is None:
            wrong.append(f"consumers {batching[0]!r} fetch batches, expected partitions that they fetch from")
        if self.host is None:
            given = [name for name in ("write", "cpu") if name in self.model_fields_set]
            given += ["replicas"] if self.replicas > 1 else []
            if given:
                wrong.append(f"{given[0]} without a host, expected the host that has it")
        elif "latency" in self.model_fields_set:
            wrong.append("both a host and a latency, expected one of them (network.latency is that between hosts)")
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    @classmethod
    def host_needs(cls, spec: dict[Any, Any]) -> Iterator[tuple[str, str, int]]:
        """Field that asks something of the host, the part that it has to have ('' for none), and of how many."""
        yield "host", "", 1
        if spec.get("write") is not None:
            yield "write", "disk", 1
        replicas = spec.get("replicas")
        if isinstance(replicas, int):
            yield "replicas", "", replicas

    @classmethod
    def operations(cls, spec: dict[Any, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        """What its consumers do."""
        consumers = spec.get("consumers")
        for name, group in consumers.items() if isinstance(consumers, dict) else ():
            if isinstance(group, dict):
                yield ("consumers", name, "operation"), group.get("operation")

    def lower(self, lowering: Lowering, name: str) -> LoweredBroker:
        """Its replicas' places on the hosts, and each group's consumers and room."""
        builder = lowering.builder
        parts = self.partitions or 1
        groups = [self._group(builder, f"brokers.{name}", each) for each in self.consumers]
        turns = NO_REGISTER
        if self.key is None and parts > 1:
            stations = groups[0].consumers
            turns = builder.balancer(
                Balancer(Policy.ROUND_ROBIN, tuple(stations[p % len(stations)] for p in range(parts)))
            )
        return LoweredBroker(self, name, tuple(self._deployments(lowering, name, parts)), tuple(groups), turns)

    def _deployments(self, lowering: Lowering, name: str, parts: int) -> Iterator[Deployment]:
        """The leaders of the partitions, then the second replicas, and so on."""
        from simulator.model.service import Service  # which is made of steps, as these are

        if self.host is None:
            return
        instances = lowering.hosts[self.host]
        service = Service(host=self.host, operations={"store": []})
        for replica in range(self.replicas):
            placed = tuple((part + replica) % len(instances) for part in range(parts))
            stations = tuple(instances[number] for number in placed)
            part_name = name if replica == 0 else f"{name}.replica"
            yield Deployment(part_name, service, (), (), NO_REGISTER, None, stations, placed, counted=False)

    def _group(self, builder: Builder, resource: str, name: str) -> LoweredGroup:
        group = self.consumers[name]
        resource = f"{resource}.{name}"
        fetches: list[int] = []
        if self.partitions is None:
            consumers = [builder.station(Pool(resource, float(group.count)))]
        else:
            working = min(group.count, self.partitions)
            consumers = [builder.station(Pool(resource, 1.0)) for _ in range(working)]
            if group.batch is not None:
                with builder.within(resource):
                    time = builder.draw(group.batch.time.distribution(), "fetch")
                batch = Batch(f"{resource}.fetch", group.batch.most, time, group.batch.linger)
                fetches = [builder.station(batch) for _ in range(working)]
        room = None
        if self.limit is not None:
            waiting = None if self.when_full == "wait" else 0
            room = builder.station(Pool(f"{resource}.room", float(self.limit), waiting))
        return LoweredGroup(name, group, tuple(consumers), tuple(fetches), room)


@dataclass(frozen=True, slots=True)
class LoweredGroup:
    """A group's stations: its consumers, where they fetch batches, and the room before them."""

    name: str
    group: Group
    consumers: tuple[int, ...]
    fetches: tuple[int, ...]
    room: int | None


@dataclass(frozen=True, slots=True)
class LoweredBroker:
    """A broker's replicas of each partition by place, its groups, and the balancer that lets partitions take turns."""

    broker: Broker
    name: str
    replicas: tuple[Deployment, ...]
    groups: tuple[LoweredGroup, ...]
    turns: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message under way: from whom, through which broker, in which partition, and how large."""

    publisher: Site
    lowered: LoweredBroker
    partition: int
    size: SizeDistribution | None

    @property
    def builder(self) -> Builder:
        """The Program under construction."""
        return self.publisher.builder

    @property
    def broker(self) -> Broker:
        """The broker."""
        return self.lowered.broker

    def publish(self) -> None:
        """Emit the publishing of a message for each group; the publisher waits as the broker says."""
        self._publish(len(self.lowered.groups) - 1, waits=self.broker.acknowledge != "none")
        if self.broker.acknowledge != "none":
            self._travel(self.publisher.deployment.service.host)

    def _publish(self, number: int, waits: bool) -> None:
        """The message of a group, which publishes those of the groups before it and waits for them to be stored."""
        builder, group = self.builder, self.lowered.groups[number]
        message, done = builder.label(), builder.label()
        counter = builder.counter()
        waiting = builder.component(f"publish {self.lowered.name}") if waits else None
        stream = f"messages.{self.lowered.name}.{group.name}"
        with builder.within(group.name), builder.messages(stream, group.group.operation) as stream_number:
            builder.emit(PublishMessage(message, counter, stream_number, waiting))
            builder.emit(Jump(done))
            builder.mark(message)
            if number > 0:
                self._publish(number - 1, waits=True)
            self._wait_for_room(group)
            if number == 0:
                self._give_up_with_the_publisher(group)
                self._store()
            builder.emit(Acknowledge())
            self._deliver(group)
            if group.room is not None:
                builder.emit(Release())
            builder.emit(End())
        builder.mark(done)

    def _wait_for_room(self, group: LoweredGroup) -> None:
        if group.room is not None:
            component = self.builder.component(f"{self.lowered.name}.room")
            self._acquire(Place((group.room,)), component)

    def _give_up_with_the_publisher(self, group: LoweredGroup) -> None:
        """A message that got its room too late, when the publisher has given up, is not stored."""
        builder = self.builder
        if group.room is not None and self.broker.acknowledge != "none":
            abandoned, stays = builder.label(), builder.label()
            builder.emit(IfAbandoned(abandoned, len(self.lowered.groups)))
            builder.emit(Jump(stays))
            builder.mark(abandoned)
            builder.emit(Fail(builder.reason(ABANDONED)))
            builder.mark(stays)

    def _acquire(self, place: Place, component: int) -> None:
        self.builder.emit(Acquire(place, component, self.builder.draw(Constant(1.0), "one")))

    def _travel(self, host: str | None = None) -> None:
        """The way between the broker and somebody on a host, or between its replicas."""
        if self.broker.host is None:
            time = self.broker.latency.distribution()
            if time.mean > 0.0:
                self.builder.emit(Delay(self.builder.component("network"), self.builder.draw(time, "latency")))
        elif host != self.broker.host:
            self.publisher.lowering.pass_network()

    def _store(self) -> None:
        """What the leader and the other replicas do before consumers get the message."""
        self._travel(self.publisher.deployment.service.host)
        if self.size is not None:
            self.publisher.lowering.transfer(self.publisher, self.size, "out")
        if not self.lowered.replicas:
            return
        leader, *others = (Site(self.publisher.lowering, each, self.partition) for each in self.lowered.replicas)
        self._receive(leader)
        if self.broker.acknowledge == "leader" and others:
            self.builder.emit(Acknowledge(len(self.lowered.groups)))
        if others:
            self._replicate(leader, others)

    def _receive(self, site: Site) -> None:
        """A replica gets a message, computes and writes."""
        if self.size is not None:
            site.lowering.transfer(site, self.size, "in")
        if self.broker.cpu.distribution().mean > 0.0:
            STEPS["compute"].model_validate({"compute": self.broker.cpu}).lower(site)
        if self.broker.write is not None:
            STEPS["write"].model_validate({"write": self.broker.write}).lower(site)

    def _replicate(self, leader: Site, others: list[Site]) -> None:
        """All other replicas at the same time; it takes as long as the slowest."""
        self.builder.fork([partial(self._replicate_to, leader, replica) for replica in others], "replica")

    def _replicate_to(self, leader: Site, replica: Site) -> None:
        """Send the message to one replica, and hear that it has it."""
        if self.size is not None:
            leader.lowering.transfer(leader, self.size, "out")
        self._travel()
        self._receive(replica)
        self._travel()

    def _deliver(self, group: LoweredGroup) -> None:
        """A consumer of a group gets the message, and processes it until it succeeds or fails for good."""
        builder, lowering = self.builder, self.publisher.lowering
        self._travel(lowering.system.services[group.group.operation.partition(".")[0]].host)
        if self.size is not None and self.lowered.replicas:
            leader = Site(lowering, self.lowered.replicas[0], self.partition)
            lowering.transfer(leader, self.size, "out")
        if group.fetches:
            component = builder.component(f"{self.lowered.name}.fetch")
            place = self._of_consumer(group.fetches)
            builder.emit(Work(place, component, builder.draw(Constant(0.0), "fetch")))
        if not group.group.dead_letter:
            self._process(group)
            return
        handler, done = builder.label(), builder.label()
        builder.emit(Scope(handler))
        self._process(group)
        builder.emit(EndScope())
        builder.emit(Jump(done))
        builder.mark(handler)
        builder.emit(Fail(builder.reason(DEAD_LETTER)))
        builder.mark(done)

    def _of_consumer(self, stations: tuple[int, ...]) -> Place:
        """The station of the consumer that has the message's partition."""
        if self.partition == NO_REGISTER:
            return Place(stations[:1])
        parts = self.broker.partitions or 1
        return Place(tuple(stations[part % len(stations)] for part in range(parts)), self.partition)

    def _process(self, group: LoweredGroup) -> None:
        builder, ordered = self.builder, self.broker.partitions is not None
        component = builder.component(f"{self.lowered.name}.queue")
        place = self._of_consumer(group.consumers)

        def attempt() -> None:
            self.publisher.lowering.receive(group.group.operation, self.size)

        def attempt_of_anybody() -> None:
            self._acquire(place, component)
            attempt()
            builder.emit(Release())

        if ordered:
            self._acquire(place, component)
        with builder.within(group.group.operation):
            consumers = f"{self.lowered.name}.{group.name}"
            group.group.guard(self.publisher, consumers, attempt if ordered else attempt_of_anybody)
        if ordered:
            builder.emit(Release())


class Publish(GuardedStep):
    """Send a message to a broker, or one that starts an operation directly, which nobody waits for."""

    verb: ClassVar[str] = "publish"
    references: ClassVar[dict[str, str]] = {"publish": "brokers"}
    targets: ClassVar[tuple[str, ...]] = ("publish",)

    publish: str
    """Name of a broker, or `service.operation`."""
    size: SizeDistribution | None = None
    """Bytes of the message; they use the NICs on their way."""

    @classmethod
    def streams(cls, step: dict[Any, Any], document: dict[Any, Any]) -> Iterator[str]:
        """Names under which the messages of a step as written can be asked for."""
        target = step.get("publish")
        if isinstance(target, str):
            yield target
            brokers = document.get("brokers")
            broker = brokers.get(target) if isinstance(brokers, dict) else None
            consumers = broker.get("consumers") if isinstance(broker, dict) else None
            yield from (f"{target}.{group}" for group in consumers or () if isinstance(consumers, dict))
            yield target.partition(".")[0]

    @classmethod
    def callee(cls, target: str) -> str:
        """The operation, or the broker."""
        return target if "." in target else f"publish {target}"

    def lower(self, site: Site) -> None:
        """Tokens of their own, one for every group of consumers."""
        with site.builder.within(f"message {self.publish}"):
            if "." in self.publish:
                self.guard(site, self.callee(self.publish), lambda: self._start(site))
                return
            partition = self._partition(site)
            delivery = Delivery(site, site.resource("brokers", self.publish), partition, self.size)
            self.guard(site, self.callee(self.publish), delivery.publish)

    def _start(self, site: Site) -> None:
        """A message that starts an operation."""
        builder = site.builder
        message, done = builder.label(), builder.label()
        counter = builder.counter()
        with builder.messages(f"messages.{self.publish}", self.publish) as stream:
            builder.emit(PublishMessage(message, counter, stream))
            builder.emit(Jump(done))
            builder.mark(message)
            site.lowering.call(self.publish, caller=site, messages=Messages.model_construct(request=self.size))
            builder.emit(End())
        builder.mark(done)

    def _partition(self, site: Site) -> int:
        """The register of the partition that the message's key, or whose turn it is, says."""
        builder, lowered = site.builder, site.resource("brokers", self.publish)
        if lowered.turns != NO_REGISTER:
            return builder.select(lowered.turns)
        broker: Broker = lowered.broker
        if broker.key is None:
            return NO_REGISTER
        assert broker.partitions is not None
        key, partition = builder.register(), builder.register()
        builder.emit(DrawInto(key, builder.draw(broker.key.distribution(), f"key {self.publish}")))
        builder.emit(HashInto(partition, key, broker.partitions, SALT))
        return partition
