"""The deployment page: every command exists, every file is what its program accepts, and a study runs behind a proxy."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import click
import pytest
import yaml

from psychophysics_server.bots.fleet import run_bots, wait_until_ready
from psychophysics_server.bots.ordeal import free_port
from psychophysics_server.cli import study as study_commands
from psychophysics_server.monitoring.verify import verify
from psychophysics_server.storage.database import existing_database
from psychophysics_server.study.frozen import Library
from stimuli.cli import stimuli as stimuli_commands

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "deploy.md"
FILES = ROOT / "docs" / "deploy"
COMMAND = "from psychophysics_server.cli import study; study()"


def commands_in(text):
    """Yield the words after `limen` of every command in a text."""
    joined = text.replace("\\\n", " ")
    for found in re.finditer(r"\blimen ((?:study|stimuli) [^`\n#—]*)", joined):
        with contextlib.suppress(ValueError):
            yield shlex.split(found[1].split("  ")[0].rstrip(" '"))


def parse(words):
    """Find the command that the words name, and check each of its options."""
    group = {"study": study_commands, "stimuli": stimuli_commands}[words[0]]
    rest = list(words[1:])
    while isinstance(group, click.Group):
        name = rest.pop(0).rstrip(".,;:)")
        assert name in group.commands, f"limen {' '.join(words)}: no command '{name}'"
        group = group.commands[name]
    known = {option for parameter in group.params for option in parameter.opts}
    for word in rest:
        if word.startswith("-") and word != "-":
            assert word.rstrip(".,;:)") in known, f"limen {' '.join(words)}: no option '{word}'"


def test_every_command_of_the_page_and_of_its_files_exists():
    texts = [PAGE.read_text(), *(path.read_text() for path in sorted(FILES.iterdir()))]
    found = [words for text in texts for words in commands_in(text) if len(words) > 1]
    assert len(found) > 20
    for words in found:
        parse(words)


def test_the_command_of_the_image_exists():
    text = (FILES / "Dockerfile").read_text().replace("\\\n", " ")
    words = yaml.safe_load(re.findall(r"^CMD (\[.*\])", text, re.MULTILINE)[-1])
    assert words[0] == "limen"
    parse(words[1:])


def test_every_file_is_told_of_on_the_page():
    told = PAGE.read_text() + (FILES / "Dockerfile").read_text()
    for path in FILES.iterdir():
        assert path.name in told or "Docker file" in told, path.name


def test_the_secrets_of_the_example_are_ones_that_the_server_reads():
    names = re.findall(r"^#?(LIMEN_[A-Z_]+)=", (FILES / "limen.env").read_text(), re.MULTILINE)
    source = "".join(path.read_text() for path in (ROOT / "psychophysics_server").rglob("*.py"))
    assert len(names) >= 4
    for name in names:
        assert name in source or re.sub(r"_[A-Z]+$", "", name) in source, name
    assert not re.search(r"^LIMEN_[A-Z_]+=.+", (FILES / "limen.env").read_text(), re.MULTILINE)


def test_the_packages_of_the_server_are_declared_by_the_distribution():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in declared}
    wanted = [line for line in (FILES / "server-requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert {line.split("[")[0] for line in wanted} <= names
    assert "torch" not in wanted


def test_the_alerts_ask_for_metrics_that_there_are():
    rules = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"][0]["rules"]
    source = (ROOT / "psychophysics_server" / "monitoring" / "metrics.py").read_text()
    asked = {name for rule in rules for name in re.findall(r"\blimen_\w+", rule["expr"])}
    assert asked
    for name in asked:
        assert f'"{re.sub("_(total|bucket)$", "", name)}"' in source, name


def test_the_unit_is_one_that_systemd_accepts(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("SYSTEMD UNIT NOT CHECKED: no systemd-analyze on the PATH")
    for name in ("limen.service", "limen-backup.service", "limen-backup.timer"):
        text = re.sub(r"/opt/limen/bin/limen\b", sys.executable, (FILES / name).read_text())
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if "limen" in line]
    assert said == []


@contextlib.contextmanager
def served(study, folder):
    """Serve a study as the unit does, behind a proxy."""
    path, port = folder / "study.yaml", free_port()
    path.write_text(yaml.safe_dump(study.file.model_dump(mode="json")))
    store = study.artifact.path.parent.parent
    words = ["serve", str(path), "--store", str(store), "--db", str(folder / "answers.sqlite"), "--port", str(port)]
    words += ["--behind-proxy", "--allowed-host", "127.0.0.1", "--log", "json"]
    with started([sys.executable, "-c", COMMAND, *words], folder / "server.log") as process:
        wait_until_ready(f"http://127.0.0.1:{port}", patience_s=60)
        yield port, process
    assert process.returncode == 0


@contextlib.contextmanager
def started(words, log):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(log.parent)}
    with log.open("wb") as stream:
        process = subprocess.Popen(words, env=environment, stdout=stream, stderr=stream)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            finally:
                process.kill()
                process.wait(60)


def get(url):
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def a_study_runs_through(url, study, folder):
    """What a proxy must let through, keep back, and send by itself."""
    journeys = run_bots(study, url=url, n=3, seed=7, threads=3)
    assert {journey.outcome for journey in journeys} <= {"complete", "left"}
    assert any(journey.code.startswith("BOT-") for journey in journeys)
    database = existing_database(folder / "answers.sqlite")
    try:
        assert verify(database, Library(study.artifact.path.parent.parent)).faults == []
    finally:
        database.close()
    name, path = next(iter(study.pictures.items()))
    status, headers, sent = get(f"{url}/stimuli/{name}.png")
    assert (status, sent) == (200, path.read_bytes())
    assert "immutable" in headers["Cache-Control"]
    for hidden in (
        "trials.parquet",
        "../trials.parquet",
        f"{study.key}/trials.parquet",
        "study.json",
        "0" * 64 + ".png",
    ):
        assert get(f"{url}/stimuli/{hidden}")[0] == 404
    assert get(f"{url}/metrics")[0] == 404
    assert get(f"{url}/readyz")[0] == 200
    status, headers, _ = get(f"{url}/study/{study.file.study}/?PROLIFIC_PID=5f3a0000000000000000abcd")
    assert status in {200, 503}
    assert "Content-Security-Policy" in headers
    script = Path(__file__).parents[2] / "psychophysics_server" / "static" / "dist" / "manifest.json"
    if script.is_file():
        assert get(f"{url}/static/dist/manifest.json")[2] == script.read_bytes()
    logs = "".join(path.read_text(errors="replace") for path in folder.rglob("*.log"))
    assert "5f3a0000000000000000abcd" not in logs


def pictures_come_from_the_proxy(url, study, process):
    """With the server stopped, what lies on the disk is still sent, and the rest is a 502."""
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    name, path = next(iter(study.pictures.items()))
    assert get(f"{url}/stimuli/{name}.png")[::2] == (200, path.read_bytes())
    assert get(f"{url}/healthz")[0] in {502, 503}


@pytest.mark.long
def test_a_study_runs_behind_nginx(build, tmp_path):
    nginx = shutil.which("nginx") or (Path("/usr/sbin/nginx").is_file() and "/usr/sbin/nginx")
    if not nginx:
        pytest.skip("NGINX CONFIGURATION NOT TESTED: no nginx on the PATH (Debian: apt-get install nginx)")
    study = build()
    with served(study, tmp_path) as (port, process):
        front = free_port()
        site = (FILES / "nginx.conf").read_text()
        site = site[: site.index("# Whoever asks")] + "server {" + site.rpartition("\nserver {")[2]
        for pattern, text in {
            r"listen 443 ssl http2;": f"listen 127.0.0.1:{front};",
            r"listen \[::\].*\n": "\n",
            r"ssl_.*\n": "\n",
            r"127\.0\.0\.1:8000": f"127.0.0.1:{port}",
            r"server_name .*;": "server_name 127.0.0.1;",
            r"/srv/limen/store": str(study.artifact.path.parent.parent),
            r"STIMULI_KEY": study.key,
            r"/opt/limen/lib/python3.11/site-packages": str(ROOT),
            r"/var/log/nginx/limen.log": str(tmp_path / "nginx.log"),
            r"proxy_set_header X-Forwarded-Proto \$scheme": "proxy_set_header X-Forwarded-Proto https",
        }.items():
            site = re.sub(pattern, text, site)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        places = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
        whole = f"daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/start.log;" + (
            "user root;" if os.geteuid() == 0 else ""
        )
        whole += f" events {{}} http {{ default_type application/octet-stream; {places}\n{site}\n}}"
        (tmp_path / "nginx.conf").write_text(whole)
        words = [str(nginx), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
        checked = subprocess.run([*words, "-t"], capture_output=True, text=True, timeout=120, check=False)
        assert checked.returncode == 0, checked.stderr
        with started(words, tmp_path / "nginx-out.log"):
            url = f"http://127.0.0.1:{front}"
            wait_until_ready(url, patience_s=30)
            a_study_runs_through(url, study, tmp_path)
            pictures_come_from_the_proxy(url, study, process)


@pytest.mark.long
def test_a_study_runs_behind_caddy(build, tmp_path):
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("CADDY CONFIGURATION NOT TESTED: no caddy on the PATH (Debian: apt-get install caddy)")
    study = build()
    with served(study, tmp_path) as (port, process):
        front = free_port()
        site = (FILES / "Caddyfile").read_text()
        site = site.replace("{\n\t# No `log`", "{\n\tadmin off\n\tauto_https off\n\t# No `log`", 1)
        for old, new in {
            "\nstudy.example.org {": f"\nhttp://127.0.0.1:{front} {{",
            "127.0.0.1:8000": f"127.0.0.1:{port}",
            "/srv/limen/store": str(study.artifact.path.parent.parent),
            "STIMULI_KEY": study.key,
            "/opt/limen/lib/python3.11/site-packages": str(ROOT),
        }.items():
            assert old in site
            site = site.replace(old, new)
        (tmp_path / "Caddyfile").write_text(site)
        words = [caddy, "run", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
        with started(words, tmp_path / "caddy.log"):
            url = f"http://127.0.0.1:{front}"
            wait_until_ready(url, patience_s=30)
            a_study_runs_through(url, study, tmp_path)
            pictures_come_from_the_proxy(url, study, process)


@pytest.mark.long
def test_the_whole_nginx_file_is_valid(tmp_path):
    nginx = shutil.which("nginx") or (Path("/usr/sbin/nginx").is_file() and "/usr/sbin/nginx")
    openssl = shutil.which("openssl")
    if not nginx or openssl is None:
        pytest.skip("NGINX CONFIGURATION NOT TESTED: no nginx or no openssl on the PATH")
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=study.example.org"]
    subprocess.run(
        [*made, "-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem"],
        check=True,
        capture_output=True,
    )
    site = (FILES / "nginx.conf").read_text().replace("/etc/letsencrypt/live/study.example.org", str(tmp_path))
    site = site.replace("/var/log/nginx/limen.log", str(tmp_path / "limen.log"))
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/e.log; events {{}} http {{ {site} }}"
    )
    done = subprocess.run(
        [str(nginx), "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr
