"""What kind of repository a description tells of where a word alone does not: good ones are awesome and have demos.

The patterns are of words in lower case with one space between them, and a full stop where a sentence ends. ``~`` stands
for up to three words that join no others. What a description opens with is what the repository is, after words such as
"a simple", and two of any kind ("React Native demo"), unless it opens with something to do ("Record demos").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from codelupe_filters.words import words

_FEW = "(?:(?!(?:and|has|including|includes|or|plus|with|without) )[^ .]+ )"
_GAP = f" {_FEW}{{0,3}}"
_ENDS = re.compile(r"[.!?;,](?=\s|$)|[|()]")
"""Of sentences and remarks: a full stop stands for them."""
_SEPARATORS = re.compile(r"[\W_]+")
_THINGS = (
    "apps?|applications?|code|codes|examples?|exercises|files|labs?|materials?|notebooks?|notes|pages?|programs?"
    "|projects?|repo|repos|repository|repositories|resources?|samples?|series|sites?|slides|solutions?|sources?|website"
)
_OPENERS = (
    "a|an|the|my|our|this|is|it|some|these|are|simple|small|tiny|basic|minimal|full|complete|sample|example|personal"
    "|quick|interactive|official|various|free|collection|list|set|series|repo|repository|of|for|containing"
)
_VERBS = (
    "add|automate|browse|build|capture|create|creates|deploy|design|download|draw|edit|embed|explore|generate|generates"
    "|make|makes|manage|manages|of|organize|play|playback|publish|record|records|run|sell|serve|share|show|take|track"
    "|view|watch|write"
)
_LINKS = (
    "about|and|based|by|built|can|covering|demonstrating|for|from|how|in|of|on|showcasing|showing|that|to|using|with"
)
_OF = (
    f"(?:{_THINGS}|answers|assignments|companion|collection|list|lists|set|guide) ~ (?:accompanying|for|from|in|of|to)"
)
_SCHOOLS = "beginners?|bootcamp|college|coursera|crash|edx|mooc|online|udacity|udemy|university|video"
_TOOLS = (
    "builders?|catalogs?|creators?|downloaders?|management|managers?|planners?|platforms?|players?|scheduling|systems?"
    "|tools?"
)


def _itself(word: str) -> str:
    """The description opens with the word, as what the repository is."""
    return f"^(?!(?:{_VERBS}) )(?:(?:{_OPENERS}) )*{_FEW}{{0,2}}(?:{word})(?: (?:{_THINGS}|{_LINKS}|[0-9]+|[.])|$)"


_AWESOME = (
    "(?:collections?|lists?|set) of ~ awesome",
    "awesome ~ (?:collections?|curated|links|lists?|repos|repositories|resources|things)",
    "curated ~ awesome",
)
_DEMO = (
    _itself("demos?"),
    "(?<!and )(?<!with )demos? (?:projects?|repo|repos|repository|repositories|purposes?)",
    "(?:this is|just|only) (?:a|an) ~ demo",
    f"{_OF} ~ demos?",
)
_COURSE = (
    _itself("(?<!of )course|courses"),
    "courses? (?:assignments?|exercises|homework|labs?|lectures?|materials?|notes|projects?|repository|syllabus)",
    f"{_OF} ~ (?<!of )course(?! (?:{_TOOLS}))",
    f"{_OF} ~ courses(?! (?:{_TOOLS}))",
    f"(?:{_SCHOOLS}) courses?(?! (?:{_TOOLS}))",
)
_TUTORIAL = (
    _itself("tutorials?"),
    f"{_OF} ~ tutorials?",
    "tutorials? (?:projects?|repo|repository|series)",
    "step by step tutorials?",
    "(?:collections?|series|set) of (?:[^ .]+ ){0,4}tutorials",
)
_WORKSHOP = (
    _itself("workshops?"),
    f"{_OF} ~ workshops?(?! (?:{_TOOLS}))",
    "workshops? (?:content|exercises?|labs?|materials?|repo|repository|slides)",
)
_EXERCISE = (
    _itself("exercises?"),
    f"{_OF} ~ exercises",
    "(?:coding|programming|practice) exercises?",
    "exercises? (?:answers|solutions?)",
)
_ASSIGNMENT = (
    _itself("assignments?"),
    "(?:class|coding|college|course|home|homework|interview|lab|my|programming|school|student|university) assignments?",
    f"{_OF} ~ assignments",
    "assignments? (?:answers|for|solutions?|submissions?)",
)
_CHEATSHEET = (_itself("cheatsheets?"), "(?:collections?|list|set|series) of ~ cheatsheets?", "cheatsheets? (?:for|of)")

_PHRASES = {
    "awesome": _AWESOME,
    **dict.fromkeys(("demo", "demos"), _DEMO),
    **dict.fromkeys(("course", "courses"), _COURSE),
    **dict.fromkeys(("tutorial", "tutorials"), _TUTORIAL),
    **dict.fromkeys(("workshop", "workshops"), _WORKSHOP),
    **dict.fromkeys(("exercise", "exercises"), _EXERCISE),
    **dict.fromkeys(("assignment", "assignments"), _ASSIGNMENT),
    **dict.fromkeys(("cheatsheet", "cheatsheets"), _CHEATSHEET),
}
"""By the words that alone say nothing of a repository when a description has them."""


def first_told(excluded: tuple[str, ...], description: str) -> str | None:
    """What the description says that makes the repository one of those; None if it is none."""
    if found := words(tuple(word for word in excluded if word.casefold() not in _PHRASES)).first_in(description):
        return found
    clauses = (_SEPARATORS.sub(" ", clause).strip() for clause in _ENDS.split(description.casefold()))
    text = " . ".join(clause for clause in clauses if clause)
    return next((match[0] for pattern in _patterns(excluded) if (match := pattern.search(text))), None)


@lru_cache(maxsize=8)
def _patterns(excluded: tuple[str, ...]) -> list[re.Pattern[str]]:
    return [re.compile(pattern) for pattern in dict.fromkeys(_regular(excluded))]


def _regular(excluded: Iterable[str]) -> Iterator[str]:
    for word in excluded:
        for phrase in _PHRASES.get(word.casefold(), ()):
            yield rf"(?<!\w)(?:{phrase.replace(' ~ ', _GAP)})(?!\w| (?:included|inside))"
