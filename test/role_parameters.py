"""The parameters of the GNU Health role, their keys in the pillar, and which tests show them.

``test/unit/test_role_parameters.py`` holds this against the formula, the tests and
``docs/gnuhealth-role.md``.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """Parameters of the role that belong together; names with blanks between them.

    role, pillar
        The parameters, and the keys below ``orthanc:``.
    tests
        The tests that show it, as pytest names them, below ``test/``. Together they run on
        Debian 12, Debian 13 and the stand-in for openSUSE.
    """

    role: str
    pillar: str
    tests: tuple[str, ...]


ON_AND_OFF = "host/test_role.py::test_each_parameter_on_and_off"
SAME = "host/test_the_same_everywhere.py::test_one_pillar_gives_the_same_server"
HTTPS = "host/test_https.py::"
DATABASE = "host/test_postgresql.py::"
PLUGINS = "host/test_plugins.py::"
KEY = "host/test_backup_key.py::"

ROWS = (
    Row("or_overwrite_instances", "overwrite_instances", (ON_AND_OFF,)),
    Row("or_demo_users", "demo_users", (ON_AND_OFF,)),
    Row("or_allow_remote_access", "remote_access", (ON_AND_OFF, SAME)),
    Row("or_enable_dicom", "dicom:enabled", (ON_AND_OFF, SAME)),
    Row("or_limit_find", "limit_find", (ON_AND_OFF,)),
    Row("or_deidentify_dicom", "deidentify_logs", (ON_AND_OFF,)),
    Row("or_packages or_default_packages", "packages", (SAME,)),
    Row("or_port", "port", (ON_AND_OFF,)),
    Row(
        "or_create_links or_link_dir",
        "links:enabled links:dir",
        (
            ON_AND_OFF,
            "host/test_serving.py::test_the_links_lead_to_the_live_folders",
            "host/test_opensuse.py::test_a_folder_for_logs_of_its_own",
        ),
    ),
    Row(
        "or_config_link or_log_link or_data_link or_plugins_link",
        "links:config links:log links:data links:plugins",
        (
            ON_AND_OFF,
            "host/test_serving.py::test_the_links_lead_to_the_live_folders",
            "host/test_opensuse.py::test_a_folder_for_logs_of_its_own",
        ),
    ),
    Row(
        "or_package_version_pinning or_package_version",
        "version",
        (
            ON_AND_OFF,
            "host/test_serving.py::test_version_pins_and_holds_the_package",
            "host/test_opensuse.py::test_a_version_is_pinned_and_held",
        ),
    ),
    Row(
        "or_config_path or_config_dir or_storage_path or_home or_plugins_path",
        "paths:config paths:storage paths:home paths:plugins",
        (
            ON_AND_OFF,
            "host/test_serving.py::test_paths_can_be_moved_before_there_are_images",
            "host/test_opensuse.py::test_the_packages_own_configuration_is_replaced",
        ),
    ),
    Row(
        "or_https or_cert_path or_key_path",
        "https:enabled https:certificate https:key",
        (
            HTTPS + "test_clients_get_https_and_nothing_else",
            HTTPS + "test_the_roles_hold",
        ),
    ),
    Row(
        "or_use_postgresql or_psql_uri or_psql_uri_local or_psql_uri_remote",
        "postgresql:enabled postgresql:uri",
        (
            DATABASE + "test_a_database_on_the_host",
            DATABASE + "test_a_database_on_another_host",
            DATABASE + "test_a_uri_is_taken_as_it_is",
        ),
    ),
    Row(
        "or_psql_db_name or_psql_db_user or_psql_pw or_psql_domain",
        "postgresql:database postgresql:user postgresql:password postgresql:host postgresql:port",
        (
            DATABASE + "test_a_database_on_another_host",
            DATABASE + "test_a_server_that_is_not_verified_is_warned_about",
        ),
    ),
    Row(
        "or_verify_psql or_copy_ownca or_ownca_path or_psql_cert_path",
        "postgresql:verify postgresql:ca_source postgresql:ca",
        (
            DATABASE + "test_a_server_that_is_not_verified_is_warned_about",
            DATABASE + "test_the_certificate_lies_where_the_pillar_says",
            DATABASE + "test_a_file_of_the_administrators_and_a_certificate_that_signed_itself",
        ),
    ),
    Row(
        "or_download_plugins",
        "plugins",
        (
            PLUGINS + "test_a_plugin_from_a_url_serves",
            PLUGINS + "test_a_plugin_that_would_stop_orthanc_changes_nothing",
            PLUGINS + "test_what_leaves_the_pillar_leaves_the_host_and_nothing_else_does",
        ),
    ),
    Row(
        "or_ssh_key or_ssh_dir or_ssh_key_path or_ssh_key_remote_user",
        "backup_key:enabled backup_key:dir backup_key:path backup_key:remote_user",
        (
            KEY + "test_the_key_logs_in_and_nobody_sees_it",
            KEY + "test_a_folder_of_its_own_and_what_is_in_the_way",
        ),
    ),
)
