"""Salt's own compiler on the formula, without a host: from pillar and grains to the low state."""

import copy
import pathlib

import pytest
import salt._logging
import salt.state
import yaml
from saltfactories.utils.functional import Loaders

# Otherwise Salt repeats on stderr, after pytest's last line, what states logged on purpose.
salt._logging.shutdown_temp_handler()

try:
    from salt.utils.secret import hide
except ImportError:
    # Before 3008, Salt hides nothing of a pillar.
    hide = dict

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
    # With a pillar that it has at its start, as salt-call does it, no call compiles one of its own.
    defaults = {"file_client": "local", "fileserver_list_cache_time": 0, "__cli": "salt-call"}
    daemon = salt_factories.salt_minion_daemon("render", defaults=defaults)
    roots = pathlib.Path(daemon.config["file_roots"]["base"][0])
    for part in ("orthanc", "_modules", "_states"):
        (roots / part).symlink_to(FORMULA / part)
    pillar = pathlib.Path(daemon.config["pillar_roots"]["base"][0])
    (pillar / "top.sls").write_text("base: {'*': [orthanc]}")
    (pillar / "orthanc.sls").write_text("orthanc: {}")
    return daemon


@pytest.fixture(scope="session")
def loaders(minion):
    """Salt's loaders on that minion."""
    return Loaders(minion.config.copy())


@pytest.fixture
def compiled(loaders):
    """A function that compiles SLSes one after the other and gives the low state of each, in order.

    As ``state.show_low_sls`` of ``salt-call`` does it, which has compiled the pillar already.
    """
    tree = pathlib.Path(loaders.opts["pillar_roots"]["base"][0])

    def compiled(names, pillar, family="Debian", init="systemd"):
        # For what compiles it anew.
        (tree / "orthanc.sls").write_text(yaml.safe_dump({"orthanc": pillar}))
        opts = copy.deepcopy(loaders.opts)
        opts["grains"].update(GRAINS[family], init=init)
        given = hide({"orthanc": copy.deepcopy(pillar)})
        # Salt takes longer to get ready than to compile an SLS.
        with salt.state.HighState(opts, initial_pillar=given) as compiler:
            for sls in names:
                # It adds to what it has compiled before.
                compiler.building_highstate = type(compiler.building_highstate)()
                high, errors = compiler.render_highstate({"base": [sls]})
                errors += compiler.state.verify_high(high)
                assert not errors
                low = compiler.state.compile_high_data(high)
                if isinstance(low, tuple):
                    # Since Salt 3008, with what is wrong of it.
                    low, errors = low
                    assert not errors
                yield sls, low

    return compiled


@pytest.fixture
def render(compiled):
    """A function that compiles one SLS and returns its low state."""

    def render(sls, pillar, **host):
        ((_, low),) = compiled([sls], pillar, **host)
        return low

    return render


@pytest.fixture
def states(loaders):
    """Salt's states, called as ``state.single`` does."""
    return loaders.states
