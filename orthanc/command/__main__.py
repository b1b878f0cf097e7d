"""
What the formula does for this machine, without a Salt master::

    orthanc-formula WORD [ARGUMENTS] [--verbose]

Called by a line in /usr/local/sbin that ``orthanc/masterless.sh`` has written, with the path of
salt-call before the words. Needs nothing but Python and the copy of the formula that it is in.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import secrets
import shutil
import signal
import sys
import tempfile

import call
import places
import removal
import told
import words

MADE = """\
# The pillar of this machine's Orthanc, made for trying out. All keys: pillar.example in
# {formula}
orthanc:
  users:
    admin:
      password: '{password}'
      role: admin
  # Let other machines in, and switch the DICOM server on:
  # remote_access: true
  # dicom:
  #   enabled: true
  #   aet: ORTHANC
"""
LOST = """\
The Orthanc of this machine {has},
and no pillar of an earlier run is known. One for trying out would put an end to that, so nothing
was done. Take the server over as it is; this writes a pillar for it, and changes nothing:
{program} to-pillar secrets=True file=/root/orthanc.sls"""
SERVES = """\
Open        {url}/   (reachable from {reachable from})
Log in      {users}
DICOM       {dicom}
Edit next   {pillar}, then: {program} apply
            All keys with their meaning: {formula}/pillar.example
Ask it      {program} status, errors, access, validate, test, … (all words: {program} help)"""
APPLY = ("state.apply", "orthanc")
# These make a pillar, and need none.
MAKING = ("orthanc_conf.to_pillar", "orthanc_conf.from_role")
PROGRAM = str(places.NAME)
NEXT = """\
The pillar is in {file}. Read its comments, and see what it would change:
{program} test {file}"""
# These ask the server, and need no pillar: they are called when something is wrong.
ASKING = {
    *(f"orthanc.{name}" for name in ("access", "answers", "backend", "echo", "errors", "health")),
    *(f"orthanc.{name}" for name in ("jobs", "log", "modalities", "nagios", "peers", "plugins")),
    *(
        f"orthanc.{name}"
        for name in ("check_network", "restart", "security", "statistics", "system")
    ),
    *(f"orthanc_conf.{name}" for name in ("effective", "options")),
}
# Of these the exit code is a verdict; this is that of none.
VERDICTS, UNKNOWN = ("orthanc.health", "orthanc.nagios"), 3
WITHOUT = """\
There is no pillar to go by; this is told of the server as it is.
{why}
"""


def main(program: str, *given: str) -> int:
    """
    Do what is asked for, and return the exit code: 1 where it failed, 2 where it means nothing, and
    that of the function where one was called.

    program
        The path of salt-call.

    given
        The words that the program was called with.
    """
    # By lines, so that what goes elsewhere stands where it belongs, in a file as well.
    sys.stdout.reconfigure(errors="replace", line_buffering=True)
    arguments = [each for each in given if each != "--verbose"]
    verbose = len(arguments) != len(given)
    known = words.functions(places.FORMULA / "_modules")
    try:
        chosen = words.choose(arguments, known)
    except words.Wrong as err:
        print(f"{PROGRAM}: {err}", file=sys.stderr)
        return 2
    if chosen.what == "help":
        word = chosen.arguments
        print(
            "\n".join(
                words.help_of(*word, PROGRAM, known) if word else words.help_lines(PROGRAM, known)
            )
        )
        return 0
    if os.geteuid():
        print(f"This needs root: sudo {PROGRAM} {' '.join(given)}", file=sys.stderr)
        return _failed(chosen)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        with call.workplace() as work, contextlib.ExitStack() as stack:
            if not chosen.function:
                stack.enter_context(call.alone())
            # What looks at a server works where a disk is full.
            root = places.STATE if _is_state(chosen) else work
            code = _do(call.Salt(program, work, root), chosen, verbose)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        # Who read it has seen enough; what was begun is done.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (call.Failed, OSError) as err:
        print(err, file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\nInterrupted. Call it again: {PROGRAM} {' '.join(given)}", file=sys.stderr)
    return _failed(chosen)


def _failed(chosen: words.Chosen) -> int:
    return UNKNOWN if chosen.function in VERDICTS else 1


def _is_state(chosen: words.Chosen) -> bool:
    return not chosen.function or chosen.function.startswith("state.")


def _end(*_) -> None:
    raise KeyboardInterrupt


def _do(salt: call.Salt, chosen: words.Chosen, verbose: bool) -> int:
    if chosen.what == "remove":
        removal.remove(salt, chosen, chosen.pillar or last())
    if chosen.what == "restore":
        return _restore(salt, chosen, verbose)
    if chosen.function:
        _provide(salt, chosen.function)
        return _call(salt, chosen, verbose)
    tries = chosen.what == "test" or "test=True" in chosen.arguments
    pillar = chosen.pillar or last() or _make(salt, tries)
    _take(salt, pillar)
    if not tries:
        _note(pillar)
    code = _apply(salt, pillar, chosen, verbose)
    if not (code or tries):
        _reached(salt, pillar)
    return code


def last() -> str:
    """
    Return the path of the pillar of the last run, or of the one that was made; an empty text where
    there was none.

    Raises Failed if it is gone.
    """
    text = ""
    if places.LAST.exists():
        # After a crash, anything may stand there.
        text = places.LAST.read_text(encoding="utf-8", errors="replace").replace("\0", "?")
    pillar = text.strip() or (str(places.PILLAR) if places.PILLAR.exists() else "")
    if pillar and not os.path.isfile(pillar):
        raise call.Failed(
            f"The pillar of the last run, {pillar}, is gone. Bring it back, or name another:\n"
            f"{PROGRAM} apply PILLAR-FILE"
        )
    return pillar


def _provide(salt: call.Salt, function: str) -> None:
    """
    Let Salt have the pillar of the last run; where there is none, or a broken one, for what needs
    none the places of the server as it is, and nothing else. Raise Failed for all else.
    """
    why = (
        f"{function} takes the pillar of the last run, and there was none."
        f" Begin with: {PROGRAM} apply"
    )
    try:
        pillar = last()
        if pillar:
            return _take(salt, pillar)
    except call.Failed as err:
        why = str(err)
    if function in ASKING:
        print(WITHOUT.format(why=why), file=sys.stderr, flush=True)
    elif function not in MAKING:
        raise call.Failed(why)
    path, paths = pathlib.Path(salt.work, "none.sls"), salt.ask("orthanc_server.paths").value
    _write(path, json.dumps({"orthanc": {"paths": paths if isinstance(paths, dict) else {}}}))
    _take(salt, str(path))


def _take(salt: call.Salt, pillar: str) -> None:
    for line in salt.take(pillar):
        print(f"Note: {line}")


def _note(pillar: str) -> None:
    """Note which pillar the last run has had."""
    _write(places.LAST, f"{pillar}\n")


def _write(path: pathlib.Path, text: str) -> None:
    """Put a whole new file in place, for root only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, new = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


def _make(salt: call.Salt, tries: bool) -> str:
    """Make a pillar for trying out: one administrator, whose password only this machine knows."""
    found = salt.ask("orthanc.access")
    access = found.value if isinstance(found.value, dict) else {}
    if found.code or not access:
        why = told.refusal(found.errors, "orthanc.access")
        has = f"has a configuration that cannot be read ({why})"
    elif access["users"]:
        has = f"has users already ({access['users']})"
    elif access["reachable from"] == "other hosts":
        has = "serves other hosts already, without users"
    else:
        # Devices, a name of its own: nobody else can say what of it may go.
        by_hand = salt.ask("orthanc_server.by_hand").value
        has = f"was configured by hand ({', '.join(by_hand)})" if by_hand else ""
    if has:
        raise call.Failed(LOST.format(has=has, program=PROGRAM))
    path = pathlib.Path(salt.work, "trial.sls") if tries else places.PILLAR
    _write(path, MADE.format(formula=places.FORMULA, password=secrets.token_hex(12)))
    if tries:
        print("No pillar file was given. Trying what one for trying out would do; it is not kept.")
    else:
        print(f"No pillar file was given. Made one for trying out: {path}")
    return str(path)


def _call(salt: call.Salt, chosen: words.Chosen, verbose: bool) -> int:
    """Call a function, and print what it returns."""
    given = (chosen.function, *chosen.arguments)
    if verbose or _is_state(chosen) or _has_out(chosen.arguments):
        return _code(salt.show(*given))
    answer = salt.ask(*given)
    if answer.errors:
        print(_spoken(told.refusal(answer.errors, chosen.function)), file=sys.stderr)
    value = answer.value
    if chosen.what == "status" and isinstance(value, dict):
        print(_spoken("\n".join([value["verdict"], *told.value(value["reasons"] or "")]).strip()))
    elif value is not None and not answer.code and _is_new_file(chosen):
        print(NEXT.format(file=value, program=PROGRAM))
    elif chosen.function == "orthanc.restart" and value is True:
        print(f"Orthanc was restarted. Whether it serves: {PROGRAM} status")
    elif value is not None:
        print(_spoken("\n".join(told.value(value))))
    if value is None and chosen.function in VERDICTS:
        return UNKNOWN
    return _code(answer.code)


def _is_new_file(chosen: words.Chosen) -> bool:
    """Return whether a pillar was asked for as a file."""
    return chosen.function in MAKING and any(each.startswith("file=") for each in chosen.arguments)


def _spoken(text: str) -> str:
    return told.spoken(text, words.functions(places.FORMULA / "_modules"), PROGRAM)


def _code(code: int) -> int:
    """Return the exit code of a function; Salt's own ones, and signals, mean that it failed."""
    return code if code in range(4) else 1


def _has_out(arguments) -> bool:
    return any(each.startswith("--out") for each in arguments)


def _apply(salt: call.Salt, pillar: str, chosen: words.Chosen, verbose: bool) -> int:
    """Apply the formula, and say what that did and how to reach the server."""
    arguments = [*chosen.arguments]
    tries = chosen.what == "test" or "test=True" in arguments
    if chosen.what == "test" and "test=True" not in arguments:
        arguments.append("test=True")
    print(f"{'Trying' if tries else 'Applying'} the formula with the pillar {pillar}.", flush=True)
    with removal.packages_noted():
        done, changed = _applied(salt, [*APPLY, *arguments], verbose)
    if not done:
        print(
            f"\nNot everything could be done; what failed stands above. The pillar is {pillar}.\n"
            f"When it is put right: {PROGRAM} {chosen.what} {chosen.pillar}".rstrip(),
            file=sys.stderr,
        )
        return 1
    if tries:
        print(f"\nNothing was changed. To do it: {PROGRAM} apply {chosen.pillar}".rstrip())
        return 0
    print()
    if changed:
        print("Orthanc serves with the pillar as it is now.")
    else:
        print("Nothing changed: Orthanc already serves with the pillar as it is.")
    return 0


def _reached(salt: call.Salt, pillar: str) -> None:
    """Say how to reach the server, and what to do next."""
    access = salt.ask("orthanc.access").value
    if isinstance(access, dict):
        users, hint = access.get("users"), f"\n{'':12}passwords: orthanc:users in {pillar}"
        access["users"] = users + hint if users else "without a user: anybody on this host may"
        given = {"pillar": pillar, "program": PROGRAM, "formula": places.FORMULA}
        print("\n" + SERVES.format_map({**dict.fromkeys(("url", "dicom")), **access, **given}))


def _applied(salt: call.Salt, given: list, verbose: bool) -> tuple:
    """Apply states, print what came of it, and return whether that is all, and a change."""
    if verbose or _has_out(given):
        return salt.show(*given, "--state-output=full") == 0, True
    answer = salt.ask(*given)
    if not isinstance(answer.value, dict):
        lines = answer.value if isinstance(answer.value, list) else [answer.errors]
        print("\n".join(map(str, lines)) or f"Salt ended with {answer.code}.", file=sys.stderr)
        print(call.BROKEN, file=sys.stderr)
        return False, False
    run = told.Run(answer.value)
    print(_spoken("\n".join(run.lines())))
    if run.failed:
        print(_spoken("\nWhat failed by itself:\n" + "\n".join(run.failures())))
    return answer.code == 0 and not run.failed and not run.waiting, bool(run.changed)


def _restore(salt: call.Salt, chosen: words.Chosen, verbose: bool) -> int:
    """Make an empty machine the server of a backup."""
    repository, password, host = (*chosen.arguments, "")[:3]
    if not os.path.isfile(password):
        raise call.Failed(f"There is no file {password}.")
    pillar = last()
    if pillar:
        raise call.Failed(
            f"This machine has a pillar already, {pillar}. Apply that, then call\n"
            f"{PROGRAM} restore host={host or 'HOST-OF-THE-BACKUP'}"
        )
    address = repository
    if os.path.exists(repository):
        repository = address = os.path.realpath(repository)
    if os.path.isfile(repository):
        address = pathlib.Path(repository).read_text(encoding="utf-8").strip()
    with removal.packages_noted():
        _need(salt, "restic", "restic")
        if address.startswith("sftp:"):
            _need(salt, "ssh", "openssh-client" if shutil.which("apt-get") else "openssh-clients")
    given = [repository, os.path.realpath(password), *([host] if host else [])]
    answer = salt.ask("orthanc_restore.settings", *given)
    if answer.code or not isinstance(answer.value, dict):
        raise call.Failed(_spoken(told.refusal(answer.errors, "orthanc_restore.settings")))
    pillar, host = answer.value["pillar"], answer.value["host"]
    if not pillar:
        raise call.Failed(
            "This backup is of a server with a master: apply the pillar that it has there, then"
            " call orthanc.restore. The password is in /etc/orthanc-backup already."
        )
    print(f"The pillar is back: {pillar}")
    _take(salt, pillar)
    _note(pillar)
    code = _apply(salt, pillar, words.Chosen("apply"), verbose)
    if code:
        return code
    print("Restoring the images; this takes as long as copying them.", flush=True)
    answer = salt.ask("orthanc.restore", f"host={host}")
    if answer.code:
        why = _spoken(told.refusal(answer.errors, "orthanc.restore"))
        raise call.Failed(
            f"{why}\nThe images are not back yet. When it is put right:"
            f" {PROGRAM} restore host={host}"
        )
    # Which backup it was, and what it lacked.
    print("\n".join(told.value(answer.value)))
    _reached(salt, pillar)
    return 0


def _need(salt: call.Salt, program: str, package: str) -> None:
    """Install the package of a program that is not there."""
    if shutil.which(program) is None:
        answer = salt.ask("pkg.install", package, "refresh=True")
        if answer.code:
            raise call.Failed(f"{package} could not be installed: {answer.errors}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
