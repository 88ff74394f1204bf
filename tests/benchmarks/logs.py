"""Writes generated logs of several kinds, on which `auto.py` can be run.

    python tests/benchmarks/logs.py FOLDER

They have what makes real logs hard: sessions of several lines, names that are repeated, numbers
that grow, much that is chance, and an end that is of another time than the rest. The same seed
gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random

HOSTS = ("alder", "birch", "cedar")
USERS = ("maria", "jonas", "root", "backup", "www-data", "li")
JOBS = (
    "cd / && run-parts --report /etc/cron.hourly",
    "/usr/local/bin/rotate-scores --quiet",
    "test -x /usr/sbin/anacron || run-parts /etc/cron.daily",
)
UNITS = ("backup - Nightly copy", "logrotate - Rotate log files", "fstrim - Discard unused blocks")
EVENTS = ("eth0: link becomes ready", "ext4: sda2 re-mounted", "TCP: possible flooding on port 80")
PATHS = ("/", "/static/app.js", "/api/items/%d", "/login", "/images/%d.png", "/search?q=%s")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:124.0) Gecko/20100101 Firefox/124.0",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/122.0.0.0 Safari/537.36",
    "curl/8.5.0",
)
THINGS = ("lamp", "boat", "rope", "net", "oil", "bell")
SERVICES = ("cart", "users", "search", "billing")
START = datetime(2026, 3, 2)


def clock(random: Random, seconds: float) -> Iterator[datetime]:
    """Moments that are so many seconds apart on average."""
    now = START
    while True:
        now += timedelta(seconds=random.expovariate(1 / seconds))
        yield now


def daemons(random: Random) -> Iterator[str]:
    """The system's log of three hosts."""
    for now in clock(random, 40):
        head = f"{now:%b %e %H:%M:%S} {random.choice(HOSTS)}"
        pid, kind = random.randint(1000, 32000), random.random()
        if kind < 0.35:
            user, port = random.choice(USERS), random.randint(32768, 60999)
            address = f"10.0.0.{random.randint(2, 60)} port {port}"
            yield f"{head} sshd[{pid}]: Accepted publickey for {user} from {address}"
            yield f"{head} sshd[{pid}]: session opened for user {user} by (uid=0)"
            if random.random() < 0.7:
                yield f"{head} sshd[{pid}]: session closed for user {user}"
        elif kind < 0.6:
            yield f"{head} CRON[{pid}]: session opened for user root by (uid=0)"
            yield f"{head} CRON[{pid + 1}]: (root) CMD ({random.choice(JOBS)})"
            yield f"{head} CRON[{pid}]: session closed for user root"
        elif kind < 0.85:
            unit = random.choice(UNITS)
            yield f"{head} systemd[1]: Starting {unit}..."
            yield f"{head} systemd[1]: {unit.split()[0]}.service: Deactivated successfully."
            yield f"{head} systemd[1]: Finished {unit}."
        else:
            uptime = (now - START).total_seconds()
            yield f"{head} kernel: [{uptime:.6f}] {random.choice(EVENTS)}"


def web(random: Random) -> Iterator[str]:
    """A web server's, of clients that come, stay and go."""
    clients = list[tuple[str, str]]()
    for now in clock(random, 6):
        if not clients or random.random() < 0.15:
            address = ".".join(str(random.randint(1, 254)) for _ in range(4))
            clients = [*clients[-7:], (address, random.choice(AGENTS))]
        address, agent = random.choice(clients)
        path = random.choice(PATHS)
        path = path.replace("%d", str(random.randint(1, 400)))
        path = path.replace("%s", random.choice(THINGS))
        code = random.choices((200, 304, 404, 302, 500), (80, 10, 5, 4, 1))[0]
        size = random.choice((512, 1843, 20331, random.randint(200, 9000)))
        came = random.choice(("-", "https://shop.example/"))
        stamp = f"[{now:%d/%b/%Y:%H:%M:%S} +0000]"
        yield f'{address} - - {stamp} "GET {path} HTTP/1.1" {code} {size} "{came}" "{agent}"'


def service(random: Random) -> Iterator[str]:
    """A service's, in JSON."""
    for request, now in enumerate(clock(random, 15), 4000):
        name, number = random.choice(SERVICES), random.randint(1, 900)
        stamp = f"{now:%Y-%m-%dT%H:%M:%S}.{random.randint(0, 999):03d}Z"
        same = {"service": name, "trace": f"{random.getrandbits(64):016x}", "request": request}
        started = {"msg": "request started", "path": f"/v1/{name}/{number}"}
        yield json.dumps({"time": stamp, "level": "info", **same, **started})
        if random.random() < 0.2:
            missed = {"msg": random.choice(("cache miss", "cache hit")), "key": f"{name}:{number}"}
            yield json.dumps({"time": stamp, "level": "debug", **same, **missed})
        code = random.choices((200, 201, 404, 500), (85, 6, 6, 3))[0]
        took = {"status": code, "ms": round(random.lognormvariate(3, 1), 1)}
        level = "error" if code == 500 else "info"
        yield json.dumps({"time": stamp, "level": level, **same, "msg": "finished", **took})


def packages(random: Random) -> Iterator[str]:
    """A package manager's, in which invented names are repeated from line to line."""
    for now in clock(random, 2):
        syllables = range(random.randint(2, 4))
        name = "".join(random.choice("bdfklmnprstvz") + random.choice("aeiou") for _ in syllables)
        name = random.choice(("lib", "", "python3-")) + name + random.choice(("", "-dev", "2"))
        version = f"{random.randint(0, 9)}.{random.randint(0, 30)}-{random.randint(1, 5)}"
        stamp, what = f"{now:%Y-%m-%d %H:%M:%S}", f"{name}:amd64 {version}"
        yield f"{stamp} install {name}:amd64 <none> {version}"
        yield f"{stamp} status half-installed {what}"
        yield f"{stamp} status unpacked {what}"
        yield f"{stamp} configure {what} <none>"
        yield f"{stamp} status unpacked {what}"
        yield f"{stamp} status half-configured {what}"
        yield f"{stamp} status installed {what}"


def sensors(random: Random) -> Iterator[str]:
    """Measurements, comma-separated, of values that wander."""
    values = dict.fromkeys(range(6), 20.0)
    for now in clock(random, 10):
        for sensor in values:
            values[sensor] += random.gauss(0, 0.3)
            state = "ok" if random.random() < 0.97 else "late"
            where, battery = HOSTS[sensor % 3], random.randint(80, 99)
            measured = f"{values[sensor]:.2f},{battery},{state}"
            yield f"{now:%Y-%m-%d %H:%M:%S},{where}-{sensor},{measured}"


LOGS: dict[Callable[[Random], Iterator[str]], int] = {
    daemons: 7000,
    web: 3600,
    service: 3600,
    packages: 7000,
    sensors: 10000,
}
"""Each kind with its number of lines."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rng-seed", type=int, default=11)
    o = parser.parse_args()
    o.folder.mkdir(parents=True, exist_ok=True)
    for kind, lines in LOGS.items():
        text = "\n".join(islice(kind(Random(o.rng_seed)), lines)) + "\n"
        path = o.folder / f"{kind.__name__}.txt"
        path.write_text(text, encoding="utf-8", newline="\n")
        print(f"{path}: {len(text):,} characters")


if __name__ == "__main__":
    main()
