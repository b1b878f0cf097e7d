"""Two scripts that define one callback, in a real Lua."""

import lupa
import orthanc_lua
import pytest

DEFINES = "function OnStoredInstance() return 'NAME' end"


def overridden(*scripts):
    """Load scripts with the probe before each of them; return what it found and what is there."""
    lua, said = lupa.LuaRuntime(), []
    lua.globals().print = lambda text: said.append(f"W LuaContext.cpp:94] Lua says: {text}")
    texts = {f"/{number}.lua": script for number, script in enumerate(scripts)}
    for path in orthanc_lua.watched(list(texts)):
        lua.execute(texts.get(path) or orthanc_lua.probe()["text"])
    return orthanc_lua.overridden(said, list(texts)), lua


@pytest.mark.parametrize(
    "scripts",
    [
        (DEFINES,),
        (DEFINES, "function OnStableStudy() end"),
        # Twice in one script is for its author to know.
        (DEFINES + "\n" + DEFINES, "x = 1"),
        (DEFINES, "local function OnStoredInstance() end"),
        (DEFINES, f"--[[ {DEFINES} ]] -- {DEFINES}"),
        (DEFINES, f"text = [[{DEFINES}]]"),
        (DEFINES, f"if false then {DEFINES} end"),
        (DEFINES, f"local before = OnStoredInstance {DEFINES}"),
        (DEFINES, f"OnStoredInstance = nil {DEFINES}"),
        (f"function f() {DEFINES} end", DEFINES),
        # What no callback is: a helper that is the same in both, a table.
        *(2 * (f"{what} = function() end",) for what in ("helper", "Only", "filter", "onChange")),
        2 * ("OnStoredInstance = {}",),
    ],
)
def test_no_false_alarms(scripts):
    assert overridden(*scripts)[0] == []


@pytest.mark.parametrize(
    ("name", "second"),
    [
        *((name, f"function {name}() end") for name in ("OnStoredInstance", "Initialize")),
        *(
            (name, f"{name} = function() end")
            for name in ("ReceivedInstanceFilter", "OutgoingFindRequestFilter", "OnHeartBeat")
        ),
        ("OnStoredInstance", f"if true then load([[{DEFINES}]])() end"),
    ],
)
def test_what_the_last_one_would_take_away(name, second):
    first = f"function {name}() end"
    found, _ = overridden("x = 1", first, "y = 2", second)
    ((path, sentence),) = found
    assert path == ["LuaScripts", "3"]
    assert f"/3.lua defines {name}, as /1.lua does" in sentence


def test_each_is_named_once_and_one_script_twice_is_no_harm():
    found, _ = overridden(DEFINES, DEFINES + "\n" + DEFINES, DEFINES)
    assert [path for path, _ in found] == [["LuaScripts", "1"], ["LuaScripts", "2"]]
    said = ["formula-probe OnStoredInstance 0 1 ."]
    assert orthanc_lua.overridden(said, ["/a.lua", "/a.lua"]) == []


def test_scripts_work_as_without_the_probe():
    _, lua = overridden(
        "function helper() return 1 end function OnStoredInstance() return helper() end",
        "local before = OnStoredInstance"
        " function OnStoredInstance() return before() + helper() end",
        "total = OnStoredInstance()",
    )
    assert lua.globals().total == 2
    assert lua.eval("OnStoredInstance()") == 2
    assert lua.eval("OnStableStudy == nil and nothing == nil")


def test_the_script_that_is_not_got_to_the_end_of():
    scripts = {"/a.lua": "x = 1", "/b.lua": "error('no')", "/c.lua": "y = 2"}
    lua, said = lupa.LuaRuntime(), []
    lua.globals().print = lambda text: said.append(f"W LuaContext.cpp:94] Lua says: {text}")
    assert orthanc_lua.loading(said, list(scripts)) is None
    with pytest.raises(lupa.LuaError):
        for path in orthanc_lua.watched(list(scripts)):
            lua.execute(scripts.get(path) or orthanc_lua.probe()["text"])
    assert orthanc_lua.loading(said, list(scripts)) == "/b.lua"
    assert orthanc_lua.loading(["formula-probe loads 3 ."], list(scripts)) is None
