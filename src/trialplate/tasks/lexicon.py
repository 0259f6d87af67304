"""The words from which corpus and probes are made: tuples of common English words, and one table of countries.

Names, places and objects are frequent words, so that most are single tokens in the tokenizers of other models too.
"""

from __future__ import annotations

from typing import NamedTuple


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split("/") for pair in text.split())


NAMES = _words(
    """Aaron Adam Alan Alex Alice Amy Andrew Andy Anna Anne Anthony Arthur Ben Bill Blake Bob Brian Bruce Carl Carol Charles
    Charlie Chris Clara Claire Dan Daniel David Diana Donald Edward Ellen Emily Emma Eric Eva Frank Fred Gary George Grace Greg
    Harry Helen Henry Ian Jack Jacob James Jane Jason Jean Jeff Jim Joe John Jonathan Joseph Julia Kate Keith Kelly Ken Kevin
    Kim Larry Laura Lee Linda Lisa Louis Luke Marc Maria Mark Martin Mary Matt Matthew Max Michael Mike Neil Nick Oliver Oscar Paul
    Peter Philip Rachel Ralph Ray Richard Robert Roger Rose Ruth Ryan Sam Sarah Scott Simon Steve Susan Thomas Tim Tom Tony
    Victor Walter William"""
)

PLACES = _words(
    """airport bank beach castle cinema church farm garden harbor hospital hotel house library market museum office park
    restaurant river school shop station store theater village zoo"""
)

OBJECTS = _words(
    """bag ball basket bell book bottle bowl box cake camera candle card chair clock coat coin computer cup drink flag flower
    gift glass guitar hat jacket key knife lamp letter map medal mirror necklace newspaper paper pen phone picture plate
    ring rope scarf shirt snack spoon stamp stone table ticket toy watch"""
)

NOUNS: dict[str, str] = _pairs(
    """actor/actors artist/artists baby/babies baker/bakers bear/bears bird/birds boat/boats boy/boys brother/brothers
    car/cars cat/cats child/children cloud/clouds cow/cows dancer/dancers doctor/doctors dog/dogs door/doors driver/drivers duck/ducks
    farmer/farmers fox/foxes friend/friends girl/girls goat/goats guard/guards horse/horses judge/judges king/kings lawyer/lawyers
    lion/lions man/men monkey/monkeys mother/mothers nurse/nurses painter/painters pilot/pilots player/players poet/poets queen/queens
    rabbit/rabbits sailor/sailors singer/singers sister/sisters soldier/soldiers student/students teacher/teachers tiger/tigers
    tree/trees truck/trucks uncle/uncles waiter/waiters wolf/wolves woman/women worker/workers writer/writers"""
)
"""Singular to plural."""

VERBS: dict[str, str] = _pairs(
    """is/are was/were has/have sleeps/sleep runs/run works/work sings/sing laughs/laugh waits/wait"""
)
"""Third person singular to plural."""

ENDINGS: dict[str, tuple[str, ...]] = {
    "is": ("very old", "very young", "here now", "not happy"),
    "was": ("late again", "very tired", "at home", "not there"),
    "has": ("a new plan", "no time", "a long road", "two bags"),
    "sleeps": ("in the sun", "all day"),
    "runs": ("in the park", "very fast"),
    "works": ("every day", "very hard"),
    "sings": ("every morning", "very well"),
    "laughs": ("too much", "all day"),
    "waits": ("at the door", "in the rain"),
}
"""What may follow a verb (keyed by its singular), so that a sentence has an end that does not depend on number."""

ATTRACTOR_LINKS = ("near", "behind", "beside", "with")

DURATION_NOUNS = _words(
    """war siege strike trial voyage famine project reign debate drought festival journey conflict rebellion truce plague
    mission revolt peace tour"""
)

ADJECTIVES = _words("red blue green white black small large new heavy")

DETERMINERS: dict[str, str] = {"this": "these", "that": "those", "each": "many", "every": "several"}
"""Determiner of the singular to one of the plural."""

HELPERS = _words("value total count item data left right first second result")
"""Variable names of the code domain."""


class Country(NamedTuple):
    """One row of the table of facts."""

    name: str
    capital: str
    language: str
    continent: str


_COUNTRY_ROWS = """France Paris French Europe|Germany Berlin German Europe|Italy Rome Italian Europe|Spain Madrid Spanish Europe
    |Portugal Lisbon Portuguese Europe|Austria Vienna German Europe|Hungary Budapest Hungarian Europe|Poland Warsaw Polish Europe
    |Greece Athens Greek Europe|Turkey Ankara Turkish Asia|Russia Moscow Russian Europe|Ukraine Kyiv Ukrainian Europe
    |Sweden Stockholm Swedish Europe|Norway Oslo Norwegian Europe|Denmark Copenhagen Danish Europe|Finland Helsinki Finnish Europe
    |Ireland Dublin English Europe|England London English Europe|Scotland Edinburgh English Europe|Wales Cardiff English Europe
    |Belgium Brussels Dutch Europe|Romania Bucharest Romanian Europe|Bulgaria Sofia Bulgarian Europe|Serbia Belgrade Serbian Europe
    |Croatia Zagreb Croatian Europe|Albania Tirana Albanian Europe|Estonia Tallinn Estonian Europe|Latvia Riga Latvian Europe
    |Lithuania Vilnius Lithuanian Europe|Iceland Reykjavik Icelandic Europe|Belarus Minsk Belarusian Europe|Egypt Cairo Arabic Africa
    |Morocco Rabat Arabic Africa|Tunisia Tunis Arabic Africa|Algeria Algiers Arabic Africa|Libya Tripoli Arabic Africa
    |Sudan Khartoum Arabic Africa|Kenya Nairobi Swahili Africa|Ghana Accra English Africa|Nigeria Abuja English Africa
    |Senegal Dakar French Africa|Uganda Kampala English Africa|Zambia Lusaka English Africa|Angola Luanda Portuguese Africa
    |Japan Tokyo Japanese Asia|China Beijing Chinese Asia|Vietnam Hanoi Vietnamese Asia|Thailand Bangkok Thai Asia
    |Iran Tehran Persian Asia|Iraq Baghdad Arabic Asia|Syria Damascus Arabic Asia|Lebanon Beirut Arabic Asia
    |Jordan Amman Arabic Asia|Qatar Doha Arabic Asia|Oman Muscat Arabic Asia|Peru Lima Spanish America|Chile Santiago Spanish America
    |Cuba Havana Spanish America|Canada Ottawa English America|Ecuador Quito Spanish America|Australia Canberra English Australia"""

COUNTRIES: tuple[Country, ...] = tuple(Country(*row.split()) for row in _COUNTRY_ROWS.split("|"))
"""Sixty-one countries whose name and capital are single words."""

CAPITALS = tuple(country.capital for country in COUNTRIES)


def words() -> tuple[str, ...]:
    """Every word of the lexicon once, sorted: what the tokenizer of the embedded model must hold as single tokens."""
    pools = (NAMES, PLACES, OBJECTS, NOUNS, NOUNS.values(), VERBS, VERBS.values(), ATTRACTOR_LINKS, DURATION_NOUNS)
    more = (ADJECTIVES, DETERMINERS, DETERMINERS.values(), HELPERS, *COUNTRIES)
    return tuple(sorted({word for pool in (*pools, *more) for word in pool}))
