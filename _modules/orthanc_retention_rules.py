"""
Which studies are old enough to go: rules, held against what the index knows of the studies.

Each series is judged by the first rule that fits it, and a study goes only when the rules of all of
its series let it go. So a rule for some series may keep them longer than those behind it, and what
no rule is for stays. Where anything about a study is not certain, it stays as well.

Nothing here looks at a host, or at a clock.
"""

from __future__ import annotations

import collections
import datetime
import functools
import re

# Why a study stays that no rule lets go, or would let go: each in the words that people are shown.
NO_RULE = "no rule is for it"
PARTLY = "no rule is for some of its series"
YOUNG = "not old enough"
NO_DATE = "its StudyDate is missing, or is no date, or a SeriesDate is none"
UNLIKELY = "a date that clocks fall back to, or before there were X-rays"
FUTURE = "a date in the future"
NOT_RECEIVED = "when it was received is not known"
TOO_EARLY = "received before it was made, by a clock that was wrong"
PROTECTED = "of a protected patient"
NOT_PROVEN = "not, or not as it is now, in the backup that was proven"
# No image is older, and none was received before the first release of Orthanc.
FIRST_IMAGE, FIRST_ORTHANC = datetime.date(1895, 11, 8), datetime.date(2012, 7, 19)
# What clocks show that have lost their time.
RESET = {datetime.date(year, 1, 1) for year in (1900, 1970, 1980, 2000)}


def decide(studies, rules, today, proven=None):
    """
    Part of the formula. Say which studies go, and why others stay.

    studies
        A mapping from the Orthanc identifier to a mapping, as ``orthanc_index`` returns them.

    rules
        A list of mappings: ``older_than``, such as ``10 years`` or ``400 days``, or ``never``;
        ``by``, which is ``study_date`` or ``received``; and which series it is for, by lists:
        ``modality`` and ``aet``, that of who sent them.

    today
        The date, a ``datetime.date``.

    proven
        The identifiers of those that are in the backup that was proven; None where that is no
        matter.

    Returns a tuple: the studies that are due, the oldest first, each with its ``id``, the ``date``
    that counted and the texts of its ``rules``; and how many stay for which reason, a mapping.
    """
    due, held = [], collections.Counter()
    for identifier, study in studies.items():
        used, why = _judged(study, rules, today)
        if not why and study["protected"]:
            why = PROTECTED
        elif not why and not study["received"]:
            # Whether images came since could not be told.
            why = NOT_RECEIVED
        elif not why and proven is not None and identifier not in proven:
            why = NOT_PROVEN
        if why:
            held[why] += 1
            continue
        date = min(_date_of(study, rule["by"], today)[0] for rule in used)
        texts = [text(rule) for rule in used]
        due.append({"id": identifier, "date": date.isoformat(), "rules": texts, **study})
    due.sort(key=lambda study: (study["date"], study["id"]))
    return due, dict(held)


def _judged(study: dict, rules: list, today: datetime.date) -> tuple:
    """Return the rules that a study is judged by, and why they do not let it go."""
    chosen = [_rule_of(part, rules) for part in study["parts"]]
    if not any(chosen):
        return [], NO_RULE
    if not all(chosen):
        return [], PARTLY
    used = [rule for rule in rules if rule in chosen]
    reasons = [_reason(study, rule, today) for rule in used]
    if YOUNG in reasons:
        return [], YOUNG
    return used, next(filter(None, reasons), "")


def _rule_of(part, rules: list):
    """Return the first rule that fits images by their modality and the title of who sent them."""
    modality, title = part
    for rule in rules:
        modalities = rule.get("modality", [modality.upper()])
        # Devices write it in small letters, too.
        if modality.upper() in modalities and title in rule.get("aet", [title]):
            return rule
    return None


def _reason(study: dict, rule: dict, today: datetime.date) -> str:
    """Return why a rule does not let a study go that it is for; an empty text where it does."""
    if rule["older_than"] == "never":
        return YOUNG
    date, why = _date_of(study, rule["by"], today)
    return why or ("" if _anniversary(date, rule["older_than"]) < today else YOUNG)


def _date_of(study: dict, by: str, today: datetime.date) -> tuple:
    """Return the date that counts, and why it is of no use."""
    made, why = _made(study, today)
    if by == "study_date":
        return made, why
    received = _date(study["received"][:8])
    if received is None or received < FIRST_ORTHANC:
        return None, NOT_RECEIVED
    if (received - today).days > 1:
        return None, FUTURE
    # The date of the device is local, that of Orthanc is in UTC.
    if made and (made - received).days > 1:
        return None, TOO_EARLY
    return received, ""


def _made(study: dict, today: datetime.date) -> tuple:
    """Return the newest of the dates of a study and its series, and why it is of no use."""
    dates = [_date(written) for written in (study["StudyDate"], *study["dates"])]
    if None in dates:
        return None, NO_DATE
    if (max(dates) - today).days > 1:
        return None, FUTURE
    if dates[0] in RESET or dates[0] < FIRST_IMAGE:
        return None, UNLIKELY
    return max(dates), ""


@functools.lru_cache(maxsize=None)
def _date(written: str):
    """Return a date of DICOM; None for what is none."""
    if not re.fullmatch("[0-9]{8}", written):
        return None
    try:
        return datetime.datetime.strptime(written, "%Y%m%d").date()
    except ValueError:
        return None


@functools.lru_cache(maxsize=None)
def _anniversary(date: datetime.date, age: str) -> datetime.date:
    """Return the day on which a date is so old."""
    number, unit = age.split()
    try:
        if unit.startswith("day"):
            return date + datetime.timedelta(days=int(number))
        try:
            return date.replace(year=date.year + int(number))
        except ValueError:
            # There is no 29 February in that year.
            return date.replace(year=date.year + int(number), month=3, day=1)
    except (ValueError, OverflowError):
        return datetime.date.max


def text(rule):
    """
    Part of the formula. Return a rule in words.

    rule
        See ``decide``.
    """
    found = f"older than {rule['older_than']} by {rule['by']}"
    for what in ("modality", "aet"):
        if what in rule:
            found += f", {what} {', '.join(rule[what])}"
    return found


def objections(studies, due, now, max_percent):
    """
    Part of the formula. Return why nothing is to go at all, a list of sentences: what looks like a
    wrong clock, or a wrong rule.

    studies
        See ``decide``.

    due
        The studies that ``decide`` returned.

    now
        The time, as Orthanc writes it.

    max_percent
        Of how many per cent of the studies at most is believed that they are due.
    """
    found = []
    newest = max((study["received"] for study in studies.values()), default="")
    if newest > now:
        found.append(
            f"the clock of this host says {now}, and images were received at {newest} (UTC); put it"
            " right first"
        )
    if len(due) * 100 > max_percent * len(studies):
        found.append(
            f"{len(due)} of {len(studies)} studies are due, more than"
            f" orthanc:retention:max_percent ({max_percent}); look at the list, at the rules and at"
            " the clock of this host, then set it higher until the old ones are gone"
        )
    return found
