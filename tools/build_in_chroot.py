"""Carries out a Dockerfile in plain folders, by chroot, where no container engine runs. Needs root.

    python tools/build_in_chroot.py docker/serving.Dockerfile --base BASE --output FOLDER [--build-arg
    VARIANT=cpu] python tools/build_in_chroot.py --enter FOLDER/image -- --model_name=…

BASE is a root file system that stands for `python:3.12-slim-trixie`: what
`debootstrap --variant=minbase trixie` makes, and Python 3.12 under /usr/local. Every RUN is executed as
written, by the user, in the folder and with the variables that the Dockerfile says. Copies from images other
than the base are left out, and named. The last stage is left in FOLDER/image with its entry point in
image.json beside it; `--enter` starts that with more arguments, as `docker run` would.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# What a build needs of this machine: names of hosts, certificates, and where packages come from.
HOST_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
HOST_VARIABLES = r"(PIP|UV|SSL|HTTPS?|NO|REQUESTS)_\w+|https?_proxy|no_proxy"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, rest) of a Dockerfile, continued lines joined and comments left out."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    text = re.sub(r"\\\n\s*", "", text)
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line.strip()]


class Stage:
    """One FROM … of a Dockerfile, as a folder.

    Args:
        folder: its root file system.
        arguments: values of ARG.
    """

    def __init__(self, folder: pathlib.Path, arguments: dict):
        self.folder, self.arguments = folder, dict(arguments)
        self.variables, self.user, self.workdir, self.entrypoint = {"PATH": PATH}, "0", "/", []

    def filled(self, text: str) -> str:
        """`text` with `${NAME}` and `$NAME` put in."""
        known = {**self.arguments, **self.variables}
        return re.sub(r"\$\{?(\w+)\}?", lambda match: known.get(match[1], ""), text)

    def inside(self, path: str) -> pathlib.Path:
        return self.folder / os.path.join(self.workdir, path).lstrip("/")

    def command(self, line: str) -> list:
        """What executes a line of the shell inside."""
        user = f"--userspec={self.user}:{self.user}"
        given = {name: value for name, value in os.environ.items() if re.fullmatch(HOST_VARIABLES, name)}
        given |= {**self.arguments, **self.variables, "HOME": "/root" if self.user == "0" else "/home/tfrec"}
        words = [f"{name}={value}" for name, value in given.items()]
        inner = ["env", "-i", *words, "/bin/sh", "-c", f"cd {shlex.quote(self.workdir)} && {line}"]
        # /proc, for programs that ask it what machine this is; it goes with the process.
        mount = f'mount -t proc proc {shlex.quote(str(self.folder / "proc"))}; exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, "sh", "chroot", user, self.folder, *inner]

    def run(self, line: str) -> None:
        subprocess.run(self.command(line), check=True)

    def copy(self, sources: list, target: str) -> None:
        path = self.inside(target)
        into = target.endswith("/") or len(sources) > 1
        (path if into else path.parent).mkdir(parents=True, exist_ok=True)
        for source in sources:
            goal = path / source.name if into and not source.is_dir() else path
            if source.is_dir():
                ignore = shutil.ignore_patterns("__pycache__") if ROOT in source.parents else None
                shutil.copytree(source, goal, symlinks=True, dirs_exist_ok=True, ignore=ignore)
            else:
                shutil.copy2(source, goal)


def build(file: pathlib.Path, base: pathlib.Path, output: pathlib.Path, arguments: dict) -> list[str]:
    """Carries out a Dockerfile; returns what was left out."""
    stages: dict[str, Stage | None] = {}
    stage, left_out, first = None, [], dict(arguments)
    for name, rest in instructions(file.read_text(encoding="utf-8")):
        print(f"{name} {rest}", flush=True)
        if name == "FROM":
            image, _, title = rest.partition(" AS ")
            title = title or "image"
            stages[title] = stage = None
            if re.fullmatch(r"\$\{?BASE\}?", image):
                folder = output / title
                subprocess.run(["cp", "-a", base, folder], check=True)
                for path in HOST_FILES:
                    if os.path.exists(path):
                        (folder / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                        shutil.copy(path, folder / path.lstrip("/"))
                stages[title] = stage = Stage(folder, {})
        elif name == "ARG":
            key, _, value = rest.partition("=")
            (first if not stages else stage.arguments)[key] = arguments.get(key, value or first.get(key, ""))
        elif stage is None:
            left_out.append(f"{name} {rest}")
        elif name == "WORKDIR":
            stage.workdir = stage.filled(rest)
            stage.inside(".").mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            for word in shlex.split(rest):
                key, _, value = word.partition("=")
                stage.variables[key] = stage.filled(value)
        elif name == "USER":
            stage.user = rest
        elif name == "RUN":
            stage.run(rest)
        elif name == "ENTRYPOINT":
            stage.entrypoint = json.loads(rest)
        elif name == "COPY":
            origin = re.match(r"--from=(\S+) ", rest)
            *sources, target = [stage.filled(word) for word in rest.split() if not word.startswith("--")]
            if origin is None:
                stage.copy([ROOT / source for source in sources], target)
            elif (other := stages[origin[1]]) is None:
                left_out.append(f"{name} {rest}")
            else:
                stage.copy([other.folder / source.lstrip("/") for source in sources], target)
    settings = {name: getattr(stage, name) for name in ("variables", "user", "workdir", "entrypoint")}
    (output / "image.json").write_text(json.dumps(settings), encoding="utf-8")
    return left_out


def enter(folder: pathlib.Path, words: list) -> int:
    """Runs the entry point of a built image with more words; returns its exit code."""
    stage = Stage(folder, {})
    for name, value in json.loads((folder.parent / "image.json").read_text(encoding="utf-8")).items():
        setattr(stage, name, value)
    return subprocess.run(
        stage.command(f"exec {shlex.join([*stage.entrypoint, *words])}"), check=False
    ).returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=pathlib.Path)
    parser.add_argument("--base", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--enter", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("words", nargs="*", help="after --: for the entry point")
    given = sys.argv[1:]
    cut = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:cut])
    if options.enter:
        return enter(options.enter.resolve(), given[cut + 1 :])
    if not (options.file and options.base and options.output):
        parser.error("a Dockerfile, --base and --output are needed.")
    options.output.mkdir(parents=True, exist_ok=True)
    arguments = dict(word.split("=", 1) for word in options.build_arg)
    left_out = build(options.file, options.base.resolve(), options.output.resolve(), arguments)
    for line in left_out:
        print(f"left out: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
