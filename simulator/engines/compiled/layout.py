"""Memory layout of a run: the records that the kernel and Python share, and the numbers that stand for things.

Every record lives in a NumPy array that Python owns. The one `WORLD` record holds the addresses of all others and
what there is only one of (the clock, the heads of free lists). Links between records are indices, `NONE` at an end.
"""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np

NONE = -1

MOST_STARTS_AT_ONCE = 1_000_000


def as_signed(word: int) -> int:
    """The signed number with the bits of an unsigned 64-bit word."""
    return word - (1 << 64) if word >> 63 else word


class Status(IntEnum):
    """Why the kernel came back; it does so with nothing half done."""

    DONE = 0
    CHECK = auto()  # a while has passed: time for Python to look for a Ctrl-C
    NEED_DRAW = auto()
    NEED_GAPS = auto()
    NEED_PREFIX = auto()
    GROW_TOKENS = auto()
    GROW_SCOPES = auto()
    GROW_HOLDS = auto()
    GROW_KEYS = auto()
    GROW_ENTRIES = auto()
    GROW_LOCKS = auto()
    GROW_NODES = auto()
    GROW_ROWS = auto()
    SPINNING = auto()


class Op(IntEnum):
    """What an instruction does."""

    VISIT = 0
    RELEASE = auto()
    DELAY = auto()
    DRAW_INTO = auto()
    HASH_INTO = auto()
    GROUP_INTO = auto()
    LOOKUP = auto()
    INSERT = auto()
    REMOVE = auto()
    CHOOSE = auto()
    SWITCH = auto()
    NUMBER_INTO = auto()
    DEPOSIT = auto()
    CALCULATE = auto()
    IF_AT_LEAST = auto()
    METER = auto()
    JUMP = auto()
    FORK = auto()
    PUBLISH = auto()
    ACKNOWLEDGE = auto()
    IF_ABANDONED = auto()
    HAND_BACK = auto()
    FIRST_TOKEN = auto()
    SELECT = auto()
    CLEAR = auto()
    LOOP = auto()
    NEXT = auto()
    ACQUIRE_KEY = auto()
    GENERATE = auto()
    SCOPE = auto()
    END_SCOPE = auto()
    RETRY = auto()
    FAIL = auto()
    END = auto()
    SET_SPEED = auto()
    HALT = auto()
    RESUME = auto()
    CLOSE = auto()
    OPEN = auto()
    BREAK = auto()
    EXCLUDE = auto()
    INCLUDE = auto()
    SET = auto()
    ADD = auto()
    BRANCH = auto()
    SCALE = auto()
    JOIN = auto()


class Kind(IntEnum):
    """Kind of a station."""

    SERVERS = 0
    SHARING = auto()
    POOL = auto()
    BUCKET = auto()
    STORE = auto()
    BATCH = auto()
    BREAKER = auto()
    BUDGET = auto()
    KEYED_LOCKS = auto()
    GAUGE = auto()
    INFERENCE = auto()


# Where a token is that lets time pass, or waits for its message; other values of `at` are stations, or NONE.
PASSING, AWAITING = -2, -3

WORLD = np.dtype(
    [
        # The clock and the event heap. `hole`: the heap's root is the event under way, free to be replaced.
        ("now", "f8"), ("order", "i8"), ("events", "i8"), ("hole", "i8"), ("heap", "i8"), ("position", "i8"),
        # The token that runs, and those that are ready, in a ring.
        ("running", "i8"), ("ready", "i8"), ("ready_first", "i8"), ("ready_count", "i8"), ("ready_mask", "i8"),
        ("requests", "i8"),  # so far
        ("thinking", "i8"),  # the user whose next think time is to be scheduled
        # Addresses of tables that do not change.
        ("code", "i8"), ("table", "i8"), ("numbers", "i8"), ("balancers", "i8"), ("draws", "i8"),
        # Addresses of state.
        ("stations", "i8"), ("queues", "i8"), ("workloads", "i8"), ("users", "i8"),
        ("counters", "i8"), ("scalers", "i8"),  # `counters` are lists of integers of balancers and scalers
        ("tokens", "i8"), ("frames", "i8"), ("times", "i8"), ("scopes", "i8"), ("holds", "i8"),
        ("frame_size", "i8"), ("times_size", "i8"),
        ("created", "i8"), ("token_count", "i8"),  # tokens made so far, and tokens that there is room for
        # Tokens that a control is at work on, in the order in which they were made; `breaking` while `Break` is.
        ("chosen", "i8"), ("chosen_count", "i8"), ("chosen_next", "i8"), ("breaking", "i8"),
        ("free_token", "i8"), ("free_tokens", "i8"), ("free_scope", "i8"), ("free_hold", "i8"),
        # Ids of events: 0 is the sample, then come arrivals, users, stations, and tokens and scopes in turn.
        ("first_user", "i8"), ("first_station", "i8"), ("first_token", "i8"),
        # Blocks of draws.
        ("block_bits", "i8"), ("later", "i8"), ("later_tags", "i8"), ("later_mask", "i8"), ("later_bits", "i8"),
        # Stores.
        ("entries", "i8"), ("free_entry", "i8"), ("keys", "i8"), ("universe", "i8"), ("uses", "i8"),
        ("locks", "i8"), ("free_lock", "i8"),  # of keyed locks, which share the table of keys
        # Inference stations, the sequences of all tokens, and the nodes of their lists of blocks.
        ("inference", "i8"), ("sequences", "i8"), ("nodes", "i8"), ("free_node", "i8"), ("free_nodes", "i8"),
        # Ids of recorded prompts' blocks, `prefix_size` for each token; the token that has just been given its own.
        ("prefixes", "i8"), ("prefix_size", "i8"), ("prefixed", "i8"), ("prefix_count", "i8"),
        # Samples.
        ("station_count", "i8"), ("workload_count", "i8"), ("sampled", "i8"), ("ticks_left", "i8"),
        ("sample_times", "i8"), ("station_samples", "i8"), ("workload_samples", "i8"), ("inference_samples", "i8"),
        ("inference_count", "i8"),
        ("window", "f8"), ("duration", "f8"),
        # What the kernel asks Python for.
        ("asked", "i8"), ("asked_number", "i8"), ("asked_draw", "i8"), ("full", "i8"),
    ],
    align=True,
)  # fmt: skip

EVENT = np.dtype([("time", "f8"), ("order", "i8"), ("id", "i8")], align=True)

INSTRUCTION = np.dtype(
    [
        ("op", "i4"), ("component", "i4"),  # index of the component's waiting time in a token's times
        ("draw", "i4"),  # NONE: the constant `value`
        ("register", "i4"),  # of the place, where it has one
        ("place", "i4"),  # the station, or where the list of stations starts in the table
        ("target", "i4"), ("argument", "i4"), ("counter", "i4"), ("flag", "i4"), ("list", "i4"), ("size", "i4"),
        ("value", "f8"),
    ],
    align=True,
)  # fmt: skip

DRAW = np.dtype(
    [
        ("values", "i8"), ("tags", "i8"), ("mask", "i8"), ("counter", "i4"), ("constant", "i4"), ("value", "f8"),
        ("factor", "i8"),  # a register, or NONE
    ],
    align=True,
)  # fmt: skip

LATER_TAG = np.dtype([("block", "i8"), ("draw", "i8"), ("number", "i8")], align=True)

BALANCER = np.dtype(
    [
        ("policy", "i4"), ("count", "i4"), ("pools", "i4"), ("position", "i4"),
        ("weights", "i4"),  # where the weights start among the numbers, followed by the credits
        ("excluded", "i4"), ("members", "i4"),  # how often each replica is excluded, and how many never are
    ],
    align=True,
)  # fmt: skip

SCALER = np.dtype(
    [
        ("gauge", "i4"), ("balancer", "i4"), ("stations", "i4"), ("count", "i4"), ("waiting", "i4"),
        ("starts", "i4"), ("started", "i8"), ("least", "i8"), ("most", "i8"), ("highest", "i8"),
        ("target", "f8"), ("tolerance", "f8"), ("cool_down", "f8"),
        ("looked", "f8"), ("seen", "f8"), ("lower_since", "f8"),
    ],
    align=True,
)  # fmt: skip

STATION = np.dtype(
    [
        ("kind", "i4"), ("discipline", "i4"), ("queue", "i4"), ("levels", "i4"),
        ("busy", "i8"), ("waiting", "i8"), ("last", "f8"), ("busy_area", "f8"), ("waiting_area", "f8"),
        ("delivered", "f8"), ("arrivals", "i8"), ("completions", "i8"), ("rejections", "i8"), ("withdrawals", "i8"),
        ("hits", "i8"), ("limit", "i8"),  # of the queue; NONE: no limit
        ("servers", "i8"), ("started", "f8"),
        # Sharing: the table of rates starts at `rates`; `root` is the job to leave next.
        ("rates", "i8"), ("most", "i8"), ("alone", "f8"), ("virtual", "f8"), ("changed", "f8"), ("order", "i8"),
        ("owed", "f8"), ("root", "i8"), ("share", "f8"),
        # Its quota; a period of 0 is none. `timed` says which event comes next, see `stations.quota`.
        ("quota", "f8"), ("period", "f8"), ("processors", "i8"), ("left", "f8"), ("number", "i8"), ("throttled", "i8"),
        # Pool: `filled` is when its queue was last empty; a wait limit below 0 is none.
        ("capacity", "f8"), ("used", "f8"), ("wait_limit", "f8"), ("standing", "f8"), ("filled", "f8"),
        ("refusal", "i8"),
        # Units that may be in use before nobody gets more, and how often it was closed in either way.
        ("room", "f8"), ("refusals", "i8"), ("hangs", "i8"), ("broken", "i8"),
        # Speed, 0 while halted, else `factor`; for servers `changed` is when it changed last.
        ("speed", "f8"), ("factor", "f8"), ("halts", "i8"),
        # Bucket: with `keys`, each has two numbers from `taken` on: the tokens that were missing, and when.
        ("rate", "f8"), ("burst", "f8"), ("level", "f8"), ("refilled", "f8"), ("waits", "i8"), ("timed", "i8"),
        ("keys", "i8"), ("taken", "i8"),
        # Breaker: a ring of reports (1 is a failure) of `window` numbers from `reports` on.
        ("state", "i8"), ("changes", "i8"), ("opened", "f8"), ("window", "i8"), ("reports", "i8"), ("reported", "i8"),
        ("oldest", "i8"), ("failures", "i8"), ("least", "i8"), ("failure_share", "f8"), ("open_time", "f8"),
        ("trials_most", "i8"), ("trials", "i8"), ("successes", "i8"),
        # Store: entries in order of use or insertion; LFU: a heap of `busy` entries that starts at `uses`.
        ("entries_most", "i8"), ("multiset", "i8"), ("eviction", "i8"), ("time_to_live", "f8"), ("expires", "i8"),
        ("first", "i8"), ("end", "i8"), ("uses", "i8"), ("row", "i8"),
        # Keyed locks: the key whose units in use are `used`; NONE: of all keys.
        ("watched", "i8"),
        # Batch: of at most `most` jobs; those that wait are in the first queue, those in service in the second. `used`
        # is the share of the time that full batches would take, in which a job's part of the base is `each`.
        ("base", "i8"), ("batches", "i8"), ("serving", "i8"), ("began", "f8"), ("linger", "f8"), ("each", "f8"),
        ("lasts", "f8"),
    ],
    align=True,
)  # fmt: skip

QUEUE = np.dtype([("first", "i4"), ("end", "i4")], align=True)

TOKEN = np.dtype(
    [
        ("pc", "i4"), ("at", "i4"), ("component", "i4"), ("timed", "i4"), ("since", "f8"), ("amount", "f8"),
        ("number", "i8"), ("frame", "i4"), ("workload", "i4"),
        # Neighbours in a queue; in a sharing station the pairing heap's siblings, and the first child.
        ("before", "i4"), ("after", "i4"), ("child", "i4"), ("level", "i4"), ("mark", "f8"), ("order", "i8"),
        ("scope", "i4"), ("hold", "i4"), ("holds", "i4"), ("reserved", "i4"),
        ("refused", "i4"),  # one more than the reason for which it is to fail when its turn comes; 0: it goes on
        ("alive", "i4"), ("woken", "i4"), ("detached", "i4"), ("detaches", "i4"), ("reason", "i4"), ("need", "i4"),
        ("parent", "i4"), ("first_branch", "i4"), ("last_branch", "i4"), ("branches", "i4"),
        ("previous", "i4"), ("next", "i4"),  # siblings
        ("root", "i4"), ("is_root", "i4"), ("user", "i4"), ("operation", "i4"), ("retries", "i8"), ("arrival", "f8"),
        ("earlier", "i4"), ("later", "i4"),  # requests in flight, in order of arrival
        ("free", "i4"), ("unused", "i4"), ("created", "i8"),
        ("publisher", "i4"), ("message", "i4"),  # who waits for this message; whom this token awaits
        ("serial", "i8"),  # of the request
    ],
    align=True,
)  # fmt: skip

SCOPE = np.dtype(
    [
        ("token", "i4"), ("outer", "i4"), ("handler", "i4"), ("holds", "i4"), ("reason", "i4"), ("timed", "i4"),
        ("until_first_token", "i4"), ("unused", "i4"),
    ],
    align=True,
)  # fmt: skip

# The amount that is held of keyed locks is the key.
HOLD = np.dtype([("station", "i4"), ("below", "i4"), ("amount", "f8")], align=True)

LOCK = np.dtype([("held", "i8"), ("waiting", "i8"), ("first", "i4"), ("end", "i4"), ("free", "i8")], align=True)

WORKLOAD = np.dtype(
    [
        # An open workload's gaps, and a closed one's number of users (0 where it is open).
        ("gaps", "i8"), ("gap", "i8"), ("gap_count", "i8"), ("ended", "i8"),
        ("users", "i8"), ("first_user", "i8"), ("think", "i8"), ("starts", "i8"), ("last_start", "f8"),
        ("number", "i8"), ("choice", "i8"), ("entries", "i8"), ("entry_count", "i8"),
        ("frame_size", "i8"), ("components", "i8"), ("meters", "i8"), ("level", "i8"),
        ("arrived", "i8"), ("completed", "i8"), ("failed", "i8"), ("live", "i8"), ("first", "i8"), ("end", "i8"),
        ("population_area", "f8"), ("last", "f8"),
        # Columns of finished requests.
        ("rows", "i8"), ("room", "i8"), ("numbers", "i8"), ("operations", "i8"), ("arrivals", "i8"), ("ends", "i8"),
        ("outcomes", "i8"), ("retries", "i8"), ("waits", "i8"), ("services", "i8"), ("metered", "i8"),
    ],
    align=True,
)  # fmt: skip

USER = np.dtype([("number", "i8"), ("workload", "i8")], align=True)

ENTRY = np.dtype(
    [
        ("key", "i8"), ("inserted", "f8"), ("uses", "i8"), ("order", "i8"),
        ("before", "i4"), ("after", "i4"), ("place", "i4"), ("free", "i4"), ("copies", "i8"),
    ],
    align=True,
)  # fmt: skip

INFERENCE = np.dtype(
    [
        ("memory", "i8"),  # the pool, of so many blocks of `block` tokens
        ("capacity", "i8"), ("block", "i8"), ("sequences", "i8"), ("tokens", "i8"), ("part", "i8"),
        ("prefix_caching", "i4"), ("priority", "i4"), ("static", "i4"), ("ahead", "i4"),
        ("chunked", "i8"), ("apart", "i8"),
        ("serving", "i8"),  # whether a step is under way
        ("coefficients", "i8"),  # where those of the step's time start among the numbers
        # Addresses of the tokens that run and those in the step under way (NONE: it has left), and how many are in it.
        ("running", "i8"), ("stepped", "i8"), ("in_step", "i8"),
        # Address of the blocks; the free ones, in a list; address of the table of kept ones by their keys.
        ("blocks", "i8"), ("free", "i8"), ("kept", "i8"), ("mask", "i8"),
        # Address of the first and last free block by how often what they hold was found again, up to `levels`.
        ("lists", "i8"), ("levels", "i8"),
        ("largest", "i8"),  # blocks that any sequence so far may need
        # The step under way.
        ("step_tokens", "i8"), ("generating", "i8"), ("attended", "i8"), ("longest", "i8"), ("attention", "f8"),
        ("began", "f8"),
        # What is counted, see `simulator.records.INFERENCE_FIELDS`.
        ("steps", "i8"), ("stepping", "f8"), ("prompt_tokens", "i8"), ("cached_tokens", "i8"),
        ("computed_tokens", "i8"), ("generated_tokens", "i8"), ("preemptions", "i8"),
    ],
    align=True,
)  # fmt: skip

BLOCK = np.dtype(
    [
        ("key", "i8"), ("users", "i4"), ("before", "i4"), ("after", "i4"),  # neighbors among the free ones
        ("chained", "i4"),  # the next of those kept that share an entry of the table
        ("kept", "i4"), ("uses", "i4"),
    ],
    align=True,
)  # fmt: skip

# One for each token. `room`: tokens that its blocks have room for besides those computed; `fills`: how many tokens fill
# the next block that has a key, which those of the first `keeps` tokens have; the last of its `held` blocks is in node
# `last_node`.
SEQUENCE = np.dtype(
    [
        ("known", "i4"), ("computed", "i4"), ("part", "i4"), ("room", "i4"), ("fills", "i4"), ("generated", "i4"),
        ("output", "i4"), ("prompt", "i4"),
        ("generate", "i4"),  # where the numbers of its instruction start in the table
        ("step", "i4"),  # place among those in the step
        ("held", "i4"), ("last_node", "i4"), ("keyed", "i4"), ("runs", "i4"), ("admitted", "i4"),
        ("own_key", "i8"), ("keeps", "i8"), ("started", "f8"), ("last", "f8"),
        ("ids", "i8"),  # where those of a recorded prompt start among the prefixes; NONE: it has none
    ],
    align=True,
)  # fmt: skip

NODE = np.dtype([("block", "i4"), ("before", "i4")], align=True)
