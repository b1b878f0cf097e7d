"""Salt's own compiler on the formula, without a host: from pillar and grains to the low state."""

import pathlib

import pytest
import salt._logging
import yaml
from saltfactories.utils.functional import Loaders

# Otherwise Salt repeats on stderr, after pytest's last line, what states logged on purpose.
salt._logging.shutdown_temp_handler()

FORMULA = pathlib.Path(__file__).resolve().parents[2]
GRAINS = {
    "Debian": {"os": "Debian", "os_family": "Debian"},
    "Suse": {"os": "SUSE", "os_family": "Suse"},
    "RedHat": {"os": "Rocky", "os_family": "RedHat"},
}


@pytest.fixture(scope="session")
def salt_factories_config(tmp_path_factory):
    return {"root_dir": str(tmp_path_factory.mktemp("salt")), "start_timeout": 60}


@pytest.fixture(scope="session")
def minion(salt_factories):
    """A masterless minion of pytest-salt-factories that serves the formula."""
    defaults = {"file_client": "local", "fileserver_list_cache_time": 0}
    daemon = salt_factories.salt_minion_daemon("render", defaults=defaults)
    roots = pathlib.Path(daemon.config["file_roots"]["base"][0])
    for part in ("orthanc", "_modules", "_states"):
        (roots / part).symlink_to(FORMULA / part)
    return daemon


@pytest.fixture(scope="session")
def loaders(minion):
    """Salt's loaders on that minion."""
    return Loaders(minion.config.copy())


@pytest.fixture
def render(loaders):
    """A function that compiles an SLS and returns its low state, in order."""
    tree = pathlib.Path(loaders.opts["pillar_roots"]["base"][0])
    (tree / "top.sls").write_text("base: {'*': [orthanc]}")

    def render(sls, pillar, family="Debian", init="systemd"):
        (tree / "orthanc.sls").write_text(yaml.safe_dump({"orthanc": pillar}))
        grains = {**GRAINS[family], "init": init}
        if not grains.items() <= loaders.opts["grains"].items():
            # Salt 3006 copies the grains into the modules when it loads them.
            loaders.reload_all()
            loaders.opts["grains"].update(grains)
        # An empty mapping would leave what the loaders found in the pillar when they began.
        loaders.opts["pillar"].clear()
        low = loaders.modules.state.show_low_sls(sls)
        assert all(isinstance(chunk, dict) for chunk in low), low
        return low

    return render


@pytest.fixture
def states(loaders):
    """Salt's states, called as ``state.single`` does."""
    return loaders.states
