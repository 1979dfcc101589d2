"""The clients and their environments: one virtual environment or node_modules each, with pinned versions.

Law: an environment is made on first use under build/, from the configured package registries and nothing else, and
made again when its pins change; one that was left half made is never used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import msgspec

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "gateway-clients"
INSTALL_TIMEOUT_S = 300.0


class EnvironmentProblem(Exception):
    """An environment cannot be made; the text is what the installer said."""


class KnownFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault of the client itself: the part of the session that it cannot play below some server version, and why."""

    below: int
    part: str
    why: str


class Client(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One client library, as clients.toml describes it."""

    name: str
    driver: str
    module: str
    server_versions: tuple[int, ...]
    packages: tuple[str, ...] = ()
    node: str = ""
    whole_hello: bool = False
    known_fault: tuple[KnownFault, ...] = ()

    def faults_at(self, server_version: int) -> list[KnownFault]:
        return [fault for fault in self.known_fault if server_version < fault.below]

    @property
    def slug(self) -> str:
        return self.name.replace("@", "").replace("/", "-")

    @property
    def pins(self) -> str:
        """Return what the environment depends on, as text."""
        if not self.node:
            return "\n".join((sys.version, *self.packages))
        return "".join((HERE / self.node / f).read_text("utf-8") for f in ("package.json", "package-lock.json"))


def clients() -> list[Client]:
    """Return every client of clients.toml."""
    data = tomllib.loads((HERE / "clients.toml").read_text("utf-8"))
    return msgspec.convert(data["client"], list[Client])


def command(client: Client, port: int, folder: Path | None = None) -> list[str]:
    """Return how to start a client's driver: in its own environment, or by this Python if there is no folder."""
    driver = str(HERE / "drivers" / client.driver)
    if client.node:
        return ["node", driver, client.module, str(port), str(folder)]
    python = sys.executable if folder is None else str(folder / "bin" / "python")
    return [python, "-X", "dev", driver, client.module, str(port)]


def ready(client: Client) -> Path:
    """Return the folder of a client's environment, made now if need be. Raises EnvironmentProblem."""
    folder = BUILD / client.slug
    mark = folder / ".ready"
    if mark.is_file() and mark.read_text("utf-8") == client.pins:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if client.node:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / client.node / name, folder)
        _install(client, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    else:
        _install(client, [sys.executable, "-m", "venv", str(folder)], folder)
        _install(client, [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps",
                          "--disable-pip-version-check", *client.packages], folder)
    mark.write_text(client.pins, "utf-8")
    return folder


def _install(client: Client, words: list[str], folder: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S,
                              env=environment)
    except FileNotFoundError:
        raise EnvironmentProblem(f"{client.name}: {words[0]} is not on this machine") from None
    except subprocess.TimeoutExpired:
        raise EnvironmentProblem(f"{client.name}: {' '.join(words)}: not done in {INSTALL_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-8:]
        raise EnvironmentProblem(f"{client.name}: {' '.join(words)} failed:\n  " + "\n  ".join(said))
