"""Tables of units: their spellings, what they measure, how they are carried into each other; and words that are no units."""

from __future__ import annotations

from fractions import Fraction

from overproof.grading.domain.symbols import words

UNITS: dict[str, str] = {}
for _line in (
    "m meter meters metre metres", "cm centimeter centimeters centimetre centimetres", "dm decimeter decimeters",
    "mm millimeter millimeters millimetre millimetres", "km kilometer kilometers kilometre kilometres",
    "in inch inches", "ft foot feet", "yd yard yards", "mi mile miles", "g gram grams", "kg kilogram kilograms", "mg milligram milligrams",
    "lb lbs pound pounds", "oz ounce ounces", "ton tons tonne tonnes", "s sec secs second seconds", "millisecond milliseconds",
    "min mins minute minutes", "h hr hrs hour hours", "day days", "week weeks", "month months", "year years yr yrs",
    "l L liter liters litre litres", "ml mL milliliter milliliters millilitre millilitres", "gallon gallons gal", "acre acres",
    "cent cents", "sterling", "yuan rmb", "dollar dollars usd USD bucks", "euro euros", "degree degrees deg", "radian radians rad",
    "unit units", "square sq squared", "cubic cu cubed", "percent percents percentage pct", "mph", "kph", "amp amps ampere amperes",
    "volt volts", "degF", "degC", "ohm ohms", "hz Hz hertz", "khz kHz kilohertz", "N newton newtons", "J joule joules", "kj kJ kilojoule kilojoules",
    "W watt watts", "kw kW kilowatt kilowatts", "pa Pa pascal pascals", "kpa kPa kilopascal kilopascals", "ev eV", "K kelvin kelvins",
    "mol mole moles", "calorie calories cal", "kcal kilocalorie kilocalories", "bit bits", "byte bytes",
):  # fmt: skip
    UNITS.update(dict.fromkeys(_line.split(), _line.split()[0]))
"""A unit's spellings and the one name that stands for them. What is counted (`students`, `ways`) is a noun, not a unit."""

BASES: dict[str, tuple[str, int, Fraction]] = {
    unit: (kind, power, Fraction(factor))
    for kind, power, table in (
        ("length", 1, {"mm": "1", "cm": "10", "dm": "100", "m": "1000", "km": "1000000"}),
        ("length", 1, {"in": "25.4", "ft": "304.8", "yd": "914.4", "mi": "1609344"}),
        ("length", 3, {"ml": "1000", "l": "1000000"}),
        ("time", 1, {"s": "1", "min": "60", "h": "3600", "day": "86400", "week": "604800"}),
        ("mass", 1, {"mg": "1", "g": "1000", "kg": "1000000"}),
        ("weight", 1, {"oz": "1", "lb": "16"}),
        ("money", 1, {"cent": "1", "dollar": "100"}),
    )
    for unit, factor in table.items()
}  # fmt: skip
"""Units that can be carried into each other: what they measure, to which power, and how many of the smallest they are, exactly."""

FILLERS = frozenset(
    words(
        "of the in a an total each long wide tall high deep away old later ago altogether different distinct possible all "
        "additional remaining such exactly"
    )
)
"""Words beside a unit or noun that say nothing of what is counted."""

NO_UNITS = frozenset(
    words(
        "is are was be for where if with when that than plus minus over mod base choose because since then so to from by not but "
        "and or either neither no nor does do only at any every some odd even prime as under above below nearly almost negative "
        "positive twice half double triple times except excluding besides"
    )
)
"""With one of these the words behind a number or letter are a sentence."""

OPERATIONS = frozenset(
    words(
        "squared cubed doubled tripled factorial inverse repeating recurring halves thirds fourths fifths sixths sevenths eighths "
        "ninths tenths hundredths thousandths upwards onwards binary octal hexadecimal hex ternary"
    )
)
"""Alone behind a number these make another one of it: `5 squared`, `5 thirds`, `101 binary`."""

SHORT_NOUNS = frozenset(
    words(
        "men man boy boys dog dogs cat cats car cars cow cows pen pens egg eggs toy toys cup cups bag bags hen hens pig pigs hat "
        "hats key keys bed beds jar jars job jobs kid kids tie ties am pm"
    )
)
"""Nouns too short to be told from a product of letters otherwise."""

PLURALS = {
    "people": "person",
    "children": "child",
    "men": "man",
    "women": "woman",
    "mice": "mouse",
    "feet": "foot",
    "dice": "die",
}
