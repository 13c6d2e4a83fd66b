"""A draw depends on its place alone: not on the order, the block or the neighbours it was asked for with."""

import hashlib
import itertools
import pickle
import random

import numpy as np
import pytest

from simulator.distributions import Constant, Exponential, Gamma, StandardUniform
from simulator.streams import Stream, Streams, message_base

MASK = 2**64 - 1


def philox4x64(counter, key):
    """Philox4x64-10 by the paper: ten rounds of two 64-bit products, the key bumped by Weyl constants."""
    words, keys = list(counter), list(key)
    for _ in range(10):
        low_product = words[0] * 0xD2E7470EE14C6C93
        high_product = words[2] * 0xCA5A826395121157
        words = [
            (high_product >> 64) ^ words[1] ^ keys[0],
            high_product & MASK,
            (low_product >> 64) ^ words[3] ^ keys[1],
            low_product & MASK,
        ]
        keys = [(keys[0] + 0x9E3779B97F4A7C15) & MASK, (keys[1] + 0xBB67AE8584CAA73B) & MASK]
    return words


def expected_uniform(seed, replication, name, index, draw, k):
    key = hashlib.blake2b(f"{seed} {replication} {name}".encode(), digest_size=16).digest()
    keys = [int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")]
    raw = philox4x64([index // 4, draw, k, 0], keys)[index % 4]
    return ((raw >> 12) + 0.5) * 2.0**-52


def test_hand_written_philox_gives_the_published_answer():
    """Known answer of the authors' Random123 for counter and key 0."""
    assert philox4x64([0, 0, 0, 0], [0, 0]) == [
        0x16554D9ECA36314C,
        0xDB20FE9D672D0FDC,
        0xD7E772CEE186176B,
        0x7E68B68AEC7BA23B,
    ]


@pytest.mark.parametrize("draw", [0, 1, 7])
@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("first", [0, 1, 2, 3, 4, 1021, 2**40 + 2, 2**65 - 8])
def test_uniforms_are_philox(first, draw, k):
    drawn = Streams(42, 3).uniforms("disk.service", first, 9 if first < 2**65 - 8 else 5, draw, k)
    expected = [expected_uniform(42, 3, "disk.service", first + offset, draw, k) for offset in range(drawn.size)]
    assert drawn.tolist() == expected


def test_uniforms_do_not_depend_on_the_block():
    streams = Streams(1)
    whole = streams.uniforms("a", 0, 5000)
    pieces = [streams.uniforms("a", first, 7) for first in range(0, 4998, 7)]
    assert np.array_equal(np.concatenate(pieces), whole[:4998])
    assert streams.uniforms("a", 17, 0).shape == (0,)


def test_every_part_of_the_place_matters():
    places = itertools.product((1, 2), (0, 1), ("a", "b"), (0, 1), (0, 1))
    blocks = [
        Streams(seed, replication).uniforms(name, 0, 2000, draw, k) for seed, replication, name, draw, k in places
    ]
    assert len({value for block in blocks for value in block.tolist()}) == 32 * 2000
    correlations = np.corrcoef(blocks)[np.triu_indices(32, 1)]
    assert np.abs(correlations).max() < 5.0 / np.sqrt(2000)


def test_numbers_in_the_name_do_not_mix_with_seed_and_replication():
    assert Streams(1, 2).uniforms("3 a", 0, 1) != Streams(1, 23).uniforms("a", 0, 1)
    assert Streams(12, 3).uniforms("a", 0, 1) != Streams(1, 23).uniforms("a", 0, 1)


def test_uniforms_are_in_the_open_interval():
    """Even for the extreme 64-bit words: (2^52 - 1 + 0.5) * 2^-52 is the largest float below 1."""
    largest = ((MASK >> 12) + 0.5) * 2.0**-52
    assert largest == np.nextafter(1.0, 0.0)
    uniforms = Streams(5).uniforms("a", 0, 100_000)
    assert uniforms.min() > 0.0
    assert uniforms.max() < 1.0
    assert abs(uniforms.mean() - 0.5) < 4.5 / np.sqrt(12 * 100_000)


@pytest.mark.parametrize("distribution", [StandardUniform(), Exponential(2.0), Gamma(1.0, 2.0), Constant(3.0)])
@pytest.mark.parametrize("draw", [0, 2])
def test_at_equals_block(distribution, draw):
    streams = Streams(7)
    stream = Stream(streams, "cpu.service", distribution)
    block = stream.block(0, 9000, draw).tolist()
    order = list(range(9000))
    random.Random(1).shuffle(order)
    assert [stream.at(index, draw) for index in order] == [block[index] for index in order]
    assert stream.block(1500, 11, draw).tolist() == block[1500:1511]


def test_at_of_far_apart_indices_survives_eviction():
    stream = Stream(Streams(7), "a", StandardUniform())
    indices = [number * 1500 for number in range(100)]
    first = [(stream.at(index), stream.at(index, 1)) for index in indices]
    again = [(stream.at(index), stream.at(index, 1)) for index in reversed(indices)]
    assert again[::-1] == first
    assert first[7] == (stream.block(10_500, 1)[0], stream.block(10_500, 1, 1)[0])


def test_streams_do_not_disturb_each_other():
    streams = Streams(3)
    alone = Stream(Streams(3), "a", Exponential(1.0)).block(0, 100)
    for first in range(0, 100, 10):
        streams.uniforms("b", first, 3)
        assert np.array_equal(Stream(streams, "a", Exponential(1.0)).block(first, 10), alone[first : first + 10])


def test_pickled_streams_draw_the_same():
    streams = Streams(3, 4)
    stream = Stream(streams, "a", Gamma(1.0, 0.5))
    copy = pickle.loads(pickle.dumps(stream))
    assert copy.at(5) == stream.at(5)
    assert (copy.streams.seed, copy.streams.replication) == (3, 4)


@pytest.mark.parametrize(("seed", "replication"), [(-1, 0), (1.5, 0), (True, 0), (1, -1), ("1", 0)])
def test_seed_and_replication_are_whole_numbers(seed, replication):
    with pytest.raises(ValueError, match="expected a whole number >= 0"):
        Streams(seed, replication)


@pytest.mark.parametrize("place", [(-1, 1), (0, -1), (0, 1, -1), (0, 1, 0, -1)])
def test_places_are_not_negative(place):
    with pytest.raises(ValueError, match="negative place"):
        Streams(1).uniforms("a", *place)


def test_at_refuses_a_negative_index():
    with pytest.raises(ValueError, match="negative place"):
        Stream(Streams(1), "a", StandardUniform()).at(-1)


def test_bases_of_messages_are_those_of_the_published_generator():
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [message_base(1234567, message) for message in range(1, 5)] == [word >> 2 for word in published]


def test_a_request_s_first_message_draws_in_its_place():
    assert message_base(0, 0) == 0


def test_no_two_messages_of_a_request_have_one_base_however_deep():
    bases, generation = {0}, [0]
    for copies in (10, 10, 10, 10, *[1] * 50):
        generation = [message_base(base, message) for base in generation for message in range(1, 1 + copies)]
        bases.update(generation)
    assert len(bases) == 1 + 10 + 100 + 1000 + 51 * 10_000
    assert max(bases) < 2**62


def test_bases_of_messages_leave_room_for_draws():
    bases = sorted(message_base(base, message) for base in range(100) for message in range(1000))
    # Of 10^5 random bases, two are nearer than 2^20 with probability 10^10 * 2^20 / 2^62 = 0.002.
    assert min(after - before for before, after in itertools.pairwise(bases)) > 1 << 20
    sixteenths = np.bincount(np.array(bases) >> 58, minlength=16)
    assert sixteenths.size == 16
    assert np.all(np.abs(sixteenths - 6250) < 5 * np.sqrt(6250))
