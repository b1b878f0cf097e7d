"""A dump of PostgreSQL, read as an index."""

import pathlib

import orthanc_extract
import orthanc_index
import orthanc_postgresql
import pytest
from salt.exceptions import CommandExecutionError

# As ``pg_restore --data-only`` gives it, of plugin 5.0.
DUMP = """\
-- PostgreSQL database dump
SET statement_timeout = 0;

COPY public.resources (internalid, resourcetype, publicid, parentid) FROM stdin;
1\t0\taa-1\t\\N
2\t1\taa-2\t1
3\t2\taa-3\t2
4\t3\taa-4\t3
\\.

COPY public.attachedfiles (id, filetype, uuid, compressedsize, compressiontype, \
compressedhash) FROM stdin;
4\t1\tone\t7\t1\tmd5-of-one
4\t2\tjson\t7\t1\t
\\.

COPY public.dicomidentifiers (id, taggroup, tagelement, value) FROM stdin;
2\t32\t13\t1.2.3
2\t16\t16\tFROM\\tstdin;
\\.
"""


@pytest.fixture
def dump(tmp_path, monkeypatch):
    """The path of a dump, and a pg_restore that reads it."""
    (tmp_path / "database.dump").write_text(DUMP)
    program = tmp_path / "pg_restore"
    program.write_text(
        '#!/bin/sh\n[ "$2" != --table=lost ] || { echo "odd" >&2; exit 1; }\n'
        'exec sed -n "/^COPY public.${2#--table=} /,/^\\\\\\\\\\\\.$/p" "$4"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(orthanc_postgresql, "PROGRAMS", (str(tmp_path),))
    return str(tmp_path / "database.dump")


@pytest.mark.parametrize("name", ["aa-2", "1.2.3"])
def test_a_study_is_found_in_a_dump(dump, name):
    with orthanc_index.of_dump(dump) as index:
        assert orthanc_extract._of_study(index, name) == [("aa-4", "one", 1, 7, "md5-of-one")]
        for other in ("aa-1", "aa-3", "16"):
            with pytest.raises(CommandExecutionError, match="not in this backup; snapshot="):
                orthanc_extract._of_study(index, other)


def test_a_study_of_two_patients_is_none(dump):
    """Two patients may have the same StudyInstanceUID, as where one was entered twice."""
    path = pathlib.Path(dump)
    text = path.read_text().replace("3\t2\taa-3", "5\t1\tbb-2\t9\n3\t2\taa-3")
    path.write_text(text.replace("2\t16\t16", "5\t32\t13\t1.2.3\n2\t16\t16"))
    with orthanc_index.of_dump(dump) as index:
        with pytest.raises(CommandExecutionError, match=r"several patients .* aa-2, bb-2"):
            orthanc_extract._of_study(index, "1.2.3")
        assert orthanc_extract._of_study(index, "aa-2") == [("aa-4", "one", 1, 7, "md5-of-one")]


def test_a_dump_that_cannot_be_read_is_said(dump, monkeypatch):
    with pytest.raises(CommandExecutionError, match="PostgreSQL says: odd"):
        list(orthanc_postgresql.rows(dump, "lost"))
    monkeypatch.setattr(orthanc_postgresql, "program", lambda _: None)
    with pytest.raises(CommandExecutionError, match="no pg_restore"):
        list(orthanc_postgresql.rows(dump, "resources"))


@pytest.mark.parametrize(
    ("server", "fails"), [("newer", False), ("older", False), ("older and full", True)]
)
def test_a_dump_of_a_newer_client_is_restored_into_an_older_server(
    dump, tmp_path, monkeypatch, server, fails
):
    timeout = 'ERROR: unrecognized configuration parameter "transaction_timeout"'
    number = 2 if "full" in server else 1
    script = {
        "newer": "exit 0",
        "older": f"case \"$*\" in *--exit-on-error*) echo '{timeout}' >&2; exit 1;; esac;"
        f" printf '%s\\n' '{timeout}' 'warning: errors ignored on restore: {number}' >&2; exit 1",
    }[server.split()[0]]
    (tmp_path / "pg_restore").write_text(f"#!/bin/sh\n{script}\n")
    monkeypatch.setitem(orthanc_postgresql.__salt__, "orthanc_host.as_account", lambda *_: [])
    monkeypatch.setattr(orthanc_postgresql, "environment", lambda *_: {"PATH": "/bin:/usr/bin"})
    section = {"ConnectionUri": "postgresql://far/images"}
    if fails:
        with pytest.raises(CommandExecutionError, match="restore: 2"):
            orthanc_postgresql.restore(section, dump, "orthanc", "orthanc")
    else:
        orthanc_postgresql.restore(section, dump, "orthanc", "orthanc")
