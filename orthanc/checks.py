"""
What in the pillar contradicts itself, lacks something else, or is not wise: checks between settings
that have the right shape each.

``map.py`` loads it, with the functions of ``orthanc_shapes`` as ``shapes``, the tables of
``pillar.py`` as ``tables``, and some of its own functions by their names.
"""

from __future__ import annotations

import posixpath
import re
import urllib.parse

# Headers that are not the administrator's, in small letters: those of the message itself, those
# that nginx and Orthanc give a meaning for this answer, and one that goes with cors.
FIXED_HEADERS = (
    *("connection", "content-encoding", "content-length", "content-range", "content-type", "date"),
    *("etag", "keep-alive", "last-modified", "location", "server", "set-cookie", "trailer"),
    *("transfer-encoding", "upgrade", "vary", "www-authenticate"),
)
# Options that say who may reach Orthanc over HTTPS, and behind nginx also where it listens.
OWN_HTTPS = ("SslEnabled", "SslCertificate")
BEHIND_NGINX = (*OWN_HTTPS, "HttpPort", "HttpBindAddresses", "RemoteAccessAllowed")
# Where Orthanc has to listen, among others: there the formula asks it whether it serves.
LOCAL_ADDRESSES = ("127.0.0.1", "0.0.0.0")  # noqa: S104 no address to bind to
# The browser's own host.
LOCAL_ORIGIN = re.compile(r"http://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:|$)")
# Folders that others need; the formula would close them.
OF_OTHERS = re.compile(
    r"/(bin|etc|home|lib\w*|media|mnt|opt|root|sbin|srv|tmp|usr|var)?"
    r"|/(boot|dev|proc|run|sys)(/.*)?|/usr/(bin|lib\w*|local(/\w+)?|sbin|share)"
    r"|/var/(cache|lib|local|log|mail|opt|run|spool|tmp)"
)
# Of paths in the unit, what systemd would not take as it stands is left out.
UNIT_PATH = re.compile(r"[A-Za-z0-9/._+-]+")


def run() -> dict:
    functions = (advice, check_access, check_user, problems)
    return {function.__name__: function for function in functions}


def problems(pillar: dict, settings: dict, defaults: dict) -> list[str]:
    """
    Return what is wrong between settings, but for who gets in.

    pillar
        What the pillar holds itself.

    settings
        The same with what follows from it, and with all defaults.

    defaults
        What holds where nobody says otherwise.
    """
    return [
        *(
            line
            for name, user in pillar.get("users", {}).items()
            for line in check_user(name, user)
        ),
        *check_host(settings),
        *check_paths(settings),
        *check_database(pillar.get("postgresql", {}), settings, defaults["postgresql"]),
        *check_plugins(settings["plugins"]),
        *check_backup_key(settings),
        *check_backup(settings, defaults["backup"]),
        *check_retention(settings, defaults["retention"]),
        *check_own_ca(settings),
        *check_loaded(settings),
        *check_network(settings, OF_OTHERS),
        *check_scripts(settings),
        *check_viewers(settings),
        *check_routes(settings),
        *check_cluster(settings),
        *check_https(settings, pillar.get("https", {})),
        *check_dicom_tls(settings, pillar.get("dicom", {}).get("tls", {})),
    ]


def check_user(name, user: dict) -> list[str]:
    """Return one sentence for each thing that a user lacks, without which it is of no use."""
    found = []
    if "password" not in user:
        found.append(f"orthanc:users:{name}:password: missing")
    if ("role" in user) == ("rules" in user):
        found.append(
            f"orthanc:users:{name}: needs either role (admin, writer, reader, peer or monitor) or"
            " rules"
        )
    for number, rule in enumerate(user.get("rules", [])):
        found += [
            f"orthanc:users:{name}:rules:{number}:{key}: missing; a rule without allows nothing"
            for key in ("methods", "paths")
            if not rule.get(key)
        ]
    return found


def check_plugins(plugins: list) -> list[str]:
    """Return what is wrong with the plugins to download, each of which has the right shape."""
    problems = []
    names = [plugin.get("name") or file_name(plugin.get("source", "")) for plugin in plugins]
    for number, (plugin, name) in enumerate(zip(plugins, names)):
        path = f"orthanc:plugins:{number}"
        if "source" not in plugin:
            problems.append(f"{path}:source: missing")
        elif not shapes["fits"](name, "plugin file", tables["KINDS"]):
            problems.append(
                f"{path}:name: missing, because the source does not end in"
                f" {tables['KINDS']['plugin file']['wanted']}"
            )
        elif name in names[:number]:
            problems.append(
                f"{path}:name: {name} is the name of another one too; choose another name"
            )
        if "source_hash" not in plugin and not plugin.get("insecure"):
            problems.append(
                f"{path}:source_hash: missing; put in what `sha256sum` prints for the right file,"
                " or set insecure: true to run whatever the source gives"
            )
    return problems


def check_backup_key(settings: dict) -> list[str]:
    """Return what is wrong with the places of the backup key."""
    key, paths = settings["backup_key"], settings["paths"]
    if key["dir"] in ("/", *paths.values()):
        return [
            f"orthanc:backup_key:dir: {key['dir']} has another use; choose a folder for the key"
            f" alone, such as {paths['home']}/.ssh"
        ]
    if posixpath.dirname(key["path"]) != key["dir"]:
        return [
            f"orthanc:backup_key:path: must be a file in orthanc:backup_key:dir, {key['dir']};"
            " change one of them"
        ]
    return []


def check_access(settings: dict) -> list[str]:
    """
    Return what would leave the server open, or open with a password that everybody knows.

    Orthanc up to 1.12.8 creates the user orthanc:orthanc where remote access is allowed and no
    user is declared. https://orthanc.uclouvain.be/book/faq/security.html
    """
    problems = []
    config = settings["config"]
    if (settings["users"] or settings["demo_users"]) and not config.get(
        "AuthenticationEnabled", True
    ):
        # Then Orthanc takes everybody who names a user for that user, and behind nginx everybody
        # is somebody on this host.
        problems.append(
            "orthanc:config:AuthenticationEnabled: must be true where there are users, whose"
            " passwords nobody would be asked for otherwise; take it out"
        )
    problems += [
        f"orthanc:config:{option}: null would take out all that orthanc:{key} names; take one of"
        " the two out"
        for option, key in tables["WHOLE"].items()
        if option in config and config[option] is None and settings[key]
    ]
    if "RegisteredUsers" in config:
        problems.append(
            "orthanc:config:RegisteredUsers: users are set in orthanc:users, with a role each"
        )
    if settings["demo_users"]:
        problems += [
            f"orthanc:users:{name}: is also the name of a demo user; choose another name, or set"
            " orthanc:demo_users to false"
            for name in sorted(set(settings["users"]) & set(tables["DEMO_USERS"]))
        ]
    if not config.get("RemoteAccessAllowed", settings["remote_access"]):
        return problems
    if not settings["users"]:
        problems.append(
            "orthanc:remote_access: needs at least one user of your own in orthanc:users"
            " (demo users do not count: their passwords are public), otherwise everybody could"
            " read and delete the images"
        )
    return problems


def check_database(given: dict, settings: dict, defaults: dict) -> list[str]:
    """Return what in the pillar's own keys of PostgreSQL contradicts itself."""
    database, path, system = settings["postgresql"], "orthanc:postgresql", settings["system"]
    problems = []
    if "uri" in given:
        problems += [
            f"{path}:{key}: is said by {path}:uri as well; take one of the two out"
            for key in ("host", "port", "database", "user", "password", "verify")
            # A default may be written out.
            if key in given and given[key] != defaults.get(key)
        ]
        named = urllib.parse.quote(database["ca"], safe="")
        if {"ca", "ca_source"} & set(given) and f"sslrootcert={named}" not in given["uri"]:
            problems.append(
                f"{path}:uri: does not name {database['ca']}, so it would not be used; add"
                f" sslmode=verify-full&sslrootcert={named} behind the ? of the URI"
            )
    elif "host" not in given:
        problems += [
            f"{path}:{key}: is only for a database on another host; set {path}:host, or take it out"
            for key in ("password", "ca_source", "ca")
            if key in given
        ]
        if not database["verify"]:
            problems.append(f"{path}:verify: is only for a database on another host; take it out")
        if database["user"] != system["user"]:
            problems.append(
                f"{path}:user: must be {system['user']} for the local database, which knows"
                f" Orthanc by its account; take it out, or set {path}:host"
            )
    elif not database["verify"] and {"ca", "ca_source"} & set(given):
        problems.append(
            f"{path}:verify: must not be false together with {path}:ca or {path}:ca_source, which"
            " would not be used"
        )
    problems += check_ca(settings, path)
    if database["enabled"]:
        problems += check_section(settings["config"], path)
        if database["local"] and not system["booted"]:
            problems.append(
                f"{path}:enabled: systemd does not run here, so the formula cannot start a"
                f" database; start one yourself and set {path}:uri to postgresql:///orthanc"
            )
    return problems


def check_ca(settings: dict, path: str) -> list[str]:
    """Return what is wrong with the place of the CA on the host."""
    ca, folder = settings["postgresql"]["ca"], settings["paths"]["config"]
    if "ca_source" not in settings["postgresql"]:
        if ca == own_ca(settings):
            return [
                f"{path}:ca: {ca} is where {path}:ca_source is copied to; set {path}:ca_source, or"
                " keep the file in another folder"
            ]
    elif ca == ca_bundle(settings):
        return [
            f"{path}:ca: {ca} holds the CAs that the whole host trusts; choose another file, or"
            " leave it out"
        ]
    elif ca != own_ca(settings) and ca.startswith(f"{folder}/"):
        return [f"{path}:ca: must not be below {folder}, whose files are replaced; leave it out"]
    return []


def check_section(config: dict, path: str) -> list[str]:
    """Return what in the section PostgreSQL of the options would undo the pillar's own keys."""
    section = config.get("PostgreSQL", {})
    where = "orthanc:config:PostgreSQL"
    if section is None:
        return [f"{where}: must not be null together with {path}:enabled"]
    if not isinstance(section, dict):
        return []  # judged with the other options
    problems = []
    if "ConnectionUri" in section:
        problems.append(
            f"{where}:ConnectionUri: is not looked at together with {path}:enabled; use the keys of"
            f" {path}"
        )
    if section.get("EnableIndex", True) is not True:
        problems.append(
            f"{where}:EnableIndex: must be true together with {path}:enabled, otherwise the index"
            " would be in SQLite"
        )
    return problems


def check_own_ca(settings: dict) -> list[str]:
    """Return what would make the CA of other servers, which Orthanc connects to, of no use."""
    if "ca_source" not in settings:
        return []
    problems, config = [], settings["config"]
    if "HttpsCACertificates" in config:
        problems.append(
            "orthanc:config:HttpsCACertificates: is written by orthanc:ca_source, together with the"
            " CAs that the host trusts; take one of the two out"
        )
    if config.get("HttpsVerifyPeers", True) is False:
        problems.append(
            "orthanc:ca_source: would be ignored, because orthanc:config:HttpsVerifyPeers is false;"
            " take that out"
        )
    return problems


def check_pair(path: str, given: dict, needed: bool, own: str) -> list[str]:
    """Return what a certificate and its key lack. ``own`` begins the names of own files."""
    there = [name for name in ("certificate", "key") if name in given]
    problems = [
        f"{path}:{name}: missing; give a path on the host, a salt:// URL or the text of a PEM file"
        for name in ("certificate", "key")
        if (needed or there) and name not in there
    ]
    if there and "enabled" not in given:
        problems.append(
            f"{path}:enabled: missing, and without it {path}:{there[0]} protects nothing; set it to"
            " true, or to false to leave it off"
        )
    problems += [
        f"{path}:{name}: must not be a file that the formula itself writes"
        for name, source in given.items()
        if re.fullmatch(rf"/.*/{re.escape(own)}[^/]*", str(source))
    ]
    return problems


def check_https(settings: dict, given: dict) -> list[str]:
    """Return what about HTTPS is missing or contradicts itself."""
    https, dicom, config = settings["https"], settings["dicom"], settings["config"]
    self_signed, behind_nginx = https["self_signed"], https["terminator"] == "nginx"
    own, needed = settings["system"]["own"], https["enabled"] and not self_signed
    problems = check_pair("orthanc:https", given, needed, own)
    if self_signed and {"certificate", "key"} & set(given):
        problems.append(
            "orthanc:https:self_signed: must be false where there are orthanc:https:certificate and"
            " orthanc:https:key"
        )
    if self_signed and "enabled" not in given:
        problems.append("orthanc:https:enabled: missing; set it to true, or leave self_signed out")
    problems += check_headers(https["headers"])
    problems += [
        f"orthanc:https:{key}: is for nginx, and needs orthanc:https:enabled: true and"
        " orthanc:https:terminator: nginx; set these, or take it out"
        for key in ("cors", "headers")
        if https[key] and not (https["enabled"] and behind_nginx)
    ]
    if not https["enabled"]:
        return problems
    options = BEHIND_NGINX if behind_nginx else OWN_HTTPS
    problems += [
        f"orthanc:config:{option}: follows from orthanc:https; the settings are orthanc:port,"
        " orthanc:remote_access and what is below orthanc:https"
        for option in options
        if option in config
    ]
    port, backend = settings["port"], https["backend_port"]
    if behind_nginx and port == backend:
        problems.append(
            f"orthanc:https:backend_port: must not be {port}, which is orthanc:port; nginx listens"
            " there, and Orthanc behind it on a port of its own"
        )
    if behind_nginx and dicom["enabled"] and config.get("DicomPort", dicom["port"]) == port:
        problems.append(f"orthanc:dicom:port: must not be {port}, which is orthanc:port")
    return problems


def check_headers(headers: dict) -> list[str]:
    """Return which headers are not for the administrator to set, or are there twice."""
    problems, known = [], set()
    for name in headers:
        plain_name, where = name.lower(), f"orthanc:https:headers:{name}"
        if plain_name.startswith("access-control-"):
            problems.append(
                f"{where}: depends on who asks; list the origins in orthanc:https:cors, and take it"
                " out"
            )
        elif plain_name in FIXED_HEADERS:
            problems.append(f"{where}: is set by nginx and Orthanc, for each answer; take it out")
        elif plain_name in known:
            problems.append(f"{where}: is there already, in other letters; take one of them out")
        known.add(plain_name)
    return problems


def check_dicom_tls(settings: dict, given: dict) -> list[str]:
    """Return what about DICOM TLS is missing."""
    tls = settings["dicom"]["tls"]
    problems = check_pair("orthanc:dicom:tls", given, tls["enabled"], settings["system"]["own"])
    if tls["enabled"] and tls["require_certificate"] and "trusted_certificates" not in given:
        problems.append(
            "orthanc:dicom:tls:trusted_certificates: missing; give the certificate of the authority"
            " that signed those of the devices, or set orthanc:dicom:tls:require_certificate to"
            " false to let in devices without one"
        )
    return problems


def check_paths(settings: dict) -> list[str]:
    """Return what is wrong with the folders that the formula closes to others."""
    paths, user = settings["paths"], settings["system"]["user"]
    closed = {name: paths[name] for name in ("config", "home", "storage", "index", "log")}
    problems = []
    for name in settings["moved_paths"]:
        path, where = closed.get(name), f"orthanc:paths:{name}"
        if not path:
            continue
        if OF_OTHERS.fullmatch(path):
            problems.append(
                f"{where}: {path} is for others too, and would be closed to them; choose a folder"
                f" below it, such as {path.rstrip('/')}/orthanc"
            )
        elif name in ("config", "log") and not UNIT_PATH.fullmatch(path):
            problems.append(
                f"{where}: only letters, digits and / . _ + - are possible in this path"
            )
    for name in ("home", "storage", "index", "log"):
        if f"{paths['config']}/".startswith(f"{closed[name]}/"):
            problems.append(
                f"orthanc:paths:config: must not be {paths['config']}, where the account"
                f" {user} writes (orthanc:paths:{name}); choose another folder"
            )
            break
    return problems


def check_host(settings: dict) -> list[str]:
    """Return what the pillar asks for and this host cannot give."""
    problems, system = [], settings["system"]
    bound = settings["config"].get("HttpBindAddresses")
    if isinstance(bound, list) and not set(map(str, bound)) & set(LOCAL_ADDRESSES):
        problems.append(
            "orthanc:config:HttpBindAddresses: must contain 127.0.0.1, where the formula asks"
            " whether Orthanc serves"
        )
    if settings["config"].get("HttpServerEnabled", True) is False:
        problems.append(
            "orthanc:config:HttpServerEnabled: must be true, because the formula asks over HTTP"
            " whether Orthanc serves; leave remote_access at false, so that nobody else gets in"
        )
    if system["package"] not in settings["packages"]:
        problems.append(f"orthanc:packages: must contain {system['package']}, the server itself")
    moved = {"config", "log"} & set(settings["moved_paths"])
    if moved and not system["booted"]:
        problems += [
            f"orthanc:paths:{name}: the package's init script fixes this path; it can be changed"
            " only where systemd runs"
            for name in sorted(moved)
        ]
    return problems


def advice(settings: dict, defaults: dict) -> list[str]:
    """Return what is allowed, and not wise."""
    found = advice_on_gdcm(settings["packages"], settings["config"])
    # A default may be written out.
    is_asked = settings["log_keep"] != defaults["log_keep"]
    if is_asked and not settings["paths"]["log"]:
        found.append(
            "orthanc:log_keep: Orthanc logs into the journal here, which keeps to limits of its own"
            " (journald.conf); take it out, or set orthanc:paths:log to have files"
        )
    elif is_asked and not settings["system"]["booted"]:
        found.append(
            "orthanc:log_keep: systemd does not run here, so there is no timer, and the logs stay;"
            " take it out"
        )
    retention, backup = settings["retention"], settings["backup"]
    is_idle = not retention["rules"] or retention["dry_run"] or retention["unproven"]
    if not is_idle and "drill" not in backup:
        found.append(
            "orthanc:retention: nothing is deleted unless a drill was good in the last 8 days; set"
            " orthanc:backup:drill to weekly"
        )
    if settings["demo_users"] and settings["remote_access"]:
        found.append(
            "orthanc:demo_users: everybody knows their passwords, and one of them may delete all"
            " images; set it to false before there are images of patients"
        )
    found += [
        f"orthanc:https:cors:{number}: whoever is on the network between {origin} and a browser can"
        " change its pages, and with them read and send what the browser's user may; serve the"
        " viewer over https"
        for number, origin in enumerate(settings["https"]["cors"])
        if origin.startswith("http:") and not LOCAL_ORIGIN.match(origin)
    ]
    return found + [
        f"orthanc:plugins:{number}:insecure: nothing says what {plugin['name']} should hold, and it"
        " runs with all rights of Orthanc; give it a source_hash"
        for number, plugin in enumerate(settings["plugins"])
        if "source_hash" not in plugin
    ]
