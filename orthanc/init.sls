#!py
"""
From pillar to a serving Orthanc.

All parts are there whatever the pillar holds, and one that it does not ask for has little to do:
states of other formulas may refer to these. Where the pillar is refused, ``orthanc-pillar`` fails,
and with it all states that require it, which are all others.
"""

PARTS = (
    *("database", "packages", "plugins", "config", "service", "links", "plugins.unused", "https"),
    *("backup_key", "backup", "retention", "routes", "monitoring", "logs"),
)


def run():
    return {"include": [f"orthanc.{part}" for part in PARTS]}
