"""What is made of the figures of a server."""

import pathlib
import re

import orthanc_health
import orthanc_verdict as verdict
import pytest

# A server that is well, and all that may be asked of one.
FINE = {
    "process": {"runs": 1, "moves": 1},
    "database": {"answers": 1, "place": "localhost:5432", "why": ""},
    "rest": {"answers": 1, "url": "http://127.0.0.1:8042", "seconds": 0.01},
    "index": {"read": 1, "last_change": 7},
    "backend": {"found": "SQLite", "wanted": "SQLite", "as_wanted": 1},
    "proxy": {"answers": 1, "url": "https://127.0.0.1:8042"},
    "storage": {"free": "9 GB", "size": "10 GB", "kept": "1 GB", "reserves": 9},
    "index_disk": {"free": "9 GB", "size": "10 GB", "kept": "1 GB", "reserves": 9},
    "log_disk": {"free": "9 GB", "size": "10 GB", "kept": "1 GB", "reserves": 9},
    "dicom": {"port": "4242", "listens": 1},
    "certificates": {"https": "/a.pem", "https_days": 80, "dicom": "/b.pem", "dicom_days": 80},
    "jobs": {"failed": 0, "kinds": "", "going": 1, "stuck_hours": 0.9},
    "refused": {"associations": 0, "last": ""},
    "backup": {"age_hours": 20, "drill_age_days": 6, "warning": []},
    "retention": {"warning": []},
    "routes": {"warning": []},
    "images": {"damaged": 0, "verified_days": 3},
    "restart": {"waits": 0, "why": "", "strayed": 0},
    "package": {"version": "1.12.7", "pinned": 1},
}


def judge(left_out=(), errors=None, **changed):
    """Return what is made of a server that is well but for what has changed."""
    answers = {name: {"found": {**FINE[name], **changed.get(name, {})}} for name in FINE}
    answers.update({name: {"error": why} for name, why in (errors or {}).items()})
    return verdict.judge({name: answers[name] for name in answers if name not in left_out})


def test_each_check_is_asked_and_each_question_is_judged():
    assert list(orthanc_health.ASKED) == list(verdict.CHECKS) == list(FINE)
    for name, figure in verdict.LIMITS:
        assert figure in FINE[name]
    # What a check needs is judged before it.
    order = list(verdict.CHECKS)
    for name, check in verdict.CHECKS.items():
        assert all(order.index(needed) < order.index(name) for needed in check.needs)


def test_a_server_that_is_well_is_ok():
    found = judge()
    assert found["verdict"] == "ok"
    assert found["reasons"] == []
    assert set(found["checks"].values()) == {"ok"}
    assert found["figures"]["package"] == {"version": "1.12.7", "pinned": 1}
    assert verdict.line(found).startswith("ORTHANC OK - all is well | process_runs=1;;1: ")


@pytest.mark.parametrize(
    ("changed", "level", "words"),
    [
        ({"process": {"runs": 0}}, "critical", "Orthanc does not run"),
        ({"process": {"moves": 0}}, "critical", "stands still"),
        ({"process": {"runs": 2}}, "ok", ""),
        ({"rest": {"answers": 0}}, "critical", "does not answer at http://127.0.0.1:8042"),
        ({"index": {"read": 0, "error": "HTTP 500"}}, "critical", "read its index: HTTP 500"),
        (
            {"backend": {"as_wanted": 0, "wanted": "PostgreSQL"}},
            *("critical", "its index in SQLite, and shall in PostgreSQL"),
        ),
        ({"proxy": {"answers": 0}}, "critical", "nginx does not answer"),
        ({"storage": {"reserves": 1.51}}, "ok", ""),
        ({"storage": {"reserves": 1.5}}, "ok", ""),
        ({"storage": {"reserves": 1.49}}, "warning", "disk of the images has 9 GB free of 10 GB"),
        ({"storage": {"reserves": 1}}, "warning", "1 GB stay in reserve"),
        ({"storage": {"reserves": 0.99}}, "critical", "make room"),
        ({"index_disk": {"reserves": 0}}, "critical", "disk of the index"),
        ({"log_disk": {"reserves": 0}}, "warning", "disk of the log"),
        ({"dicom": {"listens": 0}}, "critical", "DICOM port 4242"),
        ({"certificates": {"https_days": 14}}, "ok", ""),
        ({"certificates": {"https_days": 13.9}}, "warning", "HTTPS: the certificate /a.pem ends"),
        ({"certificates": {"https_days": 2.9}}, "critical", "in 3 days"),
        ({"certificates": {"https_days": -2}}, "critical", "in -2 days"),
        ({"certificates": {"dicom_days": 13.9}}, "warning", "DICOM: the certificate /b.pem ends"),
        ({"certificates": {"critical": ["x is damaged"]}}, "critical", "x is damaged"),
        ({"certificates": {"warning": ["other one"]}}, "warning", "other one"),
        ({"jobs": {"failed": 1, "kinds": "Archive"}}, "warning", "1 jobs have failed within a day"),
        ({"jobs": {"stuck_hours": 1}}, "warning", "no progress for 1.0 hours"),
        ({"refused": {"associations": 2, "last": "of CT"}}, "warning", "2 DICOM associations"),
        ({"backup": {"drill_age_days": 101}}, "warning", "101 days ago"),
        ({"backup": {"warning": ["never restored"]}}, "warning", "never restored"),
        ({"retention": {"warning": ["no backup is proven"]}}, "warning", "no backup is proven"),
        ({"images": {"damaged": 1}}, "critical", "1 files of images"),
        ({"restart": {"waits": 1, "why": "a has changed"}}, "warning", "a has changed"),
        ({"restart": {"strayed": 1}}, "critical", "other images or another index"),
        ({"package": {"pinned": 0}}, "ok", ""),
    ],
)
def test_each_figure_has_its_limits(changed, level, words):
    found = judge(**changed)
    assert found["verdict"] == level
    assert len(found["reasons"]) == (level != "ok")
    assert all(line.startswith(f"{level}: ") and words in line for line in found["reasons"])
    assert verdict.line(found).startswith(f"ORTHANC {level.upper()} - ")
    ((name, _),) = changed.items()
    assert found["checks"][name] == level
    assert verdict.code(level) == ["ok", "warning", "critical"].index(level)


def test_the_worst_comes_first_and_is_the_verdict():
    found = judge(log_disk={"reserves": 0}, dicom={"listens": 0}, jobs={"failed": 1})
    assert found["verdict"] == "critical"
    levels = [line.partition(":")[0] for line in found["reasons"]]
    assert levels == ["critical", "warning", "warning"]
    assert "log" in found["reasons"][1]


@pytest.mark.parametrize("name", verdict.CHECKS)
def test_what_does_not_come_in_time_is_a_reason(name):
    found = judge(left_out=[name])
    level = verdict.VERDICTS[verdict.CHECKS[name].silent]
    assert found["verdict"] == found["checks"][name] == level
    assert f"{level}: {verdict.CHECKS[name].what}: there is no answer in time" in found["reasons"]
    assert name not in found["figures"]


def test_a_question_that_failed_is_a_reason_with_its_error():
    found = judge(errors={"jobs": "HTTP 500"})
    assert found["reasons"] == ["warning: the jobs of Orthanc: HTTP 500"]


def test_what_does_not_apply_is_left_out():
    answers = {name: {"found": figures} for name, figures in FINE.items()}
    found = verdict.judge({**answers, "proxy": {"found": None}})
    assert found["verdict"] == "ok"
    assert "proxy" not in found["checks"]
    assert "proxy" not in found["figures"]


@pytest.mark.parametrize(
    "changed",
    [
        {"process": {"runs": 0}, "rest": {"answers": 0}, "dicom": {"listens": 0}},
        {"database": {"answers": 0}, "rest": {"answers": 0}, "index": {"read": 0, "error": "?"}},
        {"rest": {"answers": 0}, "index": {"read": 0, "error": "?"}, "proxy": {"answers": 0}},
    ],
)
def test_what_follows_from_another_reason_is_not_said(changed):
    assert len(judge(**changed)["reasons"]) == 1


def test_what_needs_what_did_not_come_is_not_said():
    found = judge(process={"moves": 0}, left_out=["rest", "index", "jobs", "proxy"])
    assert len(found["reasons"]) == 1
    assert not {"rest", "index", "jobs", "proxy"} & set(found["checks"])


def test_the_line_is_one_line_with_figures_behind_one_bar():
    found = judge(refused={"associations": 1, "last": "of A|B\nC"})
    line = verdict.line(found)
    assert "\n" not in line
    text, _, figures = line.partition(" | ")
    assert "of A/B C" in text
    assert "|" not in text + figures
    shown = dict(pair.split("=") for pair in figures.split())
    assert shown["refused_associations"] == "1;@1:"
    assert shown["storage_reserves"] == "9;1.5:;1:"
    assert shown["backup_age_hours"] == "20"
    assert shown["backup_drill_age_days"] == "6;@100:"
    assert shown["index_last_change"] == "7"
    assert not any("url" in name or "version" in name for name in shown)


@pytest.mark.parametrize("value", [1, 0, 0.25, 11856104448, 1.5e13, 1e-9, -2.5])
def test_a_figure_is_of_digits_alone(value):
    """As the guidelines of Nagios's plugins have it."""
    line = verdict.line(judge(storage={"free_bytes": value}))
    (shown,) = re.findall(r"storage_free_bytes=(\S+)", line)
    assert re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", shown)
    assert float(shown) == pytest.approx(value, abs=1e-6)


def test_metrics_are_the_figures_with_what_they_are():
    lines = verdict.metrics(judge(refused={"total": 4}, jobs={"failed": 2}), 1000.9).splitlines()
    shown = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert shown["orthanc_health"] == "1"
    assert shown["orthanc_health_timestamp_seconds"] == "1000"
    assert shown["orthanc_health_storage_reserves"] == "9"
    assert shown["orthanc_health_jobs_failed"] == "2"
    assert shown["orthanc_health_jobs_stuck_seconds"] == "3240.0"
    assert shown["orthanc_health_certificates_https_seconds"] == "6912000"
    assert shown['orthanc_health_check{check="jobs"}'] == "1"
    assert shown['orthanc_health_check{check="rest"}'] == "0"
    assert "# TYPE orthanc_health_refused_total counter" in lines
    # Each has its lines once, and there is nothing but numbers.
    names = {line.partition("{")[0].split()[0] for line in lines if not line.startswith("#")}
    for word in ("HELP", "TYPE"):
        told = [line.split()[2] for line in lines if line.startswith(f"# {word} ")]
        assert sorted(told) == sorted(names)
    assert all(float(value) is not None for value in shown.values())


def test_the_alerts_and_the_page_name_figures_that_there_are():
    figures = {f"{verdict.METRIC}_{name}_{figure}" for name in FINE for figure in FINE[name]}
    figures |= {name.replace(unit, "seconds") for name in figures for unit in verdict.SECONDS}
    figures |= {verdict.METRIC, f"{verdict.METRIC}_timestamp_seconds", f"{verdict.METRIC}_check"}
    figures |= {f"{verdict.METRIC}_refused_total", f"{verdict.METRIC}_storage_free_bytes"}
    for path in ("orthanc/monitoring/alerts.yml", "docs/monitoring.md"):
        text = (pathlib.Path(__file__).resolve().parents[2] / path).read_text()
        named = set(re.findall(rf"\b{verdict.METRIC}\w*(?!\.)\b", text))
        assert named - figures <= {"orthanc_health"}, path
