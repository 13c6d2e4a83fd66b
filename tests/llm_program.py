"""Programs with LLM calls, built by hand, and the results of their runs on the reference engine."""

from simulator.analytic.demands import facts
from simulator.distributions import Constant, Exponential, LogNormal
from simulator.engines.simpy.engine import simulate
from simulator.model.files import loads
from simulator.model.objective import Objective
from simulator.program.arrivals import Renewal
from simulator.program.builder import Builder
from simulator.program.instructions import DrawInto, End, Generate, Meter, Place, Publish, Work
from simulator.program.program import Entry, Workload
from simulator.program.stations import Inference, Pool, Servers
from simulator.program.step_time import StepTime
from simulator.results.replication import reduce
from simulator.results.section import sections_of
from simulator.results.summary import Summary

LATENCY = ("first token", "decode time", "decode tokens", "longest gap")
STEP = StepTime(
    overhead=0.001, weights=0.0066, token=3.2e-5, sequence=2e-6, chunk=1e-9, floor=250, generated=6e-8, mixed=1.2e-7,
    longest=2e-8,
)  # fmt: skip
USD = 0.01
SYSTEM = """
name: talk
hosts: {app: {cpu: 1, price: $2/h}}
services: {web: {host: app, operations: {get: [{compute: 1 ms}]}}}
workloads: {ask: {rate: 1/s, operation: web.get}}
"""


class Talk:
    """An LLM with two replicas, of which the second serves chats; requests that ask, and chats of two turns."""

    def __init__(self, rate=3.0, asks=True, chats=True, streamed=True, paid=True, blocks=4000, plain=False):
        self.builder = b = Builder()
        self.streamed, self.paid = streamed, paid
        memory = [b.station(Pool("llms.assistant.kv_cache", blocks)) for _ in range(2)]
        self.replicas = [b.station(Inference("llms.assistant", STEP, 16, 2048, 2048, each)) for each in memory]
        self.cpu = b.station(Servers("hosts.app.cpu", 1))
        if asks:
            self._workload("ask", rate, lambda: self._generate(0))
        if chats:
            self._chats(rate / 2)
        if plain:
            self._workload("plain", rate, self._work)

    def _workload(self, name, rate, emit, emit_after=lambda: None):
        b = self.builder
        b.start_workload()
        with b.within(name):
            start = b.label()
            b.mark(start)
            emit()
            b.emit(End())
            emit_after()
            choice = b.draw(Constant(0.0), "operation")
        b.workload(Workload(name, Renewal(Exponential(1.0 / rate)), (Entry("say", start, 1.0),), choice, (), 0))

    def _work(self):
        b = self.builder
        b.emit(Work(Place((self.cpu,)), b.component("cpu"), b.draw(Constant(0.001), "work")))

    def _generate(self, replica):
        b = self.builder
        prompt, output = b.register(), b.register()
        b.emit(DrawInto(prompt, b.draw(LogNormal(300.0, 1.0), "in")))
        b.emit(DrawInto(output, b.draw(LogNormal(30.0, 0.8), "out")))
        latency = b.meters(*LATENCY) if self.streamed else None
        names = ["assistant.prompt", "assistant.cached", "assistant.output"]
        usage = b.meters(*names, *(["assistant.usd"] if self.paid else []))
        place = Place((self.replicas[replica],))
        b.emit(Generate(place, b.component("prefill"), b.component("decode"), prompt, output, usage, latency))
        if self.paid:
            b.emit(Meter(usage + 3, b.draw(Constant(USD), "price")))

    def _chats(self, rate):
        b = self.builder
        turns = [b.label(), b.label()]

        def publish():
            for turn, label in enumerate(turns):
                with b.messages("messages.chats.turns", "say") as stream:
                    pass
                b.emit(Publish(label, stream=stream, awaited=b.component(f"turn {turn}")))

        def take_turns():
            for label in turns:
                with b.within("turn"), b.messages("messages.chats.turns", "say"):
                    b.mark(label)
                    self._generate(1)
                    b.emit(End())

        self._workload("chats", rate, publish, take_turns)

    def program(self):
        return self.builder.build("talk")


class Study:
    """Replications of a program with their records, reduced as `tpsim run` does."""

    def __init__(self, program, objectives=(), replications=3, duration=150.0, seed=5, warm_up=10.0, sketched=False):
        self.program = program
        wanted = [Objective.model_validate(text) for text in objectives]
        self.system = loads(SYSTEM).model_copy(update={"objectives": wanted})
        limits = tuple(each.metric.limits for each in self.system.objectives if each.metric.limits)
        self.records = [simulate(program, duration, seed, number) for number in range(replications)]
        self.replications = [reduce(each, program, limits, sketched) for each in self.records]
        self.sections = sections_of(self.replications, warm_up)

    def results(self):
        """What `tpsim run` would say."""
        known = facts(self.program)
        return Summary(self.system, self.program, known, self.replications, self.sections, 5).results()

    def requests(self, workload, section=None):
        """Columns of the requests of a workload that ended in the sections, or in one of them, with meters by name."""
        index = [each.name for each in self.program.workloads].index(workload)
        numbers = range(len(self.sections)) if section is None else [section]
        tables = []
        for number in numbers:
            section, table = self.sections[number], self.records[number % len(self.records)].requests[index]
            stop = section.start + section.length
            tables.append((table, (table.end > section.start) & (table.end <= stop)))
        return tables
