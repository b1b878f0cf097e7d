"""
The one place where pillar, map file of the OS family and defaults meet.

``part.py`` loads it, once in a run, and the SLS files get a dict: the merged settings below
``settings``; functions that return what becomes of them: ``configuration`` for Orthanc, ``proxy``
for nginx, with or without its site (of ``options.py``), ``balancer`` for nginx before several
nodes, and ``routes_job`` for the service that sends images on; ``site``, what makes this one of a
group; ``pillar_state``, the state that fails with all that is wrong with the pillar; and ``apart``,
for states of packages. The module ``orthanc_import`` gets ``of``, which makes the same of another
pillar, and ``plain``. In the place of a secret there is a reference, by which the host looks it up;
see ``orthanc_pillar``. Of a pillar with mistakes the settings are what is sound of it, so that each
SLS always gives its states. All keys that the pillar may hold are in ``pillar.py``, and are read by
``reader.py``; what of them does not go together is in ``checks.py``. What Orthanc itself may be
told is judged later, on the host, by ``orthanc_conf.valid`` in ``orthanc.validation``.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import posixpath
import re

from salt.utils.dictupdate import merge_recurse

# The families of systems that the formula has a map file for.
FAMILIES = ("Debian", "Suse")
# What a pillar is that there is not: no mapping, and no `orthanc:` with nothing behind it either.
ABSENT = object()
# For each pkg.installed. Where ``state_aggregate`` is on, Salt would join it with those of others:
# it knows no version then, and installs before what must come first. Salt leaves alone
# what comes from another source, and an empty one is none.
APART = [{"aggregate": False}, {"fromrepo": ""}]
# state.apply does not bring custom modules by itself, as a highstate does.
UNSYNCED = (
    "the formula's own modules are not on this minion yet; nothing was changed. Bring them with"
    " `salt-call saltutil.sync_all`, or add sync_mods=all to state.apply"
)
ACCESS_PATHS = ("orthanc:users", "orthanc:demo_users", "orthanc:remote_access", "orthanc:config")


def plain(value):
    """Return the value in plain dicts and lists: Salt 3008's masked ones copy their mask along."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def asked(pillar: dict, path: str = "orthanc") -> list[str]:
    """Return the path of every key that the pillar holds."""
    found = []
    for key, value in pillar.items():
        found.append(f"{path}:{key}")
        if isinstance(value, dict):
            found += asked(value, found[-1])
    return found


def derive_paths(settings: dict) -> None:
    """Fill in the paths that follow from others: index, links."""
    paths = settings["paths"]
    paths.setdefault("index", paths["storage"])
    links = settings["links"]
    targets = {"config": "config", "log": "log", "data": "storage", "plugins": "plugins"}
    for name, target in targets.items():
        links[name] = {"name": name, "target": paths[target], **links.get(name, {})}
        if not links[name]["name"].startswith("/"):
            links[name]["name"] = f"{links['dir']}/{links[name]['name']}"


def ca_bundle(settings: dict) -> str:
    """Return the path of the CAs that the whole host trusts."""
    return settings["default_config"]["HttpsCACertificates"]


def own_ca(settings: dict) -> str:
    """Return the path of the formula's own copy of a CA."""
    return f"{settings['paths']['config']}/{settings['system']['own_files']['database_ca']}"


def derive_own_files(system: dict) -> None:
    """Fill in the names of the formula's own files."""
    own, nginx = system["own"], system["nginx"]
    system["own_files"] = {what: f"{own}-{name}" for what, name in system["own_files"].items()}
    nginx["site"] = f"{nginx.pop('sites')}/{own}.conf"
    nginx["pem"], nginx["balancer"] = (
        f"{nginx['folder']}/{own}{end}" for end in (".pem", "-balancer")
    )
    del nginx["folder"]
    nginx["balancer_unit"] = f"{system['units']}/{own}-balancer.service"
    unit, program = f"{system['units']}/{own}-logs", f"{system['programs']}/{own}/log-keep.sh"
    system["log_units"] = {
        "name": f"{own}-logs.timer",
        "program": program,
        # Each with the file of the formula that it is made of.
        "files": {
            program: "log_keep.sh",
            f"{unit}.service": "logs.service.jinja",
            f"{unit}.timer": "logs.timer.jinja",
        },
    }


def derive_packages(settings: dict) -> None:
    """Fill in the packages of plugins that other settings need."""
    system = settings["system"]
    needed = {
        system["database"]["plugin"]: settings["postgresql"]["enabled"],
        system["dicomweb"]: settings["dicomweb"]["enabled"],
        system["python"]: settings["python_scripts"],
    }
    others = [name for name in needed if needed[name] and name not in settings["packages"]]
    settings["packages"] = [*settings["packages"], *others]


def derive_database(settings: dict) -> None:
    """Fill in what follows from others: whether the database is local, and its CA."""
    database = settings["postgresql"]
    database["local"] = "uri" not in database and "host" not in database
    default = own_ca if "ca_source" in database else ca_bundle
    database["ca"] = posixpath.normpath(database.get("ca") or default(settings))


def file_name(source: str) -> str:
    """Return the last part of a URL, without its query, or of a path."""
    path = re.split("[?#]", source)[0] if "://" in source else source
    return posixpath.basename(path)


def derive_plugins(settings: dict) -> None:
    """
    Fill in the name of each plugin to download, and the path of its file.

    The folder above the file has the SHA-256 of its content as its name: an old and a new file
    never get into each other's way, and which of them Orthanc loads is a matter of its option
    Plugins alone. Without a hash it is a name for the source; see ``orthanc_plugins``.
    """
    plugins = [plugin for plugin in settings["plugins"] if "source" in plugin]
    for plugin in plugins:
        plugin.setdefault("name", file_name(plugin["source"]))
        folder = plugin.get("source_hash", "").rpartition("=")[2].lower()
        if not folder:
            folder = f"insecure-{hashlib.sha256(plugin['source'].encode()).hexdigest()[:16]}"
        plugin["path"] = f"{settings['system']['downloads']}/{folder}/{plugin['name']}"
    settings["plugins"] = plugins


def derive_monitoring(settings: dict) -> None:
    """Fill in the path of the file for Prometheus."""
    folder = posixpath.normpath(settings["monitoring"]["textfile"])
    settings["system"]["monitoring"]["file"] = f"{folder}/orthanc.prom"


def derive_backup_key(settings: dict) -> None:
    """Fill in where the backup key is."""
    key, home = settings["backup_key"], settings["paths"]["home"]
    folder = posixpath.dirname(key["path"]) if "path" in key else f"{home}/.ssh"
    key["dir"] = posixpath.normpath(key.get("dir", folder))
    key["path"] = posixpath.normpath(key.get("path", f"{key['dir']}/id_ed25519"))


def derive_backup(settings: dict) -> None:
    """Fill in the packages that a backup needs."""
    system, packages = settings["system"], [settings["system"]["backup"].pop("package")]
    if str(settings["backup"].get("repository")).startswith("sftp:"):
        packages.append(system["ssh_client"])
    system["backup"]["packages"] = packages


def load_files(read) -> dict:
    """
    Return what this file needs of the others.

    read
        A function that loads a file of the formula, given its path and what that file finds as
        globals.
    """
    known = {"shapes": read("_modules/orthanc_shapes.py"), "tables": read("orthanc/pillar.py")}
    parts: dict = {}
    for name in known["tables"]["PARTS"]:
        parts.update(read(f"orthanc/{name}.py"))
        known["tables"]["KINDS"].update(parts.pop("KINDS", {}))
    places = {function.__name__: function for function in (ca_bundle, file_name, own_ca)}
    return {
        **known,
        "parts": parts,
        "reader": read("orthanc/reader.py", **known),
        "checks": read("orthanc/checks.py", **known, **places, **parts),
    }


def load(pillar, layers: list, host: dict, files: dict) -> tuple[dict, list[str]]:
    """
    Return the merged settings and all that is wrong with the pillar.

    What is not for the pillar is below ``system``: what the map file of the OS family says, and
    what the host itself does.

    pillar
        What is below ``orthanc:``; ABSENT where there is no such key.

    layers
        The defaults, and the map file of the OS family.

    host
        Whether systemd runs there, ``booted``; its ``names`` and addresses; and the ``id`` of its
        minion.

    files
        What ``load_files`` returns.
    """
    reader, checks = files["reader"], files["checks"]
    pillar, problems = reader["sound_part"]({} if pillar is ABSENT else plain(pillar))
    defaults, osmap = layers
    settings = {**merge_recurse(defaults, osmap), "asked": asked(pillar)}
    pillar["paths"] = {
        name: posixpath.normpath(re.sub("/+", "/", path))
        for name, path in pillar.get("paths", {}).items()
    }
    settings["moved_paths"] = sorted(
        name for name, path in pillar["paths"].items() if path != settings["paths"].get(name)
    )
    # Options keep their layers apart, because a null in the pillar takes an option out.
    settings["default_config"] = settings.pop("config")
    own = {key: value for key, value in pillar.items() if key != "config"}
    settings = merge_recurse(settings, own)
    settings["config"] = pillar.get("config", {})
    settings["system"].update(host)
    derive_own_files(settings["system"])
    derive_paths(settings)
    derive_database(settings)
    files["parts"]["derive_viewers"](settings)
    derive_packages(settings)
    derive_backup_key(settings)
    derive_backup(settings)
    derive_monitoring(settings)
    problems += checks["problems"](pillar, settings, defaults)
    files["parts"]["derive_cluster"](settings)
    derive_plugins(settings)
    settings["warnings"] = checks["advice"](settings, defaults)
    users = settings["users"].items()
    settings["users"] = {name: user for name, user in users if not checks["check_user"](name, user)}
    # Checked only where all that it depends on is sound: a mistyped user is no missing user.
    if not any(problem.startswith(ACCESS_PATHS) for problem in problems):
        problems += checks["check_access"](settings)
    return reader["without_secrets"](settings), problems


def host_names(grains) -> list[str]:
    """Return the names and addresses by which others reach the host, the first one first."""
    found = [
        grains.get("fqdn"),
        grains.get("host"),
        *grains.get("ipv4", []),
        *grains.get("ipv6", []),
    ]
    # A link-local address means nothing without the name of an interface.
    return [name for name in dict.fromkeys(found) if name and not name.startswith("fe80:")]


def run() -> dict:
    def read(path: str, **values):
        renderer = path.rpartition(".")[2]
        return __salt__["slsutil.renderer"](
            f"salt://{path}", default_renderer=renderer, saltenv=__env__, **values
        )

    # Most of what is made is a matter of several SLS files.
    @functools.lru_cache(maxsize=None)
    def options():
        return read("orthanc/options.py", **read("orthanc/lua_filter.py"), **files["parts"])

    # An earlier version has no such function. Over salt-ssh, modules are always brought along.
    synced = "orthanc.drained" in __salt__
    family = __grains__["os_family"]
    known = family in FAMILIES
    # On another system nothing is done, but the states are there that others may refer to.
    osmap = f"orthanc/osfamily/{family if known else FAMILIES[0]}.yaml"
    files = load_files(read)
    layers = [read("orthanc/defaults.yaml"), read(osmap)]
    booted = __grains__.get("init") == "systemd"
    host = {"booted": booted, "names": host_names(__grains__), "id": __grains__["id"]}

    def of(pillar) -> dict:
        settings, problems = load(pillar, copy.deepcopy(layers), host, files)
        if not known:
            problems = [f"this formula knows Debian, Ubuntu and openSUSE, not {family}"]

        @functools.lru_cache(maxsize=None)
        def configuration():
            roles, demo_users = read("orthanc/roles.yaml"), files["tables"]["DEMO_USERS"]
            return options()["configuration"](settings, roles, demo_users)

        @functools.lru_cache(maxsize=None)
        def proxy(site: bool):
            return options()["proxy"](settings, site)

        return {
            "settings": settings,
            "problems": problems,
            "site": files["parts"]["site_of_group"](settings),
            "configuration": lambda: copy.deepcopy(configuration()),
            "routes_job": lambda: files["parts"]["routes_job"](settings),
            "balancer": lambda there=True: options()["balancer"](settings, there),
            "proxy": lambda site=True: copy.deepcopy(proxy(site)),
        }

    orthanc = of(__pillar__.get("orthanc", ABSENT))

    def pillar_state(*arguments):
        pillar = [
            {"name": orthanc["settings"]["paths"]["config"]},
            {"problems": orthanc["problems"]},
            *arguments,
        ]
        state = {"orthanc_conf.valid": pillar}
        if not synced:
            # The name as well, because Salt shows no comment of this state in test mode.
            state["test.fail_without_changes"] = [{"name": UNSYNCED}, {"comment": UNSYNCED}]
            pillar.append({"require": [{"test": "orthanc-pillar"}]})
        return {"orthanc-pillar": state}

    return {
        **orthanc,
        "pillar_state": pillar_state,
        "apart": APART,
        "of": of,
        "plain": lambda: options()["PLAIN"],
    }
