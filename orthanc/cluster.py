"""
Several nodes on one database, and the balancer in front of them: what the pillar may say of it, in
the language of ``orthanc_shapes``, kinds for ``pillar.py``; what of it does not go together, for
``checks.py``; and what becomes of it.

https://orthanc.uclouvain.be/book/faq/scalability.html
"""

from __future__ import annotations

import posixpath
import re

KINDS = {
    "address": {
        "wanted": "an IP address",
        "type": "string",
        "pattern": r"[0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9A-Fa-f.]*(:[0-9A-Fa-f.]*){2,7}",
    },
    "hosts": {
        "wanted": "the name or the IP address of a host, or a list of some",
        "anyOf": ["host", {"items": "host"}],
    },
    "cluster": {"keys": {"nodes": {"names": "anything", "each": "host"}, "chores": "some text"}},
    "balancer": {
        "keys": {
            **{"addresses": {"items": "address"}, "name": "host", "out": {"items": "some text"}},
            **{"port": "port", "dicom_port": "port"},
        }
    },
}
# What several writers need of the plugin: with more connections they get into each other's way, as
# each transaction sees the database as if it were alone. See docs/cluster.md.
SEVERAL = {
    "Lock": False,
    "IndexConnectionsCount": 1,
    "MaximumConnectionRetries": 40,
    "ConnectionRetryInterval": 1,
}
# What libpq is told of several hosts, of which one takes writes: how soon to try the next one, and
# when to give up one that is silent. In seconds, and in milliseconds.
# https://www.postgresql.org/docs/current/libpq-connect.html
FAIL_OVER = "connect_timeout=3&tcp_user_timeout=10000&target_session_attrs=read-write"
# A URI of a database on this host, by its socket.
BY_SOCKET = re.compile(r"postgres(ql)?:///(?!.*[?&]host=[^/&])")
# What may be asked twice, although it is a POST: an image that is there is AlreadyStored, and
# searches change nothing.
REPEATED = r"instances|tools/(find|lookup|count-resources|bulk-content)"


def run() -> dict:
    functions = (cluster_options, derive_cluster, check_cluster, proxies, balancer, database_hosts)
    return {"KINDS": KINDS, **{function.__name__: function for function in functions}}


def is_several(settings: dict) -> bool:
    """Return whether several nodes share one database."""
    return bool(settings["cluster"]["nodes"])


def cluster_options(settings: dict) -> list[tuple]:
    """Return rows of option, value and key of the pillar, as ``options.py`` makes layers of."""
    if not is_several(settings):
        return []
    return [
        ("DatabaseServerIdentifier", settings["system"]["id"], "cluster:nodes"),
        *((("PostgreSQL", name), value, "cluster:nodes") for name, value in SEVERAL.items()),
    ]


def derive_cluster(settings: dict) -> None:
    """Take from this node what one of them does for all."""
    nodes = sorted(map(str, settings["cluster"]["nodes"]))
    if nodes and settings["system"]["id"] != settings["cluster"].get("chores", nodes[0]):
        settings["routes"], settings["retention"]["rules"] = {}, []
        settings["backup"].pop("repository", None)


def check_cluster(settings: dict) -> list[str]:
    """Return what nodes and balancer lack, or what does not go together with them."""
    cluster, where = settings["cluster"], "orthanc:cluster:nodes"
    nodes, balanced = cluster["nodes"], settings["balancer"]["addresses"]
    if not nodes:
        given = ["orthanc:cluster:chores"] * ("chores" in cluster)
        given += ["orthanc:balancer:addresses"] * bool(balanced)
        return [f"{path}: is for several nodes; name them in {where}" for path in given]
    problems, database = [], settings["postgresql"]
    uri = database.get("uri")
    if not database["enabled"]:
        problems.append(
            f"{where}: nodes share an index in PostgreSQL, and SQLite has room for one; set"
            " orthanc:postgresql:enabled to true, and orthanc:postgresql:host"
        )
    elif database["local"] or (isinstance(uri, str) and BY_SOCKET.match(uri)):
        problems.append(
            f"{where}: nodes share one database, and each would have its own; set"
            " orthanc:postgresql:host to where all of them reach it, also on its own host"
        )
    section = settings["config"].get("PostgreSQL")
    if isinstance(section, dict) and section.get("Lock"):
        problems.append(
            "orthanc:config:PostgreSQL:Lock: must be false where there are several nodes: the first"
            " one would lock the others out; take it out"
        )
    if set(map(str, nodes)) <= set(settings["balancer"]["out"]):
        problems.append(
            "orthanc:balancer:out: names all nodes, and nobody would get an answer; leave one in"
        )
    names = ([cluster["chores"]] if "chores" in cluster else []) + settings["balancer"]["out"]
    problems += [
        f"{where}: {name} is none of them, and is named in orthanc:cluster or orthanc:balancer;"
        f" known are {', '.join(sorted(map(str, nodes)))}"
        for name in names
        if name not in map(str, nodes)
    ]
    return problems + (check_balancer(settings) if balanced else [])


def check_balancer(settings: dict) -> list[str]:
    """Return what would keep a balancer from the nodes, or devices from both."""
    asked, https, dicom = settings["balancer"], settings["https"], settings["dicom"]
    where, on_node = "orthanc:balancer", set(asked["addresses"]) & set(_nodes(settings).values())
    problems = []
    if not settings["remote_access"]:
        problems.append(
            "orthanc:remote_access: must be true where there is a balancer, which reaches the nodes"
            " from elsewhere"
        )
    if https["enabled"] and https["self_signed"]:
        problems.append(
            "orthanc:https:self_signed: a balancer cannot tell such nodes from others; give them"
            " orthanc:https:certificate and orthanc:https:key"
        )
    elif https["enabled"] and "name" not in asked:
        problems.append(
            f"{where}:name: missing; give the name in the certificate of the nodes, by which the"
            " balancer knows them"
        )
    if dicom["enabled"] and dicom["check_modality_host"]:
        problems.append(
            "orthanc:dicom:check_modality_host: must be false where there is a balancer, from whose"
            " address all devices come then; who gets to its DICOM port is up to a firewall"
        )
    problems += [
        f"{where}:{key}: must be set, and not to {port}, which is the node's own on"
        f" {', '.join(sorted(on_node))}"
        for key, port in ports(settings).items()
        if on_node and asked.get(key, port) == port
    ]
    return problems


def ports(settings: dict) -> dict:
    """Return the ports of the nodes, by what they are among the settings of the balancer."""
    config, found = settings["config"], {"port": settings["port"]}
    if settings["dicom"]["enabled"]:
        found["dicom_port"] = config.get("DicomPort", settings["dicom"]["port"])
    return found


def proxies(settings: dict) -> list[str]:
    """Return the addresses from which others say whom they ask for."""
    return list(settings["balancer"]["addresses"]) if is_several(settings) else []


def balancer(makers: tuple, settings: dict, there: bool = True) -> dict:
    """
    Return the balancer as ``orthanc_balancer`` takes it; or where there is to be none, what to look
    for.

    makers
        Functions of ``options.py``: for the text of a template, for the PEM file of certificate and
        key, for whether a source is a path, and for that of an own CA.

    there
        False where it is to go.
    """
    render, https_pem, is_path, own_ca = makers
    nginx, asked, https = settings["system"]["nginx"], settings["balancer"], settings["https"]
    base, unit = nginx["balancer"], nginx["balancer_unit"]
    there = there and is_several(settings) and bool(asked["addresses"])
    secure = there and https["enabled"]
    pair = [https.get("certificate"), https.get("key")]
    pems = {f"{base}.pem": None, f"{base}-ca.pem": own_ca(settings) if secure else None}
    if not all(map(is_path, pair)):
        pair = [f"{base}.pem"] * 2
        pems[f"{base}.pem"] = https_pem(settings) if secure else None
    ca = f"{base}-ca.pem" if "ca_source" in settings else ""
    texts = dict.fromkeys((f"{base}.conf", unit))
    outside = {name: asked.get(name, port) for name, port in ports(settings).items()}
    if there:
        root = settings["dicomweb"].get("root", "/dicom-web/").strip("/")
        values = {
            **{"user": nginx["user"], "module": nginx["stream"], "out": asked["out"]},
            **{"inside": ports(settings), "outside": outside, "name": asked.get("name")},
            "nodes": {name: _bracketed(host) for name, host in _nodes(settings).items()},
            "any_address": ["", "[::]:"] if any(map(_is_v6, settings["system"]["names"])) else [""],
            "repeated": rf"^/({REPEATED}|{re.escape(root)}/studies(/[0-9.]+)?)/?$",
            "pair": pair if secure else None,
            "ca": ca or settings["default_config"]["HttpsCACertificates"],
            "pid": f"/run/{posixpath.basename(base)}.pid",
        }
        command = {"command": nginx["command"], "config": f"{base}.conf"}
        texts = {
            f"{base}.conf": render("balancer.conf.jinja", **values),
            unit: render("balancer.service.jinja", **command),
        }
    return {
        **{"texts": texts, "pems": pems, "unit": unit, "config": f"{base}.conf"},
        **{"command": nginx["command"], "certificate": pair[0] if secure else None},
        "ports": list(outside.values()) if there else [],
    }


def database_hosts(host, port: str) -> tuple[str, str]:
    """Return the hosts of a database as its URI has them, and what of the connection follows."""
    hosts = host if isinstance(host, list) else [host]
    places = ",".join(f"{_bracketed(each)}{port}" for each in hosts)
    # Otherwise a host that is gone is waited for as long as the kernel does.
    return places, FAIL_OVER if len(hosts) > 1 else "connect_timeout=10"


def _nodes(settings: dict) -> dict:
    return {str(name): address for name, address in settings["cluster"]["nodes"].items()}


def _is_v6(address: str) -> bool:
    return ":" in address


def _bracketed(address: str) -> str:
    """Return an address as it stands before a port."""
    return f"[{address}]" if _is_v6(address) else address
