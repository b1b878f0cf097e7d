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
# The words of shapes that JSON Schema has for single values.
PLAIN = ("type", "minimum", "maximum", "pattern", "format", "enum", "anyOf")
# What a key means that only one of several forms has; others are directives.
OF_FORMS = {"days": "For how many days it is kept."}
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


def read(name: str):
    """Return what a Python file of the formula's SLS side gives."""
    path = FORMULA / name
    loader = importlib.machinery.SourceFileLoader(path.stem, str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(path.stem, loader))
    loader.exec_module(module)
    return module.run()


def descriptions(text: str, is_key) -> dict[str, str]:
    """Return what pillar.example says of each key, by its path: the lines above or behind it."""
    found: dict[str, str] = {}
    stack: list[tuple[int, str]] = []
    above, row = "", ""
    for line in text.splitlines():
        key, prose = KEY.fullmatch(line), PROSE.fullmatch(line)
        level = len(key[1] + key[2]) if key else 0
        outer = [pair for pair in stack if pair[0] < level]
        path = [*(name for _, name in outer), key[3]] if key else []
        if key and path[0] == "orthanc" and is_key(path[1:]):
            stack = [*outer, (level, key[3])]
            # Of several examples the first one tells.
            found.setdefault(":".join(path), sentence(key[4] or above))
            above, row = "", ""
        # Rows below an example are its value, but for comments.
        elif prose and (above or not prose[1] or prose[2][0] == "#") and prose[2][:2] != "- ":
            # What follows a row of a table stands on a line of its own, as the rows do.
            above += ("\n" if prose[1] or row else " ") + " ".join(prose[2].lstrip("#").split())
            row = prose[1]
        else:
            above, row = "", ""
    return found


def sentence(text: str) -> str:
    """Return a text with a capital letter first and a point last."""
    text = text.strip().rstrip(":")
    return text and text[0].upper() + text[1:] + ("" if text.endswith(".") else ".")


class Pillar:
    """The keys of the pillar: their shapes, their descriptions and their defaults."""

    def __init__(self) -> None:
        self.tables, self.shapes = read("orthanc/pillar.py"), read("_modules/orthanc_shapes.py")
        for part in self.tables["PARTS"]:
            self.tables["KINDS"].update(read(f"orthanc/{part}.py").get("KINDS", {}))
        self.told = descriptions((FORMULA / "pillar.example").read_text(), self.is_key)
        self.defaults = yaml.safe_load((FORMULA / "orthanc/defaults.yaml").read_text())

    def words(self, shape) -> dict:
        """Return the words of a shape."""
        return self.shapes["resolved"](shape, self.tables["KINDS"])

    def at(self, path: list[str]):
        """Return the shape of what stands at a path, whatever the number in a list; or None."""
        shape = self.tables["SHAPE"]
        for key in path:
            if shape and "items" in self.words(shape):
                shape = self.words(shape)["items"]
            shape = shape and self.shapes["below"](shape, key, self.tables["KINDS"])
        return shape

    def is_key(self, path: list[str]) -> bool:
        """Return whether the pillar has a key; a name that the administrator chooses may be any."""
        return self.at(path) is not None

    def example(self, path: list[str]) -> str:
        """Return the path that a key has in pillar.example, where names are chosen."""
        keys = ["[^:]+" if key == NAMED else re.escape(key) for key in path if key != ITEM]
        pattern = re.compile(":".join(keys))
        matching = [known for known in self.told if pattern.fullmatch(known) and self.told[known]]
        return matching[0] if matching else ""

    def description(self, path: list[str], shape=None) -> str:
        """Return what is said of a key, and what it must be."""
        said = self.told.get(self.example(["orthanc", *path]), "")
        if not said and len(path) > 1:
            # Said together with what it is part of.
            said = self.told.get(self.example(["orthanc", *path[:-1]]), "")
        wanted = self.words(shape).get("wanted", "") if shape else ""
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
            "properties": {"orthanc": self._of(self.tables["SHAPE"], [])},
            "definitions": DEFINITIONS,
        }

    def _of(self, shape, path: list[str]) -> dict:
        """Return the schema of a part of the pillar."""
        found = {}
        if path and path[-1] not in (NAMED, ITEM) and self.description(path, shape):
            found["description"] = self.description(path, shape)
        if path and self.default(path) is not None:
            found["default"] = self.default(path)
        words = self.words(shape)
        if words.get("type") == "any":
            # Of what Orthanc is told as it stands nothing may be empty, or nothing but itself.
            return {
                **found,
                **({"anyOf": [{"type": "null"}, KEPT]} if "empty" in words else FILLED),
            }
        if "anyOf" in words and any(self.words(one).get("keys") for one in words["anyOf"]):
            return {**found, "anyOf": [self._one_of(one, path) for one in words["anyOf"]]}
        if "items" in words:
            return {**found, "type": "array", "items": self._of(words["items"], [*path, ITEM])}
        if "each" in words:
            names, below = self.words(words["names"]), self._of(words["each"], [*path, NAMED])
            taken_out = {key: self._taken_out(one) for key, one in words.get("keys", {}).items()}
            found = {
                **found,
                "propertyNames": anchored(self._plain(names)),
                "properties": taken_out,
            }
            return {**found, "type": "object", "additionalProperties": below}
        if "keys" in words:
            below = {key: self._of(item, [*path, key]) for key, item in words["keys"].items()}
            return {**found, "type": "object", "properties": below, "additionalProperties": False}
        return {**found, **anchored(self._plain(shape))}

    def _one_of(self, shape, path: list[str]) -> dict:
        """Return the schema of one of several forms, of which all together are described."""
        found = self._of(shape, path)
        for key, below in found.get("properties", {}).items():
            below["description"] = OF_FORMS.get(key, f"{key}= of systemd.")
        return {k: said for k, said in found.items() if k not in ("description", "default")}

    def _taken_out(self, shape) -> dict:
        """Return the schema of an option of which null may take out what is below it."""
        keys = {key: {} for key in self.words(shape)["keys"]}
        return {"type": ["object", "null"], "properties": keys, "additionalProperties": KEPT}

    def _plain(self, shape) -> dict:
        """Return the words of a single value that JSON Schema has as well."""
        words = {word: said for word, said in self.words(shape).items() if word in PLAIN}
        if "anyOf" in words:
            words["anyOf"] = [
                {"type": "array", "items": self._plain(self.words(one)["items"])}
                if "items" in self.words(one)
                else self._plain(one)
                for one in words["anyOf"]
            ]
        return words

    def form(self) -> dict:
        """Return the form of Uyuni, for the main settings."""
        form = {"$type": "namespace"}
        form.update({key: self._field([key], self.at([key])) for key in ASKED[""]})
        for group in ("https", "dicom", "postgresql"):
            form[group] = {"$type": "group", "$name": name_of(group)}
            for key in ASKED[group]:
                field = self._field([group, key], self.at([group, key]))
                if key != "enabled":
                    field["$visible"] = "this.parent.value.enabled == true"
                form[group][key] = field
        device = {"AET": "aet", "Host": "host", "Port": "port"}
        user = {key: self.at(["users", NAMED, key]) for key in ASKED["users"]}
        for group, keys in (("users", user), ("modalities", device)):
            fields = {key: self._field([group, NAMED, key], keys[key]) for key in ASKED[group]}
            fields = {key: {**field, "$required": True} for key, field in fields.items()}
            form[group] = {
                "$type": "edit-group",
                "$name": name_of(group),
                "$minItems": 0,
                "$help": self.description([group]),
                "$prototype": {"$key": {"$type": "text", "$name": "Name"}, **fields},
            }
        return {"orthanc": form}

    def _field(self, path: list[str], shape) -> dict:
        """Return the field of a key."""
        field = {"$name": name_of(path[-1]), "$help": self.description(path, shape)}
        default = self.default(path)
        words = self.words(shape)
        # Of several forms, the first one is asked for.
        words = self.words(words["anyOf"][0]) if "anyOf" in words else words
        if "items" in words:
            prototype = self._field([*path, ITEM], words["items"])
            return {
                **field,
                "$type": "edit-group",
                "$minItems": 0,
                "$default": default,
                "$prototype": {**prototype, "$name": "Name"},
            }
        if "enum" in words:
            field.update({"$type": "select", "$values": words["enum"]})
        else:
            kinds = {"boolean": "boolean", "integer": "number", "string": "text"}
            field["$type"] = "password" if shape == "password" else kinds[words["type"]]
        if "pattern" in words and shape != "password":
            field["$match"] = f"^(?:{words['pattern']})$"
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
