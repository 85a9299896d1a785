"""OpenStack's Identity service for tests, on SQLite in a folder of its own, behind TLS.

Its administrator (system scope) is `admin` of the domain `default`; everything else is made by its own API.
"""

import grp
import json
import os
import pwd
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

SETTINGS = json.loads(os.environ["SETTINGS"])
FOLDER = SETTINGS["folder"]
CONFIGURATION = os.path.join(FOLDER, "keystone.conf")

# Passwords are hashed as cheaply as can be.
TEXT = """
[DEFAULT]
use_stderr = true
default_log_levels = keystone=WARNING,oslo=ERROR,sqlalchemy=ERROR,alembic=ERROR
[database]
connection = sqlite:///{folder}/keystone.db
[fernet_tokens]
key_repository = {folder}/fernet-keys
[credential]
key_repository = {folder}/credential-keys
[identity]
password_hash_rounds = 4
"""


def manage(*arguments):
    program = os.path.join(os.path.dirname(sys.executable), "keystone-manage")
    subprocess.run([program, "--config-file", CONFIGURATION, *arguments], check=True)


if __name__ == "__main__":
    with open(CONFIGURATION, "w", encoding="utf-8") as file:
        file.write(TEXT.format(folder=FOLDER))
    manage("db_sync")
    # Keystone reads by one connection while it writes by another; the file remembers this.
    sqlite3.connect(os.path.join(FOLDER, "keystone.db")).execute("PRAGMA journal_mode=WAL")
    ours = (pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)
    manage("fernet_setup", "--keystone-user", ours[0], "--keystone-group", ours[1])
    manage("bootstrap", "--bootstrap-password", SETTINGS["password"])

    sys.argv = ["keystone"]
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = CONFIGURATION
    from keystone.server import wsgi
    from werkzeug.serving import run_simple

    keystone = wsgi.initialize_public_application()
    alone = ThreadPoolExecutor(max_workers=1)

    # SQLite has one writer, and what a thread has begun it holds.
    def application(environ, start_response):
        return alone.submit(lambda: list(keystone(environ, start_response))).result()

    run_simple(
        "127.0.0.1",
        SETTINGS["port"],
        application,
        threaded=True,
        ssl_context=(SETTINGS["tls_certificate"], SETTINGS["tls_key"]),
    )
