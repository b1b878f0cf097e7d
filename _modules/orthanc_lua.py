"""
Scripts in Lua, all of which share one context: of two that define one callback, Orthanc calls the
last, and says nothing.

Whether that is so is seen while they are loaded: before each of them, the trial start loads a
probe, which notes who defines what, and which script comes next. A script that reads a callback
before it defines it anew wants to call the one before, and is right.

https://orthanc.uclouvain.be/book/users/lua.html
"""

from __future__ import annotations

import re

# The name of its file, in the folder of the configuration as the trial sees it; nowhere else.
PROBE_NAME = ".formula-probe.lua"
# Callbacks stay out of the table of globals, so that Lua asks for them and tells of each new one.
PROBE = """
local watch = rawget(_G, "ORTHANC_FORMULA_WATCH")
if watch then
  watch.script = watch.script + 1
  watch.say("formula-probe loads " .. watch.script .. " .")
  return
end
watch = {script = 0, say = print}
rawset(_G, "ORTHANC_FORMULA_WATCH", watch)
watch.say("formula-probe loads 0 .")

local say, rawset, type, find = print, rawset, type, string.find
local values, owners, readers = {}, {}, {}

local function is_callback(name)
  return type(name) == "string" and (
    find(name, "^On%u") or find(name, "Filter$") or name == "Initialize" or name == "Finalize")
end

setmetatable(_G, {
  __index = function(_, name)
    if is_callback(name) then
      readers[name] = watch.script
    end
    return values[name]
  end,
  __newindex = function(globals, name, value)
    if not is_callback(name) then
      rawset(globals, name, value)
      return
    end
    local owner = owners[name]
    if type(value) == "function" and type(values[name]) == "function"
      and owner ~= watch.script and readers[name] ~= watch.script then
      say("formula-probe " .. name .. " " .. owner .. " " .. watch.script .. " .")
    end
    values[name], owners[name] = value, watch.script
  end,
})
"""
FOUND = re.compile(r"formula-probe (\w+) (\d+) (\d+) \.")
LOADS = re.compile(r"formula-probe loads (\d+) \.")
# A byte, as orthanc/lua_filter.py escapes it.
ESCAPED = re.compile(rb"\\(\d{3})")


def plain(text):
    """
    Part of the formula. Return a text that the formula has escaped for Lua as it was before.

    text
        The text.
    """
    found = ESCAPED.sub(lambda byte: bytes([int(byte[1])]), text.encode())
    return found.decode(errors="replace")


def watched(scripts):
    """
    Part of the formula. Return the scripts that let Orthanc tell who defines what: the probe before
    each of them, and behind the last one.

    scripts
        The paths of the scripts, in the order in which they are loaded.
    """
    return [path for script in scripts for path in (PROBE_NAME, script)] + [PROBE_NAME]


def probe():
    """
    Part of the formula. Return name and text of the file that ``watched`` needs.
    """
    return {"name": PROBE_NAME, "text": PROBE}


def loading(lines, scripts):
    """
    Part of the formula. Return the path of the script that Orthanc did not get to the end of; None
    where it loaded all of them, or none.

    lines, scripts
        See ``overridden``.
    """
    numbers = LOADS.findall("\n".join(lines))
    return scripts[int(numbers[-1])] if numbers and int(numbers[-1]) < len(scripts) else None


def overridden(lines, scripts):
    """
    Part of the formula. Return which callbacks two scripts define, as pairs of an option's path and
    a sentence.

    lines
        What Orthanc wrote while it loaded ``watched(scripts)``.

    scripts
        The paths of the scripts.
    """
    found = {}
    for name, first, second in FOUND.findall("\n".join(lines)):
        before, after = scripts[int(first)], scripts[int(second)]
        if before == after:
            continue
        found[name, second] = (
            ["LuaScripts", second],
            f"{after} defines {name}, as {before} does, and Orthanc would call the last one only;"
            f" put both into one script, or let {after} call the one before: begin it with"
            f" `local before = {name}` (or with `{name} = nil` if it is to take its place)",
        )
    return list(found.values())
