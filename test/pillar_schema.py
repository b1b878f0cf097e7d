"""The pillar for editors and for Uyuni, made of the formula's own tables and pillar.example.

    python3 test/pillar_schema.py

writes ``orthanc/pillar.schema.json`` (JSON Schema draft 7, which editors read) and
``metadata/form.yml`` (https://www.uyuni-project.org/uyuni-docs/en/uyuni/specialized-guides/salt/).
A test holds both against what this makes.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import pathlib
import re

import yaml

FORMULA = pathlib.Path(__file__).resolve().parent.parent
SCHEMA, FORM = FORMULA / "orthanc/pillar.schema.json", FORMULA / "metadata/form.yml"
# Any name that the administrator chooses.
NAMED = "*"
# Any item of a list.
ITEM = "-"
# A line of pillar.example with a key, commented out or not, and what is said behind it.
KEY = re.compile(r"( *)(?:# )?( *(?:- )?)([\w-]+):(?: .*?(?:  +# (.*))?)?")
PROSE = re.compile(r" *# ( *)(\S.*)")
# Values of which no part is empty, those of which nothing but themselves is null, and others.
SCALARS = ["boolean", "number", "string"]
FILLED, KEPT = {"$ref": "#/definitions/filled"}, {"$ref": "#/definitions/kept"}
DEFINITIONS = {
    "filled": {
        "anyOf": [
            {"type": ["boolean", "number"]},
            {"type": "string", "pattern": r"\S"},
            {"type": "array", "items": FILLED},
            {"type": "object", "additionalProperties": FILLED},
        ]
    },
    "kept": {
        "anyOf": [
            {"type": [*SCALARS, "array"]},
            {"type": "object", "additionalProperties": KEPT},
        ]
    },
}
# What the form asks for, in its order: settings, and groups of them.
ASKED = {
    "": ["port", "remote_access", "limit_find", "packages"],
    "https": ["enabled", "certificate", "key", "self_signed"],
    "dicom": ["enabled", "aet", "port", "check_modality_host"],
    "users": ["password", "role"],
    "modalities": ["AET", "Host", "Port"],
    "postgresql": ["enabled", "host", "port", "database", "user", "password"],
}
NAMES = {"aet": "AET", "AET": "AET", "https": "HTTPS", "dicom": "DICOM", "postgresql": "PostgreSQL"}


def load_map():
    """Return ``orthanc/map.py`` as a module."""
    loader = importlib.machinery.SourceFileLoader("map_file", str(FORMULA / "orthanc/map.py"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("map_file", loader))
    loader.exec_module(module)
    return module


def descriptions(text: str, shape: dict) -> dict[str, str]:
    """Return what pillar.example says of each key, by its path: the lines above or behind it."""
    found: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    above = ""
    for line in text.splitlines():
        key, prose = KEY.fullmatch(line), PROSE.fullmatch(line)
        level = len(key[1] + key[2]) if key else 0
        outer = [pair for pair in stack if pair[0] < level]
        path = [*(name for _, name in outer), key[3]] if key else []
        if key and is_in(path, {"orthanc": shape}):
            stack = [*outer, (level, key[3])]
            # Of several examples the first one tells.
            found.setdefault(":".join(path), sentence(key[4] or above))
            above = ""
        elif prose and not prose[2].startswith("- "):
            above += ("\n" if prose[1] else " ") + " ".join(prose[2].split())
        else:
            above = ""
    return found


def is_in(path: list[str], shape) -> bool:
    """Return whether a shape has a key; a name that the administrator chooses may be any."""
    for key in path:
        while isinstance(shape, list):
            shape = shape[0]
        if not isinstance(shape, dict):
            return False
        chosen = [below for name, below in shape.items() if not isinstance(name, str)]
        if key not in shape and not chosen:
            return False
        shape = shape.get(key, *chosen)
    return True


def sentence(text: str) -> str:
    """Return a text with a capital letter first and a point last."""
    text = text.strip().rstrip(":")
    return text and text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


class Pillar:
    """The keys of the pillar: their shapes, their descriptions and their defaults."""

    def __init__(self) -> None:
        self.map = load_map()
        self.told = descriptions((FORMULA / "pillar.example").read_text(), self.map.SHAPE)
        self.defaults = yaml.safe_load((FORMULA / "orthanc/defaults.yaml").read_text())

    def example(self, path: list[str]) -> str:
        """Return the path that a key has in pillar.example, where names are chosen."""
        keys = ["[^:]+" if key == NAMED else re.escape(key) for key in path if key != ITEM]
        pattern = re.compile(":".join(keys))
        matching = [known for known in self.told if pattern.fullmatch(known) and self.told[known]]
        return matching[0] if matching else ""

    def description(self, path: list[str], value) -> str:
        """Return what is said of a key, and what it must be."""
        said = self.told.get(self.example(["orthanc", *path]), "")
        if not said and len(path) > 1:
            # Said together with what it is part of.
            said = self.told.get(self.example(["orthanc", *path[:-1]]), "")
        wanted = value.wanted if isinstance(value, self.map.Value) else ""
        if wanted in ("", "anything"):
            return said
        return f"{said} Must be {wanted}.".strip()

    def default(self, path: list[str]):
        """Return the default of a key, None where there is none on every system."""
        found = self.defaults
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        return None if path[0] in ("paths", "config") else found

    def schema(self) -> dict:
        """Return the schema of a pillar file."""
        return {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "Pillar of orthanc-formula",
            "type": "object",
            "properties": {"orthanc": self._of(self.map.SHAPE, [])},
            "definitions": DEFINITIONS,
        }

    def _of(self, shape, path: list[str]) -> dict:
        """Return the schema of a part of the pillar."""
        found = {}
        if path and path[-1] not in (NAMED, ITEM) and self.description(path, shape):
            found["description"] = self.description(path, shape)
        if path and self.default(path) is not None:
            found["default"] = self.default(path)
        if shape is self.map.ENTRY:
            return {**found, **FILLED}
        if shape is self.map.OPTION:
            return {**found, "anyOf": [{"type": "null"}, KEPT]}
        if isinstance(shape, self.map.Value):
            return {**found, **anchored(shape.schema)}
        if isinstance(shape, list):
            return {**found, "type": "array", "items": self._of(shape[0], [*path, ITEM])}
        names = [key for key in shape if isinstance(key, self.map.Value)]
        if names:
            below = self._of(shape[names[0]], [*path, NAMED])
            found["propertyNames"] = anchored(names[0].schema)
            found["properties"] = self._taken_out(path)
            return {**found, "type": "object", "additionalProperties": below}
        below = {key: self._of(item, [*path, key]) for key, item in shape.items()}
        return {**found, "type": "object", "properties": below, "additionalProperties": False}

    def _taken_out(self, path: list[str]) -> dict:
        """Return the schemas of what is below an option and may be taken out by null."""
        found: dict = {}
        for place in self.map.TAKEN_OUT:
            *above, option, key = place.split(":")
            if above == ["orthanc", *path]:
                kept = {"type": ["object", "null"], "properties": {}, "additionalProperties": KEPT}
                found.setdefault(option, kept)["properties"][key] = {}
        return found

    def form(self) -> dict:
        """Return the form of Uyuni, for the main settings."""
        form = {"$type": "namespace"}
        form.update({key: self._field([key], self.map.SHAPE[key]) for key in ASKED[""]})
        for group in ("https", "dicom", "postgresql"):
            form[group] = {"$type": "group", "$name": name_of(group)}
            for key in ASKED[group]:
                field = self._field([group, key], self.map.SHAPE[group][key])
                if key != "enabled":
                    field["$visible"] = "this.parent.value.enabled == true"
                form[group][key] = field
        [user] = self.map.SHAPE["users"].values()
        device = {"AET": self.map.AET, "Host": self.map.HOST, "Port": self.map.PORT}
        for group, shape in (("users", user), ("modalities", device)):
            fields = {key: self._field([group, NAMED, key], shape[key]) for key in ASKED[group]}
            fields = {key: {**field, "$required": True} for key, field in fields.items()}
            form[group] = {
                "$type": "edit-group",
                "$name": name_of(group),
                "$minItems": 0,
                "$help": self.description([group], None),
                "$prototype": {"$key": {"$type": "text", "$name": "Name"}, **fields},
            }
        return {"orthanc": form}

    def _field(self, path: list[str], value) -> dict:
        """Return the field of a key."""
        field = {"$name": name_of(path[-1]), "$help": self.description(path, value)}
        default = self.default(path)
        if isinstance(value, list):
            prototype = self._field([*path, ITEM], value[0])
            return {
                **field,
                "$type": "edit-group",
                "$minItems": 0,
                "$default": default,
                "$prototype": {**prototype, "$name": "Name"},
            }
        schema = value.schema
        if "enum" in schema:
            field.update({"$type": "select", "$values": schema["enum"]})
        else:
            kinds = {"boolean": "boolean", "integer": "number", "string": "text"}
            field["$type"] = "password" if value is self.map.PASSWORD else kinds[schema["type"]]
        if "pattern" in schema and value is not self.map.PASSWORD:
            field["$match"] = f"^(?:{schema['pattern']})$"
        if default is not None:
            field["$default"] = default
        elif not {NAMED, ITEM} & set(path):
            # Otherwise a field that is left empty is sent as null.
            field["$optional"] = True
        return field


def anchored(schema: dict) -> dict:
    """Return a schema with patterns for a part of the text, and for no text of blanks alone."""
    found = dict(schema)
    if "anyOf" in found:
        found["anyOf"] = [anchored(each) for each in found["anyOf"]]
    if "pattern" in found:
        found["pattern"] = rf"^(?=[\s\S]*\S)(?:{found['pattern']})$"
    return found


def name_of(key: str) -> str:
    """Return a key in words."""
    return NAMES.get(key) or (key[0].upper() + key[1:]).replace("_", " ")


def texts() -> dict[pathlib.Path, str]:
    """Return what the files must hold."""
    pillar = Pillar()
    made = "# Made by test/pillar_schema.py.\n"
    form = yaml.safe_dump(pillar.form(), sort_keys=False, width=100, allow_unicode=True)
    return {SCHEMA: json.dumps(pillar.schema(), indent=2) + "\n", FORM: made + form}


if __name__ == "__main__":
    for path, text in texts().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
