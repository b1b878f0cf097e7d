"""
What the figures of a server mean: whether all is well, and how it is said.

Data and pure functions; :py:mod:`orthanc_health` asks for the figures.

https://www.monitoring-plugins.org/doc/guidelines.html
"""

from __future__ import annotations

import typing

# By their exit codes.
VERDICTS = ("ok", "warning", "critical", "unknown")
OK, WARNING, CRITICAL, UNKNOWN = range(4)
# How the names of metrics begin. Orthanc's own begin with orthanc alone.
METRIC = "orthanc_health"
# Prometheus has seconds for all times.
SECONDS = {"hours": 3600, "days": 86400}


class Check(typing.NamedTuple):
    """What is asked, and how bad it is if the answer does not come."""

    what: str
    silent: int
    # Other checks, each of which says enough if it is critical.
    needs: tuple = ()


class Limit(typing.NamedTuple):
    """From where on a figure is a reason for a warning, and for more."""

    warning: float | None
    critical: float | None
    reason: str
    # Otherwise large figures are good ones.
    low_is_good: bool = True


CHECKS = {
    "process": Check("the process of Orthanc", CRITICAL),
    "database": Check("the PostgreSQL of the index", CRITICAL, ("process",)),
    "rest": Check("the REST API of Orthanc", CRITICAL, ("database", "process")),
    "index": Check("the index of Orthanc", CRITICAL, ("database", "rest")),
    "backend": Check("where Orthanc keeps its index", WARNING, ("process",)),
    "proxy": Check("nginx in front of Orthanc", CRITICAL, ("rest",)),
    "storage": Check("the disk of the images", CRITICAL),
    "index_disk": Check("the disk of the index", CRITICAL),
    "log_disk": Check("the disk of the log", WARNING),
    "dicom": Check("the DICOM port", CRITICAL, ("process",)),
    "certificates": Check("the certificates", WARNING),
    "jobs": Check("the jobs of Orthanc", WARNING, ("rest",)),
    "refused": Check("the log of Orthanc", WARNING),
    "backup": Check("what is noted of backups", WARNING),
    "retention": Check("what became of the last night's retention", WARNING),
    "routes": Check("what of the images has not been sent on", WARNING),
    "images": Check("what orthanc.verify has found", WARNING),
    "restart": Check("whether Orthanc runs with its configuration as it is", WARNING, ("process",)),
    "package": Check("the package of Orthanc", WARNING),
}
ROOM = (
    "the disk of the {} has {{free}} free of {{size}}, and {{kept}} stay in reserve; make room, or"
    " give Orthanc a larger disk"
)
ENDS = "{}: the certificate {{{}}} ends in {{value:.0f}} days; renew it"
# By the check and its figure. A reason may name the other figures of its check.
LIMITS = {
    ("process", "runs"): Limit(
        *(None, 1, "Orthanc does not run; start it with orthanc.restart, and see orthanc.errors"),
        low_is_good=False,
    ),
    ("process", "moves"): Limit(
        *(None, 1, "Orthanc stands still: a signal has stopped it (a backup does so for 8 s)"),
        low_is_good=False,
    ),
    ("database", "answers"): Limit(
        None, 1, "PostgreSQL, which has the index, does not answer at {place}: {why}", False
    ),
    ("rest", "answers"): Limit(None, 1, "Orthanc runs, but does not answer at {url}", False),
    ("index", "read"): Limit(None, 1, "Orthanc cannot read its index: {error}", False),
    ("backend", "as_wanted"): Limit(
        None, 1, "Orthanc keeps its index in {found}, and shall in {wanted}", False
    ),
    ("proxy", "answers"): Limit(None, 1, "nginx does not answer for Orthanc at {url}", False),
    # How many times the reserve is free.
    ("storage", "reserves"): Limit(1.5, 1, ROOM.format("images"), False),
    ("index_disk", "reserves"): Limit(1.5, 1, ROOM.format("index"), False),
    ("log_disk", "reserves"): Limit(1, None, ROOM.format("log"), False),
    ("dicom", "listens"): Limit(None, 1, "Orthanc does not listen on its DICOM port {port}", False),
    ("certificates", "https_days"): Limit(14, 3, ENDS.format("HTTPS", "https"), False),
    ("certificates", "dicom_days"): Limit(14, 3, ENDS.format("DICOM", "dicom"), False),
    ("jobs", "failed"): Limit(
        1, None, "{value:.0f} jobs have failed within a day ({kinds}); see orthanc.jobs"
    ),
    ("jobs", "stuck_hours"): Limit(
        1, None, "a job has made no progress for {value:.1f} hours; see orthanc.jobs"
    ),
    ("refused", "associations"): Limit(
        1, None, "{value:.0f} DICOM associations were refused since the last look: {last}"
    ),
    ("backup", "drill_age_days"): Limit(100, None, "the last drill was {value:.0f} days ago"),
    ("images", "damaged"): Limit(
        None,
        1,
        "{value:.0f} files of images are lost or damaged; see orthanc.repair, then call"
        " orthanc.verify again",
    ),
    ("restart", "waits"): Limit(1, None, "Orthanc does not run with its configuration: {why}"),
    ("restart", "strayed"): Limit(
        None, 1, "Orthanc has other images or another index open than are there; restart it"
    ),
}


def judge(answers):
    """
    Part of the formula. Return what answers mean.

    answers
        By the name of a check, what ``orthanc_inquiry.ask`` returned for it: of what was ``found``,
        a mapping of figures, with ``warning`` and ``critical``, lists of sentences; None where the
        check does not apply. One of CHECKS that is not there did not come in time.

    Returns a mapping: the ``verdict``; ``reasons``, a list of sentences, the worst first; the
    ``figures`` by the check; and the verdict on each of the ``checks``. One that needs another is
    left out where that is critical.
    """
    levels, checks, reasons, figures = {}, {}, [], {}
    for name, check in CHECKS.items():
        answer = answers.get(name, {"error": "there is no answer in time"})
        found = answer.get("found", {})
        if found is None:
            continue
        found = dict(found)
        said = [(level, text) for level in (CRITICAL, WARNING) for text in _told(found, level)]
        if "error" in answer:
            said.append((check.silent, f"{check.what}: {answer['error']}"))
        for (where, figure), limit in LIMITS.items():
            if where == name and figure in found:
                level = _level(limit, found[figure])
                if level:
                    said.append((level, _reason(limit, found, figure)))
        levels[name] = max((level for level, _ in said), default=OK)
        if any(levels.get(each) == CRITICAL for each in check.needs):
            continue  # what it says follows from that
        checks[name] = VERDICTS[levels[name]]
        reasons += said
        if found:
            figures[name] = found
    worst = max((level for level, _ in reasons), default=OK)
    # The first of those that are as bad comes first.
    reasons.sort(key=lambda reason: -reason[0])
    return {
        "verdict": VERDICTS[worst],
        "reasons": [f"{VERDICTS[level]}: {text}" for level, text in reasons],
        "figures": figures,
        "checks": checks,
    }


def _told(found: dict, level: int) -> list:
    """Take the sentences out of what was found."""
    return found.pop(VERDICTS[level], [])


def _level(limit: Limit, value: float) -> int:
    """Return how bad a figure is."""
    sign = 1 if limit.low_is_good else -1
    for level, edge in ((CRITICAL, limit.critical), (WARNING, limit.warning)):
        # A reserve that is reached to the byte is kept.
        if edge is not None and (value >= edge if sign > 0 else value < edge):
            return level
    return OK


def _reason(limit: Limit, found: dict, figure: str) -> str:
    return limit.reason.format(**{"value": found[figure], **found})


def code(verdict):
    """
    Part of the formula. Return the exit code of a verdict.

    verdict
        One of VERDICTS.
    """
    return VERDICTS.index(verdict)


def line(found):
    """
    Part of the formula. Return one line as Nagios and Icinga take it: the verdict, its reasons, and
    the figures, with those from where on they are a reason.

    found
        What ``judge`` returned.
    """
    text = "; ".join(reason.partition(": ")[2] for reason in found["reasons"]) or "all is well"
    # What follows a bar is figures.
    text = " ".join(text.replace("|", "/").split())
    shown = []
    for name, figures in found["figures"].items():
        for figure, value in figures.items():
            if isinstance(value, (int, float)):
                limit = LIMITS.get((name, figure), Limit(None, None, ""))
                edges = ";".join(_edge(limit, edge) for edge in (limit.warning, limit.critical))
                shown.append(f"{name}_{figure}={_plain(value)};{edges}".rstrip(";"))
    figures = f" | {' '.join(shown)}" if shown else ""
    return f"ORTHANC {found['verdict'].upper()} - {text}{figures}"


def metrics(found, now):
    """
    Part of the formula. Return what Prometheus is told, as a text.

    found
        What ``judge`` returned.

    now
        When that was, in seconds since 1970.
    """
    rows = {
        "": ("whether the server is well: 0 ok, 1 warning, 2 critical", code(found["verdict"])),
        "_timestamp_seconds": ("when this was written", int(now)),
    }
    for name, figures in found["figures"].items():
        for figure, value in figures.items():
            if isinstance(value, (int, float)):
                unit = figure.rpartition("_")[2]
                row = f"_{name}_{figure.replace(unit, 'seconds') if unit in SECONDS else figure}"
                rows[row] = (f"{CHECKS[name].what}: {figure}", value * SECONDS.get(unit, 1))
    lines = []
    for name, (said, value) in rows.items():
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += [
            f"# HELP {METRIC}{name} {said[0].upper()}{said[1:]}",
            f"# TYPE {METRIC}{name} {kind}",
            f"{METRIC}{name} {value}",
        ]
    lines += [
        f"# HELP {METRIC}_check The same of each check",
        f"# TYPE {METRIC}_check gauge",
        *(f'{METRIC}_check{{check="{n}"}} {code(level)}' for n, level in found["checks"].items()),
    ]
    return "\n".join(lines) + "\n"


def _edge(limit: Limit, edge) -> str:
    """Return a limit as a range: what is outside of it is bad."""
    if edge is None:
        return ""
    return f"@{_plain(edge)}:" if limit.low_is_good else f"{_plain(edge)}:"


def _plain(value: float) -> str:
    """Return a number in digits alone, which is all that a figure may have."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
