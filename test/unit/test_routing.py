"""What the pillar may say of routes, and what the host is told of them."""

import pytest

MODALITY = {"AET": "CT", "Host": "192.0.2.1", "Port": 104}
TARGETS = {
    "modalities": {"ct": MODALITY, "both": MODALITY},
    "peers": {"site": {"Url": "http://192.0.2.2/"}, "both": {"Url": "http://192.0.2.2/"}},
    "dicomweb": {"enabled": True, "servers": {"web": {"Url": "http://192.0.2.3/"}}},
}


@pytest.mark.parametrize("name", ["ct", "site", "web", "mr", "other"])
def test_a_route_goes_to_what_the_pillar_names(load_settings, name):
    config = {"DicomModalities": {"mr": ["MR", "192.0.2.4", 104]}, "OrthancPeers": {"other": []}}
    pillar = {**TARGETS, "config": config, "routes": {"all": {"to": name}}}
    assert not [line for line in load_settings(pillar)[1] if "routes" in line]


@pytest.mark.parametrize(
    ("pillar", "path", "remedy"),
    [
        ({"routes": {"all": {"modality": ["CT"]}}}, "all:to: missing", "orthanc:peers"),
        ({"routes": {"all": {"to": "cct"}}}, "all:to: cct is in none", "both, ct, site, web"),
        ({"routes": {"all": {"to": "both"}}}, "all:to: both is the name of several", "another"),
        ({"routes": {"all": {"to": "ct", "modality": []}}}, "all:modality: is an empty", "take"),
        (
            {"routes": {"all": {"to": "ct", "tags": {"StationName": []}}}},
            *("all:tags:StationName: is an empty list", "take it out"),
        ),
        (
            {
                "routes": {"all": {"to": "web"}},
                "dicomweb": {**TARGETS["dicomweb"], "enabled": False},
            },
            *("all:to: web is a DICOMweb server", "orthanc:dicomweb:enabled"),
        ),
        (
            {"routes": {"all": {"to": "ct"}}, "users": {"a": {"password": "x", "role": "writer"}}},
            *("none of the users", "role admin"),
        ),
        ({"routes": {"all": {"to": "ct", "when": "soon"}}}, "all:when: must be", "at_once or"),
        ({"routes": {"all": {"to": "ct", "keep_trying": 7}}}, "keep_trying: must be", "days"),
        ({"routes": {"all": {"to": "ct", "tags": {"0008": ["x"]}}}}, "all:tags", "keyword"),
        ({"routes": {"all": {"to": "ct", "aet": ["x"]}}}, "all:aet: unknown key", "from"),
    ],
)
def test_what_does_not_go_together_is_named(load_settings, pillar, path, remedy):
    problems = load_settings({**TARGETS, **pillar})[1]
    (found,) = [line for line in problems if line.startswith("orthanc:routes")]
    assert path in found
    assert remedy in found


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 0)])
def test_the_end_of_a_job_has_to_be_told(load_settings, size, count):
    asked = {**TARGETS, "config": {"JobsHistorySize": size}, "routes": {"all": {"to": "ct"}}}
    found = [line for line in load_settings(asked)[1] if "config:JobsHistorySize" in line]
    assert len(found) == count
    assert load_settings({**asked, "routes": {}})[1] == []


def test_a_site_of_the_group_is_a_modality_that_the_host_comes_to_know(load_settings, pillar_files):
    accounts = {"south-*": {"username": "u", "password": "a word of its own"}}
    group = {"network": {"group": "hospital", "accounts": accounts}, "modalities_in_database": True}
    routes = {site: {"to": site} for site in ("north-1", "south-1")}
    settings, problems = load_settings({**group, "routes": routes})
    assert not [line for line in problems if "routes" in line]
    found = pillar_files["parts"]["routes_job"](settings)["routes"]
    # Where it is a peer too, images are sent over HTTPS.
    assert found["north-1"]["kind"] == "modalities"
    assert found["south-1"]["kind"] == "peers"


def test_where_systemd_does_not_run_there_are_no_routes(load_settings):
    problems = load_settings({**TARGETS, "routes": {"all": {"to": "ct"}}}, booted=False)[1]
    assert any(line.startswith("orthanc:routes: systemd does not run") for line in problems)


def test_the_host_is_told_of_seconds_and_kinds(load_settings, pillar_files):
    routes = {"web": {"to": "web", "keep_trying": "2 days"}, "ct": {"to": "ct"}}
    settings, problems = load_settings({**TARGETS, "routes": routes})
    assert problems == []
    found = pillar_files["parts"]["routes_job"](settings)["routes"]
    assert found["web"]["kind"] == "servers"
    assert found["web"]["web"] == "/dicom-web"
    assert found["web"]["keep_trying"] == 172800
    assert found["ct"] == {
        **{"to": "ct", "kind": "modalities", "when": "at_once"},
        **{"keep_trying": 604800, "warn_after": 3600, "warn_above": 10000},
    }
