"""Quantities as people write them, from one closed table of units.

A quantity is a number with its unit, such as ``'10 Gbit/s'``, ``'250 µs'``, ``'3k req/s'`` or ``'$2.50/h'``;
within the program it is a float in the base unit of its dimension. The table is closed and case-sensitive,
because a capacity model that read ``Gb`` as ``GB`` would be wrong by a factor of eight without a word.
"""

import difflib
import math
import numbers
import re

DIMENSIONS = {
    "duration": "s",
    "size": "B",
    "bandwidth": "B/s",
    "rate": "/s",
    "price": "USD/h",
    "fraction": "",
    "count": "",
    "cores": "",
}
EXAMPLES = {
    "duration": "5 ms",
    "size": "8 GiB",
    "bandwidth": "10 Gbit/s",
    "rate": "200/s",
    "price": "$2.50/h",
    "fraction": "70%",
    "count": "10k",
    "cores": "4 cores",
}
UNITLESS = frozenset(dimension for dimension, base in DIMENSIONS.items() if not base)

HOURS_A_MONTH = 730.0
DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
PERIODS = {"s": 1.0, "min": 60.0, "h": 3600.0}
THINGS = (
    *("", "req", "requests", "ops", "msg", "messages", "events", "jobs", "queries", "transactions", "tx"),
    *("tokens", "sessions", "users", "calls"),
)
RATE_WORDS = {"IOPS": 1.0, "tps": 1.0, "rps": 1.0, "qps": 1.0, "TPM": 60.0, "RPM": 60.0}

Factor = tuple[float, float]
"""Multiplier and divisor: 70 / 100 is the float nearest to 0.7, and 70 * 0.01 is not."""


class UnitError(ValueError):
    """A text or number that is not a quantity of the wanted dimension; the message says what was expected."""


def _rates() -> dict[str, Factor]:
    multipliers = {name: DECIMAL[name] for name in ("", "k", "M", "G")}
    table = {
        f"{multiplier}{thing}/{period}": (factor, seconds)
        for multiplier, factor in multipliers.items()
        for thing in THINGS
        for period, seconds in PERIODS.items()
    }
    for multiplier, factor in multipliers.items():
        table |= {multiplier + word: (factor, seconds) for word, seconds in RATE_WORDS.items()}
    return table


UNITS: dict[str, dict[str, Factor]] = {
    "duration": {
        **{"ns": (1.0, 1e9), "us": (1.0, 1e6), "µs": (1.0, 1e6), "ms": (1.0, 1e3), "s": (1.0, 1.0)},
        **{"min": (60.0, 1.0), "h": (3600.0, 1.0), "d": (86400.0, 1.0)},
    },
    "size": {f"{prefix}B": (factor, 1.0) for prefix, factor in (DECIMAL | BINARY).items()},
    "bandwidth": {
        **{f"{prefix}B/s": (factor, 1.0) for prefix, factor in (DECIMAL | BINARY).items()},
        **{f"{prefix}{bit}": (factor, 8.0) for prefix, factor in DECIMAL.items() for bit in ("bit/s", "bps", "b/s")},
    },
    "rate": _rates(),
    "price": {
        **{"USD/h": (1.0, 1.0), "USD/d": (1.0, 24.0)},
        **{"USD/month": (1.0, HOURS_A_MONTH), "USD/year": (1.0, 12 * HOURS_A_MONTH)},
    },
    "fraction": {"": (1.0, 1.0), "%": (1.0, 100.0)},
    "count": {name: (DECIMAL[name], 1.0) for name in ("", "k", "M", "G")},
    "cores": dict.fromkeys(("", "core", "cores", "vCPU", "vCPUs"), (1.0, 1.0)),
}
BITS = re.compile(r"([kMGTP]?)(b|bit|bits)")
NUMBER = re.compile(r"([+-]?)\s*(\$?)\s*([+-]?)((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)")
SEPARATED = re.compile(r"[\d.]*\d[,_'  ]\d")


def parse(value: object, dimension: str) -> float:
    """The value in the base unit of the dimension: s, bytes, bytes/s, 1/s, USD/h, or a plain number.

    Takes a number or a text. Only fractions, counts and cores, and zero, may go without a unit. Ranges are
    not checked.
    Raises UnitError for anything else, KeyError for a dimension that does not exist.
    """
    units = UNITS[dimension]
    if isinstance(value, str):
        number, unit = _split(value.strip(), dimension)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        number, unit = _float(value, dimension), ""
    else:
        raise UnitError(f"got {value!r}, expected {_expectation(dimension)}")
    if unit in units:
        multiplier, divisor = units[unit]
        return _finite(number * multiplier / divisor, value, dimension)
    if unit == "" and number == 0.0:
        return 0.0
    raise UnitError(_refusal(value, unit, dimension))


def _split(text: str, dimension: str) -> tuple[float, str]:
    """Number and unit of a text; '$' before the number counts as 'USD' before the unit."""
    match = NUMBER.match(text)
    if SEPARATED.match(text.lstrip("+-$ ")):
        raise UnitError(f"got {text!r}, expected a number without separators, e.g. '1000' or '1k'")
    if match is None:
        raise UnitError(f"got {text!r}, expected {_expectation(dimension)}")
    sign, dollar, inner_sign, digits = match.groups()
    if sign and inner_sign:
        raise UnitError(f"got {text!r}, expected {_expectation(dimension)}")
    unit = re.sub(r"\s", "", text[match.end() :]).replace("μ", "µ")  # Greek mu, micro sign
    unit = unit.replace("$", "USD", 1)
    number = _finite(float(sign + inner_sign + digits), text, dimension)
    return number, "USD" + unit if dollar else unit


def _float(value: numbers.Real, dimension: str) -> float:
    try:
        return _finite(float(value), value, dimension)
    except OverflowError:
        raise UnitError(f"got a number too large, expected {_expectation(dimension)}") from None


def _finite(number: float, value: object, dimension: str) -> float:
    if not math.isfinite(number):
        raise UnitError(f"got {value!r}, expected a finite {dimension}, e.g. {EXAMPLES[dimension]!r}")
    return number


def _expectation(dimension: str) -> str:
    if dimension in UNITLESS:
        name = "number of cores" if dimension == "cores" else dimension
        return f"a {name}, e.g. {EXAMPLES[dimension]!r}"
    return f"a {dimension} with its unit, e.g. {EXAMPLES[dimension]!r}"


def _refusal(value: object, unit: str, dimension: str) -> str:
    """Why the unit is refused, and what to write instead."""
    if unit == "":
        return f"got {value!r}, expected {_expectation(dimension)}"
    if dimension == "size" and (bits := BITS.fullmatch(unit)):
        prefix = bits[1]
        name = {"": "", "k": "kilo", "M": "mega", "G": "giga", "T": "tera", "P": "peta"}[prefix]
        instead = f"{prefix}B or {prefix.upper()}iB" if prefix else "B"
        return f"{unit!r} is {name}bits; memory and sizes are in bytes: write {instead}"
    for other, units in UNITS.items():
        if unit in units and other != dimension:
            return f"{str(value)!r} is a {other}, expected {_expectation(dimension)}"
    near = _near(unit, dimension)
    hint = f"did you mean {near}?" if near else f"expected {_expectation(dimension)}"
    return f"got {value!r}: {unit!r} is no unit of a {dimension}; {hint}"


def _near(unit: str, dimension: str) -> str:
    """The units of the dimension that look like the unit, joined by 'or'; empty if there are none."""
    units = UNITS[dimension]
    if unit in ("KB", "KB/s"):
        return f"'k{unit[1:]}' or 'Ki{unit[1:]}'"
    if unit.endswith("Bps") and unit[:-2] + "/s" in units:
        return repr(unit[:-2] + "/s")
    same_letters = [name for name in units if name and name.lower() == unit.lower()]
    close = same_letters or difflib.get_close_matches(unit, [name for name in units if name], n=2)
    return " or ".join(map(repr, close))


def show(value: float, dimension: str) -> str:
    """Short text with three significant digits, that ``parse`` reads back; counts below 10,000 in full.

    A size is shown in binary units if it is a whole number of KiB and not a round decimal one. NaN is shown
    as '–'.
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return ("-" if value < 0 else "") + SHOW[dimension](abs(value))


def _digits(value: float) -> str:
    """Three significant digits, without an exponent from 0.0001 to 10^15."""
    return f"{value:.0f}" if 999.5 <= value < 1e15 else f"{value:.3g}"


def _scaled(value: float, steps: dict[str, float]) -> str:
    """The value in the largest unit of which, once rounded or before, it holds one; else in the smallest."""
    rounded = max(value, float(f"{value:.3g}"))
    names = list(steps)
    unit = next((name for name in reversed(names) if rounded >= steps[name]), names[0])
    return f"{_digits(value / steps[unit])}{unit}"


def _show_duration(value: float) -> str:
    steps = {" ns": 1e-9, " µs": 1e-6, " ms": 1e-3, " s": 1.0, " min": 60.0, " h": 3600.0, " d": 86400.0}
    return _scaled(value, steps) if value else "0 s"


def _show_size(value: float) -> str:
    decimal = _scaled(value, {f" {prefix}B": factor for prefix, factor in DECIMAL.items()})
    if value and value % 1024.0 == 0.0 and parse(decimal, "size") != value:
        return _scaled(value, {f" {prefix}B": factor for prefix, factor in BINARY.items()})
    return decimal


def _show_bandwidth(value: float) -> str:
    return _scaled(value * 8.0, {f" {prefix}bit/s": factor for prefix, factor in DECIMAL.items()})


def _show_rate(value: float) -> str:
    return _scaled(value, {f"{prefix}/s": DECIMAL[prefix] for prefix in ("", "k", "M", "G")})


def _show_price(value: float) -> str:
    short = f"{value:.2f}"
    return f"${short if value >= 1.0 or float(short) == float(f'{value:.3g}') else _digits(value)}/h"


def _show_fraction(value: float) -> str:
    return f"{_digits(value * 100.0)} %"


def _show_count(value: float) -> str:
    if value < 10_000.0 and value == math.floor(value):
        return f"{value:.0f}"
    return _scaled(value, {prefix: DECIMAL[prefix] for prefix in ("", "k", "M", "G")})


def _show_cores(value: float) -> str:
    return f"{_digits(value)} {'core' if value == 1.0 else 'cores'}"


SHOW = {
    "duration": _show_duration,
    "size": _show_size,
    "bandwidth": _show_bandwidth,
    "rate": _show_rate,
    "price": _show_price,
    "fraction": _show_fraction,
    "count": _show_count,
    "cores": _show_cores,
}
