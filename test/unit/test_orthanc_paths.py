"""Which options name files and folders, and where Orthanc looks for them."""

import re

import orthanc_paths as paths
import orthanc_shapes
import orthanc_tables
import pytest

# What the last name of an option ends in that may name a file or a folder.
LIKE_A_PATH = re.compile(
    r"(Path|Directory|File|Folders?|Certificates?|Scripts?|Plugins|Database|Module|Library|Cache"
    r"|Dictionaries|Key|Keys|Dicomizer|Classpath|Locale|Configuration|Storages|Logo|Socket|Program"
    r"|Root|Prefix)$"
)
# Those which do not, or which are looked at elsewhere.
NO_PATHS = {
    *("PostgreSQL:Database", "MySQL:Database"),  # names
    "MySQL:UnixSocket",  # orthanc_preflight.databases
    *("AwsS3Storage:AccessKey", "AwsS3Storage:SecretKey", "BlobStorage:AccountKey"),
    "AdvancedStorage:OtherAttachmentsPrefix",  # below the storage
    "StoneWebViewer:InstitutionLogo",  # a URL
    "Authorization:UncheckedFolders",  # of the REST API
}
ROOTS = re.compile(r":(Root|\w*Root|RootPath)$")  # of URLs, and of names in a bucket


def texts(shape, path):
    """Return the paths of all that may be a text in a shape."""
    if (shape if isinstance(shape, str) else shape.get("kind")) in ("text", "tls path"):
        return [":".join(path)]
    words = orthanc_shapes.resolved(shape, orthanc_tables.KINDS)
    keys = [words.get("keys", {}), *words.get("keys_of", {}).values()]
    below = [(item, [*path, key]) for own in keys for key, item in own.items()]
    below += [(words["each"], [*path, "*"])] if "each" in words else []
    below += [(one, path) for one in [*words.get("anyOf", ()), words.get("items")] if one]
    return [found for one, place in below for found in texts(one, place)]


KNOWN = {
    **orthanc_tables.OPTIONS,
    **orthanc_tables.SECTIONS,
    **orthanc_tables.PLUGIN_OPTIONS,
}
TEXTS = {found for option, kind in KNOWN.items() for found in texts(kind, [option])}


def test_every_option_that_names_a_path_says_what_it_must_be():
    named = {t for t in TEXTS if LIKE_A_PATH.search(t.replace(":*", "")) and not ROOTS.search(t)}
    rows = {re.sub(r"(:\*)?:1$", "", path) for path in paths.PATHS}
    assert len(named) > 30
    assert named - NO_PATHS - rows == set()


def test_the_table_speaks_of_known_options():
    for path in paths.PATHS:
        plain = re.sub(r"(:\*)?:1$", "", path)
        assert plain in TEXTS or plain.replace(":*", "") in TEXTS, path
    switches = {place.switch[0] for place in paths.PATHS.values() if place.switch}
    flags = {re.sub(r"^.*:", "", switch) for switch in switches}
    assert flags <= {"Enable", "Enabled", "EnableSsl", *orthanc_tables.OPTIONS}


@pytest.mark.parametrize(
    ("options", "pattern", "found"),
    [
        ({"a": 1}, "a", [(["a"], 1)]),
        ({"a": 1}, "b", []),
        ({"a": 1}, "a:b", []),
        ({"a": {"x": {"c": 1}, "y": {"c": 2}, "z": {}}}, "a:*:c", [("axc", 1), ("ayc", 2)]),
        ({"a": [5, [6, 7]]}, "a:1:0", [("a10", 6)]),
        ({"a": {"x": 1}}, "a:*", [("ax", 1)]),
    ],
)
def test_what_is_found_at_a_path(options, pattern, found):
    assert paths.found(options, pattern) == [(list(path), value) for path, value in found]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"LuaScripts": ["a.lua", "/b.lua"]}, ["/etc/orthanc/a.lua", "/b.lua"]),
        ({"PythonScript": "a.py"}, ["/a.py"]),
        ({"SslCertificate": "a.pem"}, []),
        ({"SslCertificate": "a.pem", "SslEnabled": True}, ["/etc/orthanc/a.pem"]),
        ({"Worklists": {"Database": "/w"}}, []),
        ({"Worklists": {"Enable": True, "Database": "/w"}}, ["/w"]),
        ({"ServeFolders": {"/a": "/srv/a", "/b": "/srv/b"}}, ["/srv/a", "/srv/b"]),
        ({"ServeFolders": {"Folders": {"/a": "/srv/a"}, "AllowCache": True}}, ["/srv/a"]),
        ({"OrthancPeers": {"p": {"CertificateFile": "/c", "Url": "https://x"}}}, ["/c"]),
        ({"OrthancPeers": {"p": ["https://x"]}}, []),
        ({"Java": {"Classpath": "/a.jar:/b/*"}}, ["/a.jar", "/b/*"]),
        ({"Indexer": {"Enable": True, "Folders": "/i"}}, ["/i"]),
        ({"AwsS3Storage": {"StorageEncryption": {"MasterKey": [1, "/k"]}}}, ["/k"]),
        ({"LuaScripts": 5, "PythonScript": "", "Plugins": [None]}, []),
    ],
)
def test_where_orthanc_looks(options, named):
    assert [path for _, path, _ in paths.named(options, "/etc/orthanc")] == named


def test_a_path_that_orthanc_takes_by_default_is_looked_at(tmp_path):
    """Without one, it says only that it cannot initialize SSL encryption."""
    for options, where in (
        ({"SslEnabled": True}, tmp_path / "certificate.pem"),
        ({"SslEnabled": True, "SslCertificate": "x.pem"}, tmp_path / "x.pem"),
    ):
        found = paths.judge(options, str(tmp_path))["problems"]
        assert [path for path, _ in found] == [["SslCertificate"]]
        assert str(where) in found[0][1]
        where.write_text("")
        assert paths.judge(options, str(tmp_path))["problems"] == []
    assert paths.judge({"SslEnabled": False}, str(tmp_path / "none"))["problems"] == []
